"""Bytes between a connection and the disk: bodies that come in, answers that go out.

Gives:    Body, to read a request's content in bounded pieces; send(), to write an Answer.
Promises: never more than about two read buffers of a body in memory; files leave by sendfile(2), also in parts;
          a client that stops sending is given up after `idle` seconds.
Not here: what the bytes mean. Clients that stop reading are given up by the kernel (TCP_USER_TIMEOUT, listening.py).
"""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from registry.errors import RegistryError
from registry.server.answers import Answer, FileParts
from registry.server.problems import BodyBroken, ClientTooSlow

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Body:
    """The content of one request. Nothing is read, nor asked for (Expect), before a handler wants it."""

    def __init__(self, request: web.BaseRequest, idle: float) -> None:
        self._request = request
        self._idle = idle
        self._asked = False

    @property
    def length(self) -> int | None:
        """As announced; None for chunked transfer."""
        if not self._request.body_exists:
            return 0
        return self._request.content_length

    @property
    def unread(self) -> bool:
        return not self._request.content.is_eof()

    @property
    def withheld(self) -> bool:
        """Whether the client may still be waiting for leave to send (Expect: 100-continue)."""
        return not self._asked and self.unread and self._expects

    @property
    def _expects(self) -> bool:
        return self._request.headers.get("Expect", "").lower() == "100-continue"

    async def pieces(self) -> AsyncIterator[bytes]:
        """The content, in pieces of up to about two read buffers.

        Raises:
            ClientTooSlow: nothing came for too long. BodyBroken: the framing is wrong.
            ConnectionError: the client has gone.
        """
        stream = self._request.content
        await self._let_come()
        while not stream.at_eof():
            try:
                async with asyncio.timeout(self._idle):
                    piece = await stream.readany()
            except TimeoutError:
                raise ClientTooSlow(f"no data for {self._idle:g} seconds", hint="resume the upload") from None
            except (web.RequestPayloadError, HttpProcessingError) as error:
                raise BodyBroken(f"broken request body: {error}", hint="resume the upload") from None
            if piece:
                yield piece

    async def read(self, limit: int, too_large: RegistryError) -> bytes:
        """The whole content; raises `too_large` as soon as it is known to exceed `limit` bytes."""
        if (self.length or 0) > limit:
            raise too_large
        content = bytearray()
        async for piece in self.pieces():
            content += piece
            if len(content) > limit:
                raise too_large
        return bytes(content)

    async def _let_come(self) -> None:
        if self.withheld:
            await self._request.writer.write(_CONTINUE)
        self._asked = True


class Reply(web.StreamResponse):
    """An Answer that `send` has already written; aiohttp only wants to know how the connection goes on."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._goes_on = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to write."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


async def send(request: web.BaseRequest, answer: Answer, *, keep_alive: bool) -> Reply:
    """Write `answer`; small bodies leave in one piece with their head.

    Raises:
        ConnectionError: the client has gone, or its socket was shut while a file was on its way.
    """
    head = answer.head(
        close=not keep_alive and request.version >= (1, 1), keep_alive_1_0=keep_alive and request.version < (1, 1)
    )
    body = b"" if request.method == "HEAD" else answer.body
    try:
        if isinstance(body, FileParts):
            await _send_parts(request, head, body)
        else:
            await request.writer.write(head + body)
    except TimeoutError as error:  # ETIMEDOUT: the kernel gave up a client that took nothing
        raise ConnectionResetError("the client takes nothing") from error
    return Reply(answer.status, keep_alive=keep_alive)


async def _send_parts(request: web.BaseRequest, head: bytes, parts: FileParts) -> None:
    loop = asyncio.get_running_loop()
    await request.writer.write(head)
    for number, span in enumerate(parts.spans):
        if parts.heads:
            await request.writer.write(parts.heads[number])
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        sent = await loop.sendfile(transport, parts.file, span.offset, span.length)
        if sent != span.length:
            raise ConnectionAbortedError(f"the blob's file is short: {sent} of {span.length} bytes")
    if parts.tail:
        await request.writer.write(parts.tail)
