"""One request from its line to its last byte: version, route, handler; the only place where errors become statuses."""

import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from aiohttp import web

from pybuild.api import (
    archive,
    builds,
    containers,
    execs,
    images,
    logs,
    networks,
    statistics,
    streams,
    system,
    taking,
    transfers,
    versions,
    volumes,
)
from pybuild.api.calls import Call, reply
from pybuild.api.daemon import Daemon
from pybuild.api.problems import Forbidden, NoSuchThing, NotModified, message_of, status_of

log = logging.getLogger(__name__)
Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_NAME = "(?P<name>[^/]+)"
_IMAGE = "(?P<name>.+?)"  # may have slashes
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET|HEAD", "/_ping", system.ping),
    ("GET", "/version", system.version),
    ("GET", "/info", system.info),
    ("GET", "/events", system.events),
    ("GET", "/system/df", statistics.usage),
    ("GET", "/containers/json", containers.listing),
    ("POST", "/containers/create", containers.create),
    ("POST", "/containers/prune", containers.prune),
    ("GET", f"/containers/{_NAME}/json", containers.inspect),
    ("GET", f"/containers/{_NAME}/logs", logs.logs),
    ("GET", f"/containers/{_NAME}/stats", statistics.stats),
    ("GET", f"/containers/{_NAME}/top", statistics.top),
    ("GET", f"/containers/{_NAME}/changes", taking.list_changes),
    ("GET", f"/containers/{_NAME}/export", taking.export_all),
    ("POST", "/commit", taking.commit_image),
    ("POST", f"/containers/{_NAME}/update", taking.update),
    ("POST", f"/containers/{_NAME}/attach", streams.attach),
    ("POST", f"/containers/{_NAME}/start", containers.start),
    ("POST", f"/containers/{_NAME}/stop", containers.stop),
    ("POST", f"/containers/{_NAME}/restart", containers.restart),
    ("POST", f"/containers/{_NAME}/kill", containers.kill),
    ("POST", f"/containers/{_NAME}/wait", containers.wait),
    ("POST", f"/containers/{_NAME}/resize", containers.resize),
    ("POST", f"/containers/{_NAME}/rename", containers.rename),
    ("POST", f"/containers/{_NAME}/pause", containers.pause),
    ("POST", f"/containers/{_NAME}/unpause", containers.unpause),
    ("HEAD", f"/containers/{_NAME}/archive", archive.head),
    ("GET", f"/containers/{_NAME}/archive", archive.get),
    ("PUT", f"/containers/{_NAME}/archive", archive.put),
    ("POST", f"/containers/{_NAME}/exec", execs.create),
    ("DELETE", f"/containers/{_NAME}", containers.remove),
    ("POST", f"/exec/{_NAME}/start", execs.start),
    ("POST", f"/exec/{_NAME}/resize", execs.resize),
    ("GET", f"/exec/{_NAME}/json", execs.inspect),
    ("POST", "/auth", transfers.auth),
    ("POST", "/build", builds.build),
    ("POST", "/build/prune", builds.prune),
    ("POST", "/build/cancel", builds.cancel),
    ("GET", "/images/json", images.listing),
    ("GET", "/images/get", transfers.save),
    ("POST", "/images/create", transfers.create),
    ("POST", "/images/load", transfers.load),
    ("GET", f"/images/{_IMAGE}/get", transfers.save_one),
    ("POST", f"/images/{_IMAGE}/push", transfers.push),
    ("POST", "/images/prune", images.prune),
    ("GET", f"/images/{_IMAGE}/json", images.inspect),
    ("GET", f"/images/{_IMAGE}/history", images.history),
    ("POST", f"/images/{_IMAGE}/tag", images.tag),
    ("DELETE", f"/images/{_IMAGE}", images.remove),
    ("GET", "/networks", networks.listing),
    ("POST", "/networks/create", networks.refuse),
    ("POST", "/networks/prune", networks.prune),
    ("GET", f"/networks/{_NAME}", networks.inspect),
    ("DELETE", f"/networks/{_NAME}", networks.refuse),
    ("POST", f"/networks/{_NAME}/(dis)?connect", networks.refuse),
    ("GET", "/volumes", volumes.listing),
    ("POST", "/volumes/create", volumes.create),
    ("POST", "/volumes/prune", volumes.prune),
    ("GET", f"/volumes/{_NAME}", volumes.inspect),
    ("DELETE", f"/volumes/{_NAME}", volumes.remove),
    ("GET", "/plugins", system.nothing),
    ("GET|POST|DELETE", "/(swarm|nodes|services|tasks|secrets|configs)(/.*)?", system.no_swarm),
)
_COMPILED = tuple((methods.split("|"), re.compile(pattern), handler) for methods, pattern, handler in ROUTES)


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """The handler that aiohttp's low-level server calls for each request."""

    daemon: Daemon

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            check_origin(request)
            version, path = versions.split(_path(request))
            if request.method == "OPTIONS":
                response: web.StreamResponse = web.Response()
            else:
                handler, names = find(request.method, path)
                response = await handler(Call(self.daemon, request, version, names))
        except ConnectionError:
            raise  # nobody is left to answer
        except Exception as error:  # noqa: BLE001 -- each becomes an answer, ours with a traceback in the log
            response = self._problem(request, error)
        if not response.prepared:
            response.headers.update(self.daemon.headers)
        return response

    def _problem(self, request: web.BaseRequest, error: Exception) -> web.Response:
        if isinstance(error, NotModified):
            return web.Response(status=304)
        status = status_of(error)
        if status is None:
            log.error("%s %s", request.method, _path(request), exc_info=error)
            return reply({"message": "internal fault: see the daemon's log"}, 500)
        return reply({"message": message_of(error)}, status)


def find(method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
    """The handler of a route, and what its pattern caught. Raises NoSuchThing, also for a wrong method."""
    for methods, pattern, handler in _COMPILED:
        if method in methods and (match := pattern.fullmatch(path)):
            return handler, {key: value for key, value in match.groupdict().items() if value is not None}
    raise NoSuchThing("page not found")


def check_origin(request: web.BaseRequest) -> None:
    """Refuse web pages: those that make a browser talk to us carry its Origin, or reach us under a name of theirs.

    Raises Forbidden.
    """
    if "Origin" in request.headers:
        raise Forbidden("requests of web pages are not served")
    if request.transport is None or isinstance(request.transport.get_extra_info("sockname"), str):
        return  # over a unix socket no page can come, and clients send what they like as Host
    host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost" and request.transport.get_extra_info("ssl_object") is None:
            raise Forbidden(f"this daemon is not {host[:100]!r}; use an address, or localhost") from None


def _path(request: web.BaseRequest) -> str:
    """Without the query, decoded."""
    return unquote(request.raw_path.partition("?")[0])
