"""A process that the supervisor started, with its streams and those who listen to it.

Promises: all output is logged and forwarded before the exit is told; input has an end only where docker's has one.
"""

import contextlib
import errno
import os
import signal
import struct
import termios
from collections.abc import Callable, Sequence
from fcntl import ioctl
from typing import TYPE_CHECKING

from runner.container.events import Callback, Conversation, Loop, Outlet
from runner.container.protocol import STDERR, STDIN, STDOUT, Message, Packet, close_all
from runner.container.state import timestamp
from runner.errors import NoSuchContainer

if TYPE_CHECKING:
    from runner.container.jsonlog import LogWriter

READ_ONCE = 64 * 1024
STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class Session:
    """A process that we started, its streams, and who listens: a container's first process, or an exec in one."""

    def __init__(self, loop: Loop, pid: int, pidfd: int, console: int | None) -> None:
        self._loop = loop
        self.pid, self.pidfd, self.console = pid, pidfd, console
        self.stdin: Outlet | None = None
        self.stdin_once = False
        self.sources: dict[bytes, int] = {}
        self.listeners: dict[Conversation, frozenset[bytes]] = {}
        self.watchers: list[Conversation] = []  # are told the exit and nothing else
        self.log: LogWriter | None = None
        self.on_exit: Callable[[int], None] = _unheard
        self.on_input_end: Callable[[], None] = lambda: None
        self.ended = False

    @property
    def terminal(self) -> bool:
        return self.console is not None

    @property
    def stdin_fd(self) -> int | None:
        """Where what is typed goes, as long as somebody may type."""
        return self.stdin.fd if self.stdin and self.stdin.fd >= 0 else None

    def watch_exit(self) -> None:
        self._loop.watch(self.pidfd, self._exited)

    def open_streams(self, sources: dict[bytes, int], stdin: int | None) -> None:
        """Take over our ends of pipes, or the terminal."""
        self.sources = sources
        for kind, fd in sources.items():
            os.set_blocking(fd, False)
            self._loop.watch(fd, self._reader(kind))
        if stdin is not None:
            os.set_blocking(stdin, False)
            self.stdin = Outlet(self._loop, stdin, self._stdin_has_room)

    def attach(self, conversation: Conversation, streams: Sequence[str]) -> None:
        """Forward output from now on, and take input; the exit is told at the end."""
        kinds = frozenset(kind for kind, name in STREAM_NAMES.items() if name in streams)
        self.listeners[conversation] = kinds
        takes_input = "stdin" in streams and self.stdin is not None

        def on_packet(packet: Packet) -> None:
            if packet.kind == STDIN and takes_input:
                self._typed(conversation, packet.data)
            elif packet.message is not None:
                close_all(packet.fds)
                self._control(conversation, packet.message)

        def on_close() -> None:
            if self.listeners.pop(conversation, None) is not None and takes_input:
                self._input_ended()

        conversation.on_packet = on_packet
        conversation.on_close.append(on_close)
        conversation.on_room.append(self._read_on)

    def resize(self, rows: int, columns: int) -> None:
        if self.console is not None and not self.ended:
            ioctl(self.console, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))

    def signal(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            raise NoSuchContainer("the container is not running") from None

    def _control(self, conversation: Conversation, message: Message) -> None:
        if message.get("op") == "resize":
            self.resize(int(message["rows"]), int(message["columns"]))
        elif message.get("op") == "detach":
            self.listeners.pop(conversation, None)
            conversation.finish()

    def _typed(self, conversation: Conversation, data: bytes) -> None:
        if self.stdin is None:
            return
        if not data:
            self._input_ended()
            return
        self.stdin.write(data)
        if self.stdin.congested:
            conversation.pause()

    def _stdin_has_room(self) -> None:
        for conversation in self.listeners:
            conversation.resume()

    def _input_ended(self) -> None:
        if self.stdin_once and self.stdin and not self.terminal:
            self.stdin.end()
            self.on_input_end()

    def _reader(self, kind: bytes) -> Callback:
        def readable(events: int) -> None:
            del events
            self._read(kind)

        return readable

    def _read(self, kind: bytes) -> bool:
        """Forward what a source has now; False when there is nothing more to come at the moment."""
        fd = self.sources.get(kind, -1)
        if fd < 0:
            return False
        try:
            data = os.read(fd, READ_ONCE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: nobody has the terminal open
                raise
            data = b""
        if not data:
            self._close_source(kind)
            return False
        self._log(kind, data)
        for conversation, kinds in list(self.listeners.items()):
            if kind in kinds:
                conversation.send_data(kind, data)
        if not self.ended and any(conversation.congested for conversation in self.listeners):
            self._loop.forget(fd)
        return True

    def _read_on(self) -> None:
        if not any(conversation.congested for conversation in self.listeners):
            for kind, fd in self.sources.items():
                self._loop.watch(fd, self._reader(kind))

    def _log(self, kind: bytes, data: bytes) -> None:
        if self.log is None:
            return
        try:
            self.log.write(STREAM_NAMES[kind], data)
        except OSError as error:  # a full disk costs log lines, not the container
            complain(f"log of process {self.pid}: {error}")

    def _close_source(self, kind: bytes) -> None:
        fd = self.sources.pop(kind, -1)
        if fd < 0:
            return
        self._loop.forget(fd)
        if fd != self.console:
            os.close(fd)

    def _exited(self, events: int) -> None:
        del events
        try:
            found = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return  # adopted: the keeper has the status and tells us
        if found is not None:
            self.finish(exit_code(found.si_code, found.si_status))

    def finish(self, code: int) -> None:
        """The process is gone: empty the pipes, tell everybody, let go of everything."""
        if self.ended:
            return
        self.ended = True
        for kind in list(self.sources):
            while self._read(kind):
                pass
            self._close_source(kind)
        if self.stdin:
            self.stdin.abandon()
        if self.console is not None:
            self._loop.forget(self.console)
            os.close(self.console)
        if self.log:
            try:
                self.log.finish()
            except OSError as error:
                complain(f"log of process {self.pid}: {error}")
        self._loop.forget(self.pidfd)
        os.close(self.pidfd)
        self.on_exit(code)

    def tell_exit(self, outcome: Message) -> None:
        """Answer all who wait, after all output."""
        for conversation in [*self.listeners, *self.watchers]:
            conversation.send({"exit": outcome})
            conversation.finish()
        self.listeners.clear()
        self.watchers.clear()


def _unheard(code: int) -> None:
    """Nobody has asked to hear of the exit."""


def exit_code(si_code: int, si_status: int) -> int:
    """As a shell says it: the process's own, or 128 and the signal that ended it."""
    return si_status if si_code == os.CLD_EXITED else 128 + si_status


def complain(text: str) -> None:
    """To the supervisor's own log; nobody reads it as long as all is well."""
    with contextlib.suppress(OSError):
        os.write(2, f"{timestamp()} {text}\n".encode())
