"""The user's terminal and standard streams at a container's: raw mode, window size, signals, detaching, half-close.

Gives:    follow(), which carries bytes both ways until the process ends or the user detaches.
Takes:    a conversation with the supervisor (runner/container/client.py).
Promises: the terminal is as it was afterwards, whatever happens; output is whole before the exit is told; a slow
          container never keeps us from reading its output.
"""

import contextlib
import os
import select
import signal
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pybuild.engine.detaching import DEFAULT_DETACH_KEYS, DetachKeys
from pybuild.errors import EngineError
from runner.container.client import Exit, Running
from runner.container.protocol import CHUNK, STDERR

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Signals wait while a container is started, so that each is either ours or the container's, never lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Each key goes to the container as it is typed, also Ctrl-C."""
    import tty

    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead is not thrown away
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the user's terminal; (0, 0) when there is none."""
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(fd)
            return rows, columns
    return 0, 0


def check_terminal(*, tty: bool, stdin: bool) -> None:
    """Raises EngineError when a terminal is wanted and what we read from is none."""
    if tty and stdin and not os.isatty(0):
        raise EngineError("the input device is not a TTY", hint="leave out -t, or run it in a terminal")


def follow(
    running: Running,
    *,
    stdin: bool,
    tty: bool,
    detach_keys: bytes = DEFAULT_DETACH_KEYS,
    forward: Callable[[int], None] | None = None,
) -> Exit | None:
    """Carry bytes until the end; None: the user has detached.

    Args:
        running: the conversation; its output starts here.
        stdin: our input goes to the container.
        tty: the container has a terminal.
        detach_keys: leave when these are typed; only looked for in a terminal.
        forward: what to do with signals that come to us; None: they end us as usual.
    """
    with contextlib.ExitStack() as stack:
        wakeup = stack.enter_context(_wakeups(forward is not None))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        is_terminal = tty and stdin and os.isatty(0)
        if is_terminal:
            stack.enter_context(raw_terminal(0))
        carrier = _Carrier(running, tty=tty, keys=DetachKeys(detach_keys if is_terminal else b""), forward=forward)
        return carrier.carry(wakeup, stdin=stdin)


@dataclass
class _Carrier:
    running: Running
    tty: bool
    keys: DetachKeys
    forward: Callable[[int], None] | None
    pending: bytes = b""  # typed, not yet sent
    ending: bool = False  # the end of our input has not been told yet
    broken: set[int] = field(default_factory=set)

    def carry(self, wakeup: int, *, stdin: bool) -> Exit | None:
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        while True:
            waiting = bool(self.pending or self.ending)
            poll.register(self.running.fileno(), select.POLLIN | (select.POLLOUT if waiting else 0))
            if stdin and not waiting:
                poll.register(0, select.POLLIN)
            else:
                with contextlib.suppress(KeyError):  # a pipe that was hung up would wake us all the time
                    poll.unregister(0)
            events = dict(poll.poll())
            if wakeup in events:
                self._signals(os.read(wakeup, 64))
            found = events.get(self.running.fileno(), 0)
            if found & select.POLLOUT and waiting:
                self._send()
            if found & ~select.POLLOUT:
                piece = self.running.receive()
                if isinstance(piece, Exit):
                    return piece
                self._write(2 if piece.kind == STDERR else 1, piece.data)
            if stdin and not waiting and events.get(0):
                data = _read_input()
                self.pending, detached = self.keys.feed(data)
                if detached:
                    self.running.type(self.pending)
                    self.running.detach()
                    return None
                if not data:
                    stdin, self.ending = False, True

    def _send(self) -> None:
        """Pass on what was typed, then that there is no more."""
        if self.pending:
            self.running.type(self.pending)
            self.pending = b""
        elif self.ending:
            self.running.type(b"")
            self.ending = False

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGWINCH:
                if self.tty:
                    self.running.resize(*terminal_size())
            elif self.forward and number in _FORWARDED:
                self.forward(number)

    def _write(self, fd: int, data: bytes) -> None:
        """To our own stream; when its reader has gone the other one still has one."""
        view = memoryview(data)
        try:
            while view and fd not in self.broken:
                view = view[os.write(fd, view) :]
        except BrokenPipeError:
            self.broken.add(fd)
            if fd == 1:
                raise


def _read_input() -> bytes:
    try:
        return os.read(0, CHUNK)
    except OSError:  # a terminal that was closed
        return b""


@contextlib.contextmanager
def _wakeups(forwarding: bool) -> Iterator[int]:
    """A descriptor from which the numbers of signals that came can be read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    numbers = (signal.SIGWINCH, *(_FORWARDED if forwarding else ()))
    before = {number: signal.signal(number, _noted) for number in numbers}
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _noted(number: int, frame: object) -> None:
    """The wake-up descriptor tells of it; without a handler Python would not write there."""
    del number, frame
