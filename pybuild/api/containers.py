"""Containers: /containers/…, all but what streams (streams.py, logs.py, execs.py, archive.py)."""

import contextlib
import json
from functools import partial
from signal import SIGKILL

from aiohttp import web

from pybuild.api.calls import Call, Filters, done, reply
from pybuild.api.create import Body, options_of
from pybuild.api.problems import BadRequest, Clash, NotModified
from pybuild.engine import changing
from pybuild.engine.containers import Container
from pybuild.engine.listing import FILTERS, list_container, matches
from pybuild.engine.options import parse_signal
from pybuild.engine.views import inspect_container
from pybuild.errors import Conflict, NotFound
from registry.errors import NameInvalid

_CONDITIONS = ("not-running", "next-exit", "removed")
_KILL_WAIT = 10.0  # seconds for the kernel to end a process that was killed
# Known to docker, and true of no container of ours.
_OTHERS = ("before", "since", "health", "isolation", "is-task", "publish", "expose")


async def create(call: Call) -> web.StreamResponse:
    """POST /containers/create. The client pulls when it hears that there is no such image."""
    asked = options_of(await call.body(Body), name=call.text("name"), platform=call.text("platform"))
    try:
        record = await call.daemon.run(call.daemon.containers.create, asked.options, pull="never")
    except NameInvalid as error:
        raise BadRequest(f"invalid reference format: {error}") from None
    return reply({"Id": record.id, "Warnings": list(asked.warnings)}, 201)


async def listing(call: Call) -> web.StreamResponse:
    """GET /containers/json."""
    filters = call.filters((*FILTERS, *_OTHERS))
    limit = call.number("limit", -1) or -1
    found = await call.daemon.run(call.daemon.containers.all)
    everybody = call.flag("all") or limit > 0 or "status" in filters or "exited" in filters
    chosen = [one for one in found if (everybody or _is_up(one)) and _passes(one, filters, found)]
    if limit > 0:
        chosen = chosen[:limit]
    return reply([list_container(one) for one in chosen])


def _is_up(container: Container) -> bool:
    return container.running


def _passes(container: Container, filters: Filters, everyone: list[Container]) -> bool:
    for key, before in (("before", True), ("since", False)):
        for name in filters.get(key, ()):
            mark = next((one for one in everyone if name in {one.record.name, one.record.id}), None)
            mark = mark or next((one for one in everyone if one.record.id.startswith(name)), None)
            if mark is None:
                raise NotFound(f"No such container: {name}")
            if (container.record.created < mark.record.created) != before or container is mark:
                return False
    if any(
        value.lower() not in {"none", "default", "false"}
        for key in ("health", "is-task")
        for value in filters.get(key, ())
    ):
        return False
    for key in ("publish", "expose"):
        for value in filters.get(key, ()):
            port = value if "/" in value else f"{value}/tcp"
            if port not in container.record.exposed_ports:
                return False
    return matches(container, {key: values for key, values in filters.items() if key in FILTERS})


async def inspect(call: Call) -> web.StreamResponse:
    """GET /containers/{name}/json."""
    daemon = call.daemon
    container = await daemon.find(call.name)
    found = inspect_container(container, daemon.containers.records.of(container.record.id))
    execs = [one.id for one in daemon.execs.values() if one.container_id == container.record.id and one.running]
    return reply(found | {"ExecIDs": execs or None})


