"""The daemon's life: listen, serve, stop. Containers do not notice any of it."""

import asyncio
import logging
import os
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from pybuild.api.calls import reply
from pybuild.api.daemon import Daemon
from pybuild.api.dispatch import Dispatcher
from pybuild.api.listening import BACKLOG, Listening, notify

log = logging.getLogger(__name__)
GRACE = 10.0  # seconds that requests in flight get; streams of containers are cut, and clients attach again
_KEEP_ALIVE = 180.0  # seconds between requests; longer than clients keep a connection
_BUFFER = 256 * 1024  # bytes of a body read ahead


class _Connection(web.RequestHandler):
    """What aiohttp finds wrong before a request is one is answered in the API's own form."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        del message
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("nobody is left to answer, or an answer is under way already") from exc
        if status >= 500:
            log.error("fault while serving %s", request.path, exc_info=exc)
        response = reply({"message": "this is no proper HTTP request" if status < 500 else "internal fault"}, status)
        response.force_close()
        return response


class _HttpServer(web.Server):
    """aiohttp's low-level server; a handler whose client has gone is cancelled."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None turns it off, as aiohttp's documentation says
            read_bufsize=_BUFFER,
            keepalive_timeout=_KEEP_ALIVE,
            auto_decompress=False,  # archives are unpacked by who reads archives
            max_field_size=64 * 1024,
        )


def serve(root: Path, listening: Sequence[Listening], ready: Callable[[], object] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT."""
    asyncio.run(_serve(root, listening, ready))


async def _serve(root: Path, listening: Sequence[Listening], ready: Callable[[], object]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    daemon = Daemon(root)
    await daemon.open()
    http = _HttpServer(Dispatcher(daemon), handler_cancellation=True)
    servers = [await _listen(http, one) for one in listening]
    ready()
    notify(os.environ, "READY=1")
    await stop.wait()
    notify(os.environ, "STOPPING=1")
    log.info("stopping; containers go on")
    for server in servers:
        server.close()
    daemon.hub.close()  # ends those who wait for news
    await http.shutdown(GRACE)
    await daemon.close()


async def _listen(http: web.Server, one: Listening) -> asyncio.Server:
    one.sock.setblocking(False)
    loop = asyncio.get_running_loop()
    if one.path or isinstance(one.sock.getsockname(), str):
        return await loop.create_unix_server(http, sock=one.sock, backlog=BACKLOG)
    return await loop.create_server(http, sock=one.sock, backlog=BACKLOG, ssl=one.tls)
