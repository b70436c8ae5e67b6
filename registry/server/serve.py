"""A registry server's life: listen, serve, stop without losing what is under way.

Gives:    serve(), which runs until it is told to stop; RegistryServer, for those who have a loop of their own.
Promises: after SIGTERM or SIGINT nothing new is accepted, requests in flight get `grace` seconds, and an upload that is
          cut off can be resumed at any process with the same root. A second signal stops at once.
Not here: what a request means (dispatch.py and its handlers).
"""

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from aiohttp import web

from registry.server.access import AccessLog
from registry.server.answers import error_answer, fault_answer
from registry.server.dispatch import Dispatcher
from registry.server.listening import BACKLOG
from registry.server.local import local_backend
from registry.server.problems import BadHttp
from registry.server.state import Settings, State
from registry.server.upkeep import Upkeep
from registry.storage import ContentStore

log = logging.getLogger(__name__)
_BUFFER = 256 * 1024  # bytes of a body read ahead; twice this stops the client by flow control
_THREADS = 16  # hashing and fsync of uploads
_LAST_SECONDS = 1.0  # for requests that were cut off at the end of grace to put down their progress
# Seconds between requests; longer than clients keep a connection (Go: 90), so that it is never closed under a request.
_KEEP_ALIVE = 180.0
_MAX_FIELD = 64 * 1024  # bytes of a header field: podman asks for a thousand ranges in one


class _Connection(web.RequestHandler):
    """What aiohttp finds wrong before a request is one is answered in the API's own form, and logged in one line."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del message
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("nobody is left to answer, or an answer is under way already") from exc
        if status >= 500:
            log.error("fault while serving %s", request.remote, exc_info=exc)
            problem = fault_answer()
        else:
            log.warning("bad HTTP from %s: %s", request.remote, " ".join(str(exc).split())[:300])
            problem = error_answer(BadHttp("this is no proper HTTP request"))
        headers = {**problem.headers, "Server": "pybuild"}
        response = web.Response(status=status, body=problem.body, headers=headers)
        response.force_close()
        return response


class _HttpServer(web.Server):
    """aiohttp's low-level server: no routes, no middlewares, which costs half of what an Application does."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None turns it off, as aiohttp's documentation says
            read_bufsize=_BUFFER,
            keepalive_timeout=_KEEP_ALIVE,
            auto_decompress=False,  # a blob is the bytes that were sent, whatever Content-Encoding claims
            max_field_size=_MAX_FIELD,
        )


class RegistryServer:
    """Serves on sockets that already listen, inside the running loop."""

    def __init__(self, store: ContentStore, settings: Settings, access: AccessLog | None = None) -> None:
        self._state = State(
            local_backend(store, small_blobs=settings.small_blobs, restorable=settings.restorable), settings
        )
        self._dispatcher = Dispatcher(self._state, access)
        self._http = _HttpServer(self._dispatcher)
        self._upkeep = Upkeep(self._state.backend.care)
        self._listening: list[asyncio.Server] = []

    async def start(self, *sockets: socket.socket) -> Self:
        loop = asyncio.get_running_loop()
        self._listening = [await loop.create_server(self._http, sock=one, backlog=BACKLOG) for one in sockets]
        self._upkeep.start(collect_every=self._state.settings.collect_every, scrub_rate=self._state.settings.scrub_rate)
        return self

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Let requests in flight finish, for `grace` seconds or until `hurry` is set, then cut them off."""
        self._state.stopping = True
        for one in self._listening:
            one.close()
        grace = self._state.settings.grace
        log.info("stopping; requests in flight have %g seconds, a second signal stops at once", grace)
        for connection in self._http.connections:
            if connection not in self._dispatcher.busy:
                connection.close()
        await self._drained(hurry or asyncio.Event())
        await self._http.shutdown(_LAST_SECONDS)
        await self._upkeep.stop()

    async def _drained(self, hurry: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(self._dispatcher.idle()), asyncio.ensure_future(hurry.wait())]
        await asyncio.wait(waits, timeout=self._state.settings.grace, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()


def serve(
    store: ContentStore,
    sockets: list[socket.socket],
    settings: Settings,
    access: AccessLog | None = None,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once connections are accepted."""
    asyncio.run(_serve(store, sockets, settings, access, ready))


async def _serve(
    store: ContentStore,
    sockets: list[socket.socket],
    settings: Settings,
    access: AccessLog | None,
    ready: Callable[[], object],
) -> None:
    _allow_many_descriptors()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "registry"))
    stop, hurry = asyncio.Event(), asyncio.Event()

    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    server = await RegistryServer(store, settings, access).start(*sockets)
    ready()
    await stop.wait()
    await server.stop(hurry=hurry)


def _allow_many_descriptors() -> None:
    """A connection takes one, and one more while it reads or writes a blob; the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
