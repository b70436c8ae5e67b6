"""Volumes: /volumes/…"""

from typing import Any

import msgspec
from aiohttp import web

from pybuild.api.calls import Call, boolean_filter, done, reply
from pybuild.api.daemon import Daemon
from pybuild.api.problems import BadRequest, NotYet
from pybuild.engine.events import tell
from pybuild.engine.usage import counter
from pybuild.engine.views import inspect_volume
from pybuild.engine.volumes import Volume, Volumes
from pybuild.errors import Conflict, NotFound

_FILTERS = ("dangling", "driver", "label", "name")


class Body(msgspec.Struct, rename="pascal"):
    name: str | None = ""
    driver: str | None = "local"
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


async def listing(call: Call) -> web.StreamResponse:
    filters = call.filters(_FILTERS)
    dangling = boolean_filter(filters, "dangling")

    def work() -> list[dict[str, Any]]:
        used = users(call.daemon)
        return [
            inspect_volume(volume)
            for volume in Volumes(call.daemon.root).all()
            if (dangling is None or dangling == (volume.name not in used))
            and all(any(_fits(volume, key, value) for value in filters.get(key, ("",))) for key in ("driver", "name"))
            and all(_fits(volume, "label", value) for value in filters.get("label", ()))
        ]

    return reply({"Volumes": await call.daemon.run(work), "Warnings": None})


def _fits(volume: Volume, key: str, value: str) -> bool:
    if key == "name":
        return value in volume.name
    if key == "driver":
        return value in {"", "local"}
    name, equals, text = value.partition("=")
    return name in volume.labels and (not equals or volume.labels[name] == text)


def users(daemon: Daemon) -> dict[str, list[str]]:
    """Names of containers, by the volume that they have."""
    found: dict[str, list[str]] = {}
    for container in daemon.containers.all():
        for mount in container.record.mounts:
            if mount.type == "volume":
                found.setdefault(mount.name, []).append(container.record.name)
    return found


async def create(call: Call) -> web.StreamResponse:
    body = await call.body(Body)
    if body.driver not in {None, "", "local"}:
        raise BadRequest(f"no volume driver {body.driver!r}; there is local")
    if body.driver_opts:
        raise NotYet("options of the local volume driver are not supported yet")

    def work() -> dict[str, Any]:
        volume = Volumes(call.daemon.root).make(body.name or "", body.labels or {})
        tell(call.daemon.root, "volume", "create", volume.name, driver="local")
        return inspect_volume(volume)

    return reply(await call.daemon.run(work), 201)


async def inspect(call: Call) -> web.StreamResponse:
    return reply(inspect_volume(await call.daemon.run(Volumes(call.daemon.root).get, call.name)))


async def remove(call: Call) -> web.StreamResponse:
    def work() -> None:
        try:
            Volumes(call.daemon.root).remove(call.name, users(call.daemon).get(call.name, ()))
        except NotFound:
            if not call.flag("force"):
                raise
            return
        tell(call.daemon.root, "volume", "destroy", call.name, driver="local")

    await call.daemon.run(work)
    return done()


async def prune(call: Call) -> web.StreamResponse:
    """Anonymous volumes that no container has; with the filter all=1 named ones too, as docker from 1.42 on."""
    filters = call.filters(("all", "label", "label!"))
    if "label!" in filters:
        raise BadRequest("only the filters all and label are supported")
    every = boolean_filter(filters, "all") or call.version < (1, 42)

    def work() -> tuple[list[str], int]:
        volumes, used, removed, freed = Volumes(call.daemon.root), users(call.daemon), [], 0
        for volume in volumes.all():
            labelled = all(_fits(volume, "label", value) for value in filters.get("label", ()))
            if volume.name in used or not labelled or not (every or volume.anonymous):
                continue
            size = counter(call.daemon.root).tree(str(volume.path))
            try:
                volumes.remove(volume.name, users(call.daemon).get(volume.name, ()))
            except (NotFound, Conflict):
                continue
            removed.append(volume.name)
            freed += size
            tell(call.daemon.root, "volume", "destroy", volume.name, driver="local")
        return removed, freed

    removed, freed = await call.daemon.run(work)
    return reply({"VolumesDeleted": removed or None, "SpaceReclaimed": freed})
