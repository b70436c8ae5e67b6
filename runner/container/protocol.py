"""How clients and the supervisor talk: packets over SOCK_SEQPACKET, descriptors beside them (unix(7), SCM_RIGHTS).

Gives:    send(), send_data(), receive(), and the JSON form of a container's specification.
Promises: a packet is whole or an error; a request too large for one packet travels in a memfd; descriptors that came
          with a packet are closed on exec.
Not here: what the messages mean (supervisor.py, client.py).

The first byte of a packet says what follows: a JSON message, the number of descriptors of a message that lies in the
last one, or bytes of a stream. One conversation is one socket: a request, its answer, then streams and the exit.
"""

import array
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from runner.container.spec import (
    ContainerSpec,
    Device,
    Mount,
    Namespaces,
    Process,
    Resources,
    Rlimit,
    RootFilesystem,
)
from runner.errors import RunnerError

Message = dict[str, Any]

MESSAGE, LARGE_MESSAGE, STDIN, STDOUT, STDERR = b"J", b"L", b"0", b"1", b"2"
INLINE = 32 * 1024  # bytes; well below the kernel's limit for one packet
CHUNK = 32 * 1024  # bytes of a stream in one packet
MAX_MESSAGE = 16 * 1024 * 1024  # bytes of a message in a memfd: arguments and environment of execve(2) fit many times
MAX_FDS = 250  # the kernel takes 253


class ProtocolError(RunnerError):
    """The other side sent what no version of this protocol sends."""


class Packet(NamedTuple):
    """One packet: a message, or (then `message` is None) bytes of the stream `kind`; empty bytes end a stream."""

    kind: bytes
    message: Message | None
    data: bytes
    fds: tuple[int, ...]


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message with copies of the descriptors `fds`. OSError as of sendmsg(2)."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) <= INLINE:
        _send(sock, MESSAGE + body, fds)
        return
    memory = os.memfd_create("pybuild-message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(body)
        _send(sock, LARGE_MESSAGE, [*fds, memory])
    finally:
        os.close(memory)


def send_data(sock: socket.socket, kind: bytes, data: bytes) -> None:
    """Send at most CHUNK bytes of a stream; no bytes: the stream ends."""
    sock.send(kind + data)


def receive(sock: socket.socket) -> Packet | None:
    """Wait for one packet; None when the other side is gone. Raises ProtocolError."""
    try:
        data, ancillary, flags, _ = sock.recvmsg(INLINE + 1, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # it was killed with something of ours unread
        return None
    fds = _descriptors(ancillary)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close_all(fds)
        raise ProtocolError("a packet was cut off", hint="client and supervisor are of different versions; try again")
    if not data:
        return None
    kind, body = data[:1], data[1:]
    if kind == MESSAGE:
        return Packet(kind, _decode(body, fds), b"", tuple(fds))
    if kind == LARGE_MESSAGE and fds:
        memory = fds.pop()
        return Packet(MESSAGE, _decode(_read_all(memory), fds), b"", tuple(fds))
    if kind in (STDIN, STDOUT, STDERR):
        close_all(fds)
        return Packet(kind, None, body, ())
    close_all(fds)
    raise ProtocolError(f"unknown kind of packet: {kind!r}")


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _send(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _decode(body: bytes, fds: list[int]) -> Message:
    try:
        message = json.loads(body)
        if isinstance(message, dict):
            return message
    except ValueError:
        pass
    close_all(fds)
    raise ProtocolError("a message is not a JSON object")


def _read_all(memory: int) -> bytes:
    with open(memory, "rb") as file:
        file.seek(0)
        return file.read(MAX_MESSAGE)


def to_json(value: object) -> Any:  # noqa: ANN401  JSON has no better type
    """A specification, or a part of one, as plain JSON values. Fields that have their default are left out."""
    if is_dataclass(value):
        found = [(field, getattr(value, field.name)) for field in fields(value)]
        return {field.name: to_json(item) for field, item in found if item != field.default}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value


def process_from_json(found: Message) -> Process:
    return Process(**_tuples(found) | {"rlimits": tuple(Rlimit(**item) for item in found.get("rlimits", ()))})


def spec_from_json(found: Message) -> ContainerSpec:
    """The inverse of `to_json`. Raises ProtocolError when a field is unknown or missing."""
    try:
        parts = {
            "root": RootFilesystem(**_tuples(found["root"])),
            "process": process_from_json(found["process"]),
            "mounts": tuple(Mount(**_tuples(item)) for item in found.get("mounts", ())),
            "namespaces": Namespaces(**found.get("namespaces", {})),
            "resources": Resources(**found.get("resources", {})),
            "devices": tuple(Device(**item) for item in found.get("devices", ())),
            "sysctls": tuple((name, value) for name, value in found.get("sysctls", ())),
        }
        return ContainerSpec(**_tuples(found) | parts)
    except (TypeError, KeyError, ValueError) as error:
        raise ProtocolError(
            f"not a container specification: {error}", hint="client and supervisor are of different versions; try again"
        ) from None


def _tuples(found: Message) -> Message:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in found.items()}
