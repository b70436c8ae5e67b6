"""One request from its first line to its last byte: find the handler, let it answer, send, log.

The only place where errors become statuses. A RegistryError is the client's answer; anything else is a bug of ours: the
client learns just that, the log gets the traceback.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from registry.errors import RegistryError
from registry.server import blobs, listings, manifests, uploads
from registry.server.access import AccessLog, Served
from registry.server.answers import Answer, FileParts, error_answer, fault_answer
from registry.server.mirroring import repository_of
from registry.server.problems import MethodUnsupported
from registry.server.routing import Endpoint, find_route
from registry.server.state import Call, State
from registry.server.transfer import Body, Reply, send

log = logging.getLogger(__name__)
Handler = Callable[[Call], Awaitable[Answer]]
_READS = frozenset({"GET", "HEAD"})
_CLIENT_GONE = 499  # for the log, as nginx writes it
_SMALL_REST = 256 * 1024  # bytes of an unread body that are cheaper to swallow than a new connection


async def _base(call: Call) -> Answer:
    """The version check. Clients learn only here whether they must authenticate."""
    del call
    return Answer(200, {"Content-Type": "application/json"}, b"{}")


async def _live(call: Call) -> Answer:
    del call
    return Answer(200, {"Content-Type": "text/plain"}, b"ok\n")


async def _ready(call: Call) -> Answer:
    """Whether new work should be sent here: not while stopping, not without metadata."""
    if call.state.stopping:
        return Answer(503, {"Content-Type": "text/plain"}, b"stopping\n")
    await call.meta.ready()
    return Answer(200, {"Content-Type": "text/plain"}, b"ok\n")


HANDLERS: dict[Endpoint, dict[str, Handler]] = {
    Endpoint.LIVE: {"GET": _live},
    Endpoint.READY: {"GET": _ready},
    Endpoint.BASE: {"GET": _base},
    Endpoint.CATALOG: {"GET": listings.list_repositories},
    Endpoint.EXTENSIONS: {"GET": listings.list_extensions},
    Endpoint.TAGS: {"GET": listings.list_tags},
    Endpoint.REFERRERS: {"GET": listings.list_referrers},
    Endpoint.MANIFEST: {
        "GET": manifests.get_manifest,
        "PUT": manifests.put_manifest,
        "DELETE": manifests.delete_manifest,
    },
    Endpoint.BLOB: {"GET": blobs.get_blob, "DELETE": blobs.delete_blob},
    Endpoint.UPLOADS: {"POST": uploads.post_upload},
    Endpoint.UPLOAD: {
        "GET": uploads.get_upload,
        "PATCH": uploads.patch_upload,
        "PUT": uploads.put_upload,
        "DELETE": uploads.delete_upload,
    },
}
for _methods in HANDLERS.values():
    if "GET" in _methods:
        _methods["HEAD"] = _methods["GET"]  # the body is left out when the answer is sent


class Dispatcher:
    """The handler that aiohttp's low-level server calls for each request."""

    def __init__(self, state: State, access: AccessLog | None) -> None:
        self._state = state
        self._access = access
        self.busy: set[object] = set()  # connections that serve a request now
        self._quiet = asyncio.Event()

    async def idle(self) -> None:
        """Wait until no request is under way."""
        while self.busy:
            self._quiet.clear()
            await self._quiet.wait()

    async def __call__(self, request: web.BaseRequest) -> Reply:
        started = time.perf_counter()
        connection = request.protocol
        self.busy.add(connection)
        body = Body(request, self._state.settings.idle)
        answer = Answer(_CLIENT_GONE)
        try:
            answer = await self._answer(request, body)
            keep_alive = request.keep_alive and not self._state.stopping and not _must_close(body)
            return await send(request, answer, keep_alive=keep_alive)
        finally:
            if isinstance(answer.body, FileParts):
                answer.body.file.close()
            self.busy.discard(connection)
            if not self.busy:
                self._quiet.set()
            if self._access:
                self._access.note(_served(request, answer, time.perf_counter() - started))

    async def _answer(self, request: web.BaseRequest, body: Body) -> Answer:
        try:
            route = find_route(_path(request))
            handlers = HANDLERS[route.endpoint]
            handler = handlers.get(request.method)
            if handler is None:
                raise MethodUnsupported(f"{request.method} is not supported here", allowed=tuple(handlers))
            call = Call(self._state, route.name, route.argument, request, body)
            if "ns=" in request.raw_path and route.name and request.method in _READS and "ns" in request.query:
                return await _mirrored(call, request.query["ns"], handler)
            if route.name and request.method not in _READS:
                await call.meta.check_writable(route.name)
            return await handler(call)
        except RegistryError as error:
            if error.status >= 500:
                log.error("%s %s: %s", request.method, _path(request), error)  # noqa: TRY400  # no bug: no traceback
            return error_answer(error)
        except ConnectionError:
            raise  # nobody is left to answer
        except Exception:
            log.exception("%s %s", request.method, _path(request))
            return fault_answer()


async def _mirrored(call: Call, source: str, handler: Handler) -> Answer:
    """Serve what is here of the registry that the client means; else what the path says, as if it had not said."""
    repository = repository_of(source, call.name)
    if not await call.meta.has_repository(repository):
        return await handler(call)
    answer = await handler(replace(call, name=repository))
    return replace(answer, headers={**answer.headers, "OCI-Namespace": source})


def _path(request: web.BaseRequest) -> str:
    """Without the query, which is nobody's business in a log."""
    return request.raw_path.partition("?")[0]


def _must_close(body: Body) -> bool:
    """Whether what is left of a request's body makes its connection useless for another request."""
    return body.unread and (body.withheld or body.length is None or body.length > _SMALL_REST)


def _served(request: web.BaseRequest, answer: Answer, seconds: float) -> Served:
    sent = 0 if request.method == "HEAD" else answer.content_length or 0
    return Served(
        remote=request.remote or "",
        method=request.method,
        path=_path(request),
        status=answer.status,
        sent=sent,
        milliseconds=round(seconds * 1000, 2),
        agent=request.headers.get("User-Agent", ""),
    )
