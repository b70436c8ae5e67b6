"""Files in and out: HEAD, GET and PUT /containers/{name}/archive."""

import base64
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiohttp import web

from pybuild.api.calls import Call
from pybuild.api.problems import BadRequest, Forbidden
from pybuild.api.transfers import send_written, spooled
from pybuild.engine.containers import Container
from pybuild.engine.copying import PathStat, ReadOnly, read_path, stat_path, write_path

_HEADER = "X-Docker-Container-Path-Stat"


async def head(call: Call) -> web.StreamResponse:
    container, path = await call.daemon.find(call.name), _path(call)
    found = await call.daemon.run(stat_path, call.daemon.containers, container, path)
    return web.Response(headers={_HEADER: _encoded(found), "Content-Length": "0"})


async def get(call: Call) -> web.StreamResponse:
    container, path = await call.daemon.find(call.name), _path(call)
    found = await call.daemon.run(stat_path, call.daemon.containers, container, path)
    write = partial(read_path, call.daemon.containers, container, path)
    return await send_written(call, "application/x-tar", write, **{_HEADER: _encoded(found)})


async def put(call: Call) -> web.StreamResponse:
    container, path = await call.daemon.find(call.name), _path(call)
    async with spooled(call) as body:
        await call.daemon.run_long(lambda: _unpacked(call, container, path, body))
    return web.Response()


def _unpacked(call: Call, container: Container, path: str, body: Path) -> None:
    keep = call.flag("noOverwriteDirNonDir")
    with body.open("rb") as stream:
        try:
            write_path(call.daemon.containers, container, path, stream, keep_kinds=keep)
        except ReadOnly as error:
            raise Forbidden(str(error)) from None


def _path(call: Call) -> str:
    found = call.text("path")
    if not found:
        raise BadRequest("path is missing")
    return found


def _encoded(found: PathStat) -> str:
    about = {
        "name": found.name,
        "size": found.size,
        "mode": found.mode,
        "mtime": datetime.fromtimestamp(found.mtime_ns // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z"),
        "linkTarget": found.link,
    }
    return base64.b64encode(json.dumps(about).encode()).decode()
