"""What a container made of its image: /containers/{name}/changes, /export and /update, and /commit."""

from aiohttp import web

from pybuild.api.calls import Call, reply
from pybuild.api.create import HostConfig, resources_of, restart_of
from pybuild.api.problems import BadRequest, NotYet
from pybuild.api.transfers import send_written
from pybuild.engine.changing import update as change
from pybuild.engine.taking import Commit, changes, commit, export
from registry.errors import NameInvalid
from registry.model import Reference


async def list_changes(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    found = await call.daemon.run(changes, call.daemon.containers, container)
    return reply([{"Path": path, "Kind": kind} for kind, path in found] or None)


async def export_all(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    return await send_written(call, "application/x-tar", lambda out: export(call.daemon.containers, container, out))


async def commit_image(call: Call) -> web.StreamResponse:
    """POST /commit?container=…"""
    container = await call.daemon.find(call.text("container"))
    if call.request.query.getall("changes", []):
        raise NotYet("instructions for a commit (--change) are not supported yet")
    config = await call.body(dict, optional=True)
    repository, tag = call.text("repo"), call.text("tag")
    try:
        name = Reference.parse(f"{repository}:{tag}" if tag else repository).tagged if repository else None
    except NameInvalid as error:
        raise BadRequest(f"invalid reference format: {error}") from None
    wanted = Commit(
        name, call.text("author"), call.text("comment"),
        {key: value for key, value in config.items() if key in _CONFIG and value}, call.flag("pause", default=True),
    )  # fmt: skip
    image = await call.daemon.run_long(commit, call.daemon.containers, container, wanted)
    return reply({"Id": str(image)}, 201)


_CONFIG = {"User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels", "ExposedPorts", "StopSignal", "Volumes"}


async def update(call: Call) -> web.StreamResponse:
    """POST /containers/{name}/update: limits, live, and the restart policy; what is not named stays."""
    container = await call.daemon.find(call.name)
    asked = await call.body(HostConfig)
    options = container.record.options
    new = resources_of(asked)
    named = {key: getattr(new, key) for key in new.__dataclass_fields__ if getattr(new, key)}
    if asked.pids_limit is not None:
        named["pids"] = new.pids
    policy = restart_of(asked) if asked.restart_policy and asked.restart_policy.name else None
    if policy and policy.name != "no" and options.auto_remove:
        raise BadRequest("Restart policy cannot be updated because AutoRemove is enabled for the container")
    warnings = await call.daemon.run(change, call.daemon.containers, container, named, policy)
    return reply({"Warnings": warnings})
