"""GET /containers/{name}/stats and /top; /system/df."""

import asyncio
import json
from typing import Any

from aiohttp import web

from pybuild.api.calls import Call, reply
from pybuild.api.daemon import Daemon
from pybuild.api.images import listed
from pybuild.api.problems import BadRequest
from pybuild.api.versions import ONE_SHOT
from pybuild.api.volumes import users
from pybuild.engine.listing import list_container
from pybuild.engine.pruning import cache_items
from pybuild.engine.statistics import no_cpu, processes, sample
from pybuild.engine.usage import counter
from pybuild.engine.views import inspect_volume
from pybuild.engine.volumes import Volumes
from pybuild.errors import NotFound
from runner.container.state import timestamp

_INTERVAL = 1.0  # seconds
_TYPES = ("container", "image", "volume", "build-cache")


async def stats(call: Call) -> web.StreamResponse:
    daemon = call.daemon
    container = await daemon.find(call.name)
    now = await daemon.run(sample, container)
    if not call.flag("stream", default=True):
        if (call.version >= ONE_SHOT and call.flag("one-shot")) or not container.running:
            return reply(now | {"precpu_stats": no_cpu()})
        await asyncio.sleep(_INTERVAL)
        return reply(_after(now, await _again(daemon, container.record.id) or now))
    response = await call.stream("application/json")
    before: dict[str, Any] = {}
    while now is not None:
        await response.write(json.dumps(_after(before, now), separators=(",", ":")).encode() + b"\n")
        before = now
        await asyncio.sleep(_INTERVAL)
        found = await _again(daemon, container.record.id)
        if found is None:
            break
        now = found
    await response.write_eof()
    return response


async def _again(daemon: Daemon, container_id: str) -> dict[str, Any] | None:
    """None: it has been removed."""
    try:
        return await daemon.run(lambda: sample(daemon.containers.get(container_id)))
    except NotFound:
        return None


def _after(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Docker's clients subtract the CPU's numbers of the sample before."""
    return now | {"precpu_stats": before.get("cpu_stats", no_cpu()), "preread": before.get("read", now["preread"])}


async def top(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    return reply(await call.daemon.run(processes, container, call.text("ps_args") or "-ef"))


async def usage(call: Call) -> web.StreamResponse:
    """GET /system/df."""
    wanted = call.request.query.getall("type", []) or list(_TYPES)
    if unknown := set(wanted) - set(_TYPES):
        raise BadRequest(f"unknown object type: {min(unknown)[:60]}")
    return reply(await call.daemon.run_long(_usage, call.daemon, wanted))


def _usage(daemon: Daemon, wanted: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": []}
    store, count = daemon.containers.store, counter(daemon.root)
    if "image" in wanted:
        entries = listed(daemon)
        found["Images"] = [entry | {"SharedSize": 0} for entry in entries]
        found["LayersSize"] = sum(blob.size for blob in store.blobs() if blob.linked)
    if "container" in wanted:
        for container in daemon.containers.all():
            snapshot = daemon.containers.snapshots.get(container.record.snapshot)
            size = count.tree(snapshot.upper) if snapshot else 0
            found["Containers"].append(list_container(container) | {"SizeRw": size, "SizeRootFs": size})
    if "volume" in wanted:
        used = users(daemon)
        for volume in Volumes(daemon.root).all():
            about = {"Size": count.tree(str(volume.path)), "RefCount": len(used.get(volume.name, ()))}
            found["Volumes"].append(inspect_volume(volume) | {"UsageData": about})
    if "build-cache" in wanted:
        found["BuildCache"] = [
            {
                "ID": item.id, "Type": item.kind, "Description": item.title, "InUse": item.in_use,
                "Shared": item.shared, "Size": item.bytes, "CreatedAt": timestamp(int(item.used * 1e9)),
                "LastUsedAt": timestamp(int(item.used * 1e9)), "UsageCount": 1, "Parents": None,
            }
            for item in cache_items(store, daemon.root)
        ]  # fmt: skip
    return found
