"""The daemon itself: /_ping, /version, /info, /events, /system/df, /auth."""

import asyncio
import json
import os
import platform
import threading
import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from pybuild import __version__
from pybuild.api.calls import Call, Filters, reply
from pybuild.api.problems import BadRequest, Unavailable
from pybuild.api.versions import ANNOUNCED, MINIMUM, text
from pybuild.engine import events as engine_events
from pybuild.engine.system import gather
from runner.container.journal import Happened

_PING_HEADERS = {
    "Builder-Version": "1",  # 2 would send clients to /session
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


async def ping(call: Call) -> web.StreamResponse:
    """GET and HEAD /_ping."""
    if call.request.method == "HEAD":
        return web.Response(headers={**_PING_HEADERS, "Content-Length": "0"})
    return web.Response(text="OK", headers=_PING_HEADERS)


async def version(call: Call) -> web.StreamResponse:
    del call
    uname = platform.uname()
    architecture = _ARCHITECTURES.get(uname.machine, uname.machine)
    about = {
        "Version": __version__,
        "ApiVersion": text(ANNOUNCED),
        "MinAPIVersion": text(MINIMUM),
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": uname.release,
    }
    details = about | {"Experimental": "false", "GoVersion": "none", "GitCommit": "none", "BuildTime": ""}
    return reply(
        {
            "Platform": {"Name": "pybuild"},
            "Components": [
                {"Name": "Engine", "Version": __version__, "Details": details},
                {"Name": "Python", "Version": platform.python_version(), "Details": {}},
            ],
            **about,
            "GitCommit": "none",
            "GoVersion": "none",
            "BuildTime": "",
            "Experimental": False,
        }
    )


async def info(call: Call) -> web.StreamResponse:
    return reply(await call.daemon.run(_info, call))


def _info(call: Call) -> dict[str, Any]:
    daemon = call.daemon
    found = gather(daemon.root)
    everyone = daemon.containers.all()
    paused = sum(one.running and one.state.paused for one in everyone)
    running = sum(one.running for one in everyone) - paused
    limits = found.cgroups != "none"
    return {
        "ID": daemon.id,
        "Containers": len(everyone),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(everyone) - running - paused,
        "Images": found.images,
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", found.storage]],
        "SystemStatus": None,
        "Plugins": {
            "Volume": ["local"], "Network": ["bridge", "host", "none"], "Authorization": None, "Log": ["json-file"],
        },
        "MemoryLimit": limits, "SwapLimit": limits, "CpuCfsPeriod": limits, "CpuCfsQuota": limits,
        "CPUShares": limits, "CPUSet": limits, "PidsLimit": limits, "OomKillDisable": False,
        "IPv4Forwarding": True, "BridgeNfIptables": True, "BridgeNfIp6tables": True,
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": threading.active_count(),
        "SystemTime": datetime.now(UTC).isoformat(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if found.cgroups == "v2" else "1",
        "NEventsListener": 0,
        "KernelVersion": found.kernel,
        "OperatingSystem": found.operating_system,
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": found.architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None,
            "InsecureRegistryCIDRs": ["127.0.0.0/8"], "IndexConfigs": {}, "Mirrors": None,
        },
        "NCPU": found.cpus,
        "MemTotal": found.memory,
        "GenericResources": None,
        "DockerRootDir": str(daemon.root),
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": platform.node(),
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": {"pybuild": {"path": "pybuild"}},
        "DefaultRuntime": "pybuild",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "tini",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""},
        "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": [f"name={name},profile=builtin" if name == "seccomp" else f"name={name}"
                            for name in found.security],
        "ProductLicense": "",
        "Warnings": list(found.warnings) or None,
    }  # fmt: skip


async def events(call: Call) -> web.StreamResponse:
    """GET /events: what happened since, then what happens until, for ever if no end is given."""
    filters = call.filters(engine_events.FILTERS)
    since, until = _moment(call, "since"), _moment(call, "until")
    daemon = call.daemon
    with daemon.hub.listen() as news:
        response = await call.stream("application/json")
        daemon.hub.read()
        past = [one for one in daemon.hub.past if since is not None and since <= one.time]
        heard = {(one.time, one.id, one.action) for one in past}
        for happened in past:
            if until is None or happened.time <= until:
                await _write(response, happened, filters)
        while True:
            left = None if until is None else (until - time.time_ns()) / 1e9
            if left is not None and left <= 0:
                break
            try:
                told = await asyncio.wait_for(news.get(), left)
            except TimeoutError:
                break
            if told is None:
                break  # some were missed: an end is honest, and clients begin anew
            if (told.time, told.id, told.action) not in heard:
                await _write(response, told, filters)
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, happened: Happened, filters: Filters) -> None:
    if engine_events.passes(happened, filters):
        line = json.dumps(engine_events.as_json(happened), separators=(",", ":"))
        await response.write(f"{line}\n".encode())


def _moment(call: Call, key: str) -> int | None:
    found = call.text(key)
    if not found:
        return None
    whole, _, fraction = found.partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()):
        raise BadRequest(f"{key}: not a time: {found[:40]!r}; write seconds since 1970")
    return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")


async def nothing(call: Call) -> web.StreamResponse:
    """Lists of what there is none of here."""
    del call
    return reply([])


async def no_swarm(call: Call) -> web.StreamResponse:
    del call
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again."
    )
