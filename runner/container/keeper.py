"""The keeper: parent of the supervisor, and the reason why that one's death costs no container.

Gives:    Keeper.run(), which starts a supervisor, and another one whenever it dies before its time.
Takes:    copies of the descriptors that containers depend on: ends of pipes, terminals, sockets that hold ports.
Promises: while the keeper lives no container gets SIGPIPE or SIGHUP for want of a supervisor: its output waits in the
          pipe for the next one, which inherits the descriptors; no exit status is lost, for orphans become the
          keeper's children (a subreaper, see prctl(2)).
Not here: anything that could fail. This process reads short messages, waits for children, and forks.

See docs/adr/0004-supervisor.md for the reasons.
"""

import contextlib
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.container.protocol import Message, ProtocolError, close_all, receive, send

LOST = -1  # status of a supervisor that has not ended
_LONGEST_PAUSE = 5.0  # seconds before a supervisor that keeps dying is started again
_STEADY = 10.0  # seconds after which a supervisor counts as having worked


@dataclass
class Kept:
    """What the next supervisor needs to go on with one container."""

    record: Message
    fds: dict[str, int] = field(default_factory=dict)  # by what they are for


@dataclass
class Inheritance:
    """All that a supervisor finds when it starts: nothing, unless another one died before it."""

    kept: dict[str, Kept] = field(default_factory=dict)
    exits: dict[int, int] = field(default_factory=dict)  # pid: code, of those that ended in between


class KeeperLink:
    """The supervisor's end. A keeper that has been killed is no reason to stop working."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.socket = sock

    def keep(self, container_id: str, record: Message, fds: dict[str, int]) -> None:
        self._tell({"op": "keep", "id": container_id, "record": record, "names": list(fds)}, list(fds.values()))

    def drop(self, container_id: str, name: str = "") -> None:
        """Forget a container, or one of its descriptors: an input only ends when nobody holds it open."""
        self._tell({"op": "drop", "id": container_id, "name": name})

    def _tell(self, message: Message, fds: list[int] | None = None) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):
                send(self.socket, message, fds or [])


class Keeper:
    """See the module. `supervise` is run in a child; it returns when nothing is left to supervise."""

    def __init__(self, supervise: Callable[[KeeperLink, Inheritance], None]) -> None:
        self._supervise = supervise
        self._estate = Inheritance()
        self._supervisor = 0
        self._status = LOST

    def run(self) -> None:
        wakeup, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(wakeup, False)
        signal.signal(signal.SIGCHLD, _noted)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        pause = 0.0
        while True:
            began = time.monotonic()
            ours = self._start(wakeup, writer)
            self._watch(ours, wakeup)
            ours.close()
            if self._status == 0:
                return
            pause = 0.0 if time.monotonic() - began > _STEADY else min(2 * pause + 0.05, _LONGEST_PAUSE)
            time.sleep(pause)

    def _start(self, *wakeup: int) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._status = LOST
        self._reap()
        self._supervisor = os.fork()
        if self._supervisor == 0:
            self._become_supervisor(ours, theirs, wakeup)
        theirs.close()
        self._estate.exits.clear()
        return ours

    def _become_supervisor(self, ours: socket.socket, theirs: socket.socket, wakeup: tuple[int, ...]) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            close_all(wakeup)
            ours.close()
            self._supervise(KeeperLink(theirs), self._estate)
            status = 0
        except BaseException:  # noqa: BLE001  told in the log; the next one goes on
            traceback.print_exc()
        finally:
            os._exit(status)

    def _watch(self, ours: socket.socket, wakeup: int) -> None:
        """Do what the supervisor says until it has ended."""
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        poll.register(wakeup, select.POLLIN)
        talks = True
        while self._status == LOST:
            ready = dict(poll.poll())
            if talks and ours.fileno() in ready:
                talks = self._hear(ours)
                if not talks:
                    poll.unregister(ours)
            if wakeup in ready:
                os.read(wakeup, 512)
                for pid, code in self._reap():
                    if talks:
                        _try_send(ours, {"op": "died", "pid": pid, "code": code})
        ours.setblocking(False)  # a child of its may still hold the other end open
        while talks and self._hear(ours):  # said before it died
            pass

    def _hear(self, ours: socket.socket) -> bool:
        try:
            packet = receive(ours)
        except ProtocolError:
            return True  # what could not be taken can't be handed on either
        except OSError:
            packet = None
        if packet is None:
            return False
        message = packet.message or {}
        if message.get("op") == "keep":
            self._estate.kept[message["id"]] = Kept(
                message["record"], dict(zip(message["names"], packet.fds, strict=True))
            )
        elif message.get("op") == "drop":
            self._drop(message["id"], message["name"])
        return True

    def _drop(self, container_id: str, name: str) -> None:
        kept = self._estate.kept.get(container_id)
        if kept is None:
            return
        if name:
            close_all([kept.fds.pop(name)] if name in kept.fds else [])
            return
        close_all(list(kept.fds.values()))
        del self._estate.kept[container_id]

    def _reap(self) -> list[tuple[int, int]]:
        """Collect children that ended: the supervisor, and orphans; gives those that belong to containers."""
        theirs = {int(kept.record["pid"]) for kept in self._estate.kept.values()}
        found: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self._supervisor:
                self._status = os.waitstatus_to_exitcode(status) & 0xFF
            elif pid in theirs:
                code = os.waitstatus_to_exitcode(status)
                code = 128 - code if code < 0 else code
                self._estate.exits[pid] = code
                found.append((pid, code))


def _try_send(sock: socket.socket, message: Message) -> None:
    with contextlib.suppress(OSError):  # it is dying; the next one inherits
        send(sock, message)


def _noted(number: int, frame: object) -> None:
    """The wake-up descriptor tells of it."""
    del number, frame
