"""Connections that leave HTTP: attach and exec. The transport is switched to a stream protocol of asyncio's.

Promises: the client's half-close ends the container's input and nothing else (aiohttp alone would close); bytes that
came behind the request are not lost; what is written waits for a slow client.
"""

import asyncio
import contextlib
import struct

from aiohttp import web

from pybuild.api.calls import Call
from pybuild.api.versions import MULTIPLEXED_TYPE
from runner.container.protocol import STDERR

_RAW, _MULTIPLEXED = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"
_READ = 32 * 1024


class Hijacked(web.StreamResponse):
    """What a handler returns when its connection is no HTTP any more: there is nothing left to send."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        del request

    async def write_eof(self, data: bytes = b"") -> None:
        del data


class _Protocol(asyncio.StreamReaderProtocol):
    """Tells aiohttp's handler of the end, so that its task and its books are closed too."""

    def __init__(self, reader: asyncio.StreamReader, http: web.RequestHandler) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self._http = http

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._http.connection_lost(exc)


class Client:
    """The far end: bytes both ways. `framed`: each piece of output says which stream it is of."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, framed: bool) -> None:
        self._reader, self._writer, self._framed = reader, writer, framed

    async def read(self) -> bytes:
        """What was typed; nothing at the end of input, and when the connection broke."""
        try:
            return await self._reader.read(_READ)
        except ConnectionError:
            return b""

    async def output(self, kind: bytes, data: bytes) -> None:
        """Raises ConnectionError when nobody is there."""
        self._writer.write(frame(kind, data) if self._framed else data)
        await self._writer.drain()

    async def complain(self, text: str) -> None:
        """A failure after the connection left HTTP: text is all that is left."""
        with contextlib.suppress(ConnectionError):
            await self.output(STDERR, f"{text}\r\n".encode())

    def close(self) -> None:
        self._writer.close()


def frame(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">BxxxL", 2 if kind == STDERR else 1, len(data)) + data


def hijack(call: Call, *, tty: bool) -> Client:
    """Answer the request, and take its connection over."""
    request = call.request
    http, transport = request.protocol, request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    upgraded = "upgrade" in request.headers.get("Connection", "").lower() and "Upgrade" in request.headers
    multiplexed = not tty and call.version >= MULTIPLEXED_TYPE
    head = [
        "HTTP/1.1 101 UPGRADED" if upgraded else "HTTP/1.1 200 OK",
        f"Content-Type: {_MULTIPLEXED if multiplexed and upgraded else _RAW}",
        *(["Connection: Upgrade", "Upgrade: tcp"] if upgraded else []),
        *(f"{name}: {value}" for name, value in call.daemon.headers.items()),
    ]
    reader = asyncio.StreamReader(limit=2 * _READ, loop=asyncio.get_running_loop())
    protocol = _Protocol(reader, http)
    http.keep_alive(False)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    tail, http._message_tail = http._message_tail, b""  # noqa: SLF001 -- aiohttp keeps there what came behind an upgrade
    if tail:
        reader.feed_data(tail)
    transport.resume_reading()
    transport.write("\r\n".join([*head, "", ""]).encode())
    assert isinstance(transport, asyncio.Transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    return Client(reader, writer, framed=not tty)
