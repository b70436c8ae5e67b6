"""Between a container's first process and whoever makes it, before execve: a socket that closes itself on exec.

The child tells warnings, then "ready" (with the terminal beside it), then waits for "go"; a failure at any point
travels back with its stage and errno text. End of file after "go" means that the program runs.
"""

import errno
import json
import os
import socket
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Any, NoReturn

from runner.container.privileges import NOT_ROOT
from runner.errors import CommandNotFound, MissingPrivilege, NoSuchContainer, NotExecutable, RunnerError, UnsafeRootfs

_FAMILY: dict[str, type[RunnerError]] = {
    kind.__name__: kind
    for kind in (CommandNotFound, MissingPrivilege, NoSuchContainer, NotExecutable, RunnerError, UnsafeRootfs)
}
_LIMIT = 1 << 16
# What the parent says, in this order; "U" beside "M": devices are unguarded.
_MADE, _UNGUARDED, _GO = b"M", b"U", b"G"


class ChildSide:
    """What the child says. `stage` tells what is being done, for the error's text."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.stage = "start"
        self._heard = b""

    def fileno(self) -> int:
        return self._sock.fileno()

    def warn(self, text: str) -> None:
        self._send({"warning": text})

    def ready(self, console: int | None, stubs: list[str]) -> None:
        message = json.dumps({"ready": stubs}).encode()
        if console is None:
            self._sock.send(message)
        else:
            socket.send_fds(self._sock, [message], [console])

    def wait_until_made(self) -> bool:
        """The control group is there, with its limits. Returns whether it guards devices."""
        self._wait_for(_MADE)
        return _UNGUARDED not in self._heard

    def wait_for_go(self) -> None:
        self._wait_for(_GO)

    def fail(self, error: BaseException) -> None:
        self._send({"failed": self._described(error)})

    def _wait_for(self, word: bytes) -> None:
        while word not in self._heard:
            said = self._sock.recv(_LIMIT)
            if not said:
                os._exit(1)  # nobody is there any more to want this container
            self._heard += said

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._sock.send(json.dumps(message).encode()[:_LIMIT])
        except OSError:
            os._exit(1)

    def _described(self, error: BaseException) -> dict[str, str | None]:
        if isinstance(error, RunnerError):
            kind = type(error).__name__
            return {"kind": kind if kind in _FAMILY else "RunnerError", "text": str(error), "hint": error.hint}
        if isinstance(error, OSError):
            text = error.strerror or str(error)
            where = f" {error.filename}" if error.filename else ""
            if error.errno in (errno.EPERM, errno.EACCES) and not _is_root():
                return {"kind": "MissingPrivilege", "text": f"{self.stage}{where}: {text}", "hint": NOT_ROOT}
            hint = TOO_OLD if error.errno == errno.ENOSYS else None
            return {"kind": "RunnerError", "text": f"{self.stage}{where}: {text}", "hint": hint}
        import traceback  # costs every start a millisecond, and is needed by none

        return {"kind": "bug", "text": f"{self.stage}: " + "".join(traceback.format_exception(error)), "hint": None}


TOO_OLD = "containers need Linux 5.12 or newer, and no filter that hides its mount calls"


def _is_root() -> bool:
    return os.geteuid() == 0


class ParentSide:
    """What the maker hears."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.warnings: list[str] = []
        self.stubs: tuple[str, ...] = ()

    def tell_made(self, *, guarded: bool) -> None:
        self._tell(_MADE if guarded else _UNGUARDED + _MADE)

    def wait_until_ready(self) -> int | None:
        """Returns the terminal's descriptor, if there is one. Raises what the child failed with."""
        console: int | None = None
        while True:
            data, fds = self._receive()
            console = fds[0] if fds else console
            if not data:
                raise RunnerError("the container's first process died before it was ready")
            message = json.loads(data)
            if "ready" in message:
                self.stubs = tuple(message["ready"])
                return console
            self._heard(message)

    def go(self) -> None:
        """Let the program be executed; returns when it runs. Raises CommandNotFound, NotExecutable, RunnerError."""
        self._tell(_GO)
        while data := self._receive()[0]:
            self._heard(json.loads(data))
        self._sock.close()

    def close(self) -> None:
        self._sock.close()

    def _receive(self) -> tuple[bytes, list[int]]:
        """One packet; nothing at the end."""
        try:
            return self._receive_once()
        except ConnectionResetError:
            # once, when the child ended without reading all that we told; what it said before comes after that
            return self._receive_once()

    def _receive_once(self) -> tuple[bytes, list[int]]:
        data, fds, _, _ = socket.recv_fds(self._sock, _LIMIT, 1, socket.MSG_CMSG_CLOEXEC)
        return data, fds

    def _tell(self, word: bytes) -> None:
        try:
            self._sock.send(word, socket.MSG_NOSIGNAL)
        except OSError as error:
            # the child has failed meanwhile: what it said is read next
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def _heard(self, message: dict[str, Any]) -> None:
        if "failed" in message:
            _raise(**message["failed"])
        self.warnings.append(message["warning"])


def _raise(kind: str, text: str, hint: str | None) -> NoReturn:
    if kind == "bug":
        raise RuntimeError(text)
    raise _FAMILY[kind](text, hint=hint)


def pair() -> tuple[socket.socket, socket.socket]:
    """Parent's and child's ends; the child's is clear of 0 to 2, which the container's own streams take."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if theirs.fileno() > 2:
        return ours, theirs
    with theirs:
        return ours, socket.socket(fileno=fcntl(theirs.fileno(), F_DUPFD_CLOEXEC, 3))