async def start(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    if container.state.paused:
        raise Clash("cannot start a paused container, try unpause instead")
    if container.running:
        raise NotModified
    await call.daemon.start(container.record)
    return done()


async def stop(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    restarted = container.word == "restarting"
    await call.daemon.run(call.daemon.containers.mark_stopped, container.record)
    container = await call.daemon.run(call.daemon.containers.get, container.record.id)
    if not _is_up(container):
        if restarted:
            return done()
        raise NotModified
    await _stop(call, container)
    return done()


async def _stop(call: Call, container: Container) -> None:
    """Ask it to end, then kill it. Waits without a thread."""
    daemon, record = call.daemon, container.record
    number = parse_signal(call.text("signal") or record.stop_signal)
    patience = call.number("t", record.stop_timeout)
    await _signal(call, container, number)
    if not await daemon.ended(record.id, None if patience is None or patience < 0 else float(patience)):
        await _signal(call, container, SIGKILL)
        await daemon.ended(record.id, _KILL_WAIT)
    await daemon.run(daemon.containers.settle, record.id)
    await daemon.run(daemon.containers.tell, record, "stop")


async def _signal(call: Call, container: Container, number: int) -> None:
    with contextlib.suppress(Conflict):  # it has ended meanwhile
        await call.daemon.run(call.daemon.containers.kill, container, number)


async def restart(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    if _is_up(container):
        await _stop(call, container)
    await call.daemon.start(container.record)
    await call.daemon.run(call.daemon.containers.tell, container.record, "restart")
    return done()


async def kill(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    number = parse_signal(call.text("signal") or "KILL")
    if not _is_up(container):
        raise Clash(f"cannot kill container: {call.name}: Container {container.record.id} is not running")
    await call.daemon.run(call.daemon.containers.kill, container, number)
    if number == SIGKILL:
        await call.daemon.ended(container.record.id, _KILL_WAIT)
    return done()


async def remove(call: Call) -> web.StreamResponse:
    if call.flag("link"):
        raise BadRequest("there are no links")
    daemon = call.daemon
    container = await daemon.find(call.name)
    work = partial(daemon.containers.remove, container, force=call.flag("force"), volumes=call.flag("v"))
    await daemon.run(work)
    for one in [one for one in daemon.execs.values() if one.container_id == container.record.id]:
        daemon.execs.pop(one.id, None)
    return done()


async def wait(call: Call) -> web.StreamResponse:
    """POST /containers/{name}/wait. The headers go out at once: from then on no exit is missed."""
    daemon = call.daemon
    condition = call.text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise BadRequest(f"invalid condition: {condition[:60]!r}")
    with daemon.hub.listen() as news:
        container = await daemon.find(call.name)
        record, code = container.record, container.state.exit_code
        response = await call.stream("application/json")
        waiting = condition != "not-running" or _is_up(container)
        while waiting:
            happened = await daemon.until(record.id, news, "die", "destroy")
            if happened is None or happened.action == "destroy":
                waiting = not await _is_over(call, record.id, condition)
                continue
            code = int(happened.attributes.get("exitCode", code))
            waiting = condition == "removed"
        await response.write(json.dumps({"StatusCode": code}).encode() + b"\n")
    await response.write_eof()
    return response


async def _is_over(call: Call, container_id: str, condition: str) -> bool:
    """Look for ourselves: it is gone, or has stopped while no news came."""
    try:
        container = await call.daemon.run(call.daemon.containers.get, container_id)
    except NotFound:
        return True
    return condition == "not-running" and not _is_up(container)


async def resize(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    rows, columns = call.number("h", 0) or 0, call.number("w", 0) or 0
    if not container.running:
        raise Clash(f"Container {container.record.id} is not running")
    await call.daemon.run(changing.resize, call.daemon.containers, container, rows, columns)
    return web.Response()


async def rename(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    new = call.text("name").removeprefix("/")
    if not new:
        raise BadRequest("Neither old nor new names may be empty")
    await call.daemon.run(changing.rename, call.daemon.containers, container, new)
    return done()


async def pause(call: Call) -> web.StreamResponse:
    await call.daemon.run(changing.pause, call.daemon.containers, await call.daemon.find(call.name))
    return done()


async def unpause(call: Call) -> web.StreamResponse:
    await call.daemon.run(changing.unpause, call.daemon.containers, await call.daemon.find(call.name))
    return done()


async def prune(call: Call) -> web.StreamResponse:
    filters = call.filters(("label", "label!", "until"))
    if "until" in filters or "label!" in filters:
        raise BadRequest("only the filter label is supported")
    removed, size = await call.daemon.run(changing.prune, call.daemon.containers, filters.get("label", ()))
    return reply({"ContainersDeleted": removed, "SpaceReclaimed": size})
