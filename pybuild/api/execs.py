"""Processes run beside a container's first: /containers/{name}/exec and /exec/{id}/…"""

from functools import partial

import msgspec
from aiohttp import web

from pybuild.api.calls import Call, reply
from pybuild.api.daemon import Daemon, Exec
from pybuild.api.hijack import Client, Hijacked, hijack
from pybuild.api.problems import BadRequest, Clash, NoSuchThing
from pybuild.api.streams import DEFAULT_KEYS, carry, pump_input
from pybuild.api.talk import Talk
from pybuild.engine.detaching import DetachKeys
from pybuild.engine.options import parse_detach_keys, parse_env
from pybuild.errors import EngineError
from runner.errors import CommandNotFound, NotExecutable, RunnerError

_LOST = 255  # exit code when the supervisor ended before the process


class CreateBody(msgspec.Struct, rename="pascal"):
    cmd: list[str] | str | None = None
    env: list[str] | None = None
    user: str | None = ""
    working_dir: str | None = ""
    tty: bool | None = False
    privileged: bool | None = False
    attach_stdin: bool | None = False
    attach_stdout: bool | None = False
    attach_stderr: bool | None = False
    detach_keys: str | None = ""


class StartBody(msgspec.Struct, rename="pascal"):
    detach: bool | None = False
    tty: bool | None = False
    console_size: list[int] | None = None


async def create(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    body = await call.body(CreateBody)
    argv = (body.cmd,) if isinstance(body.cmd, str) else tuple(body.cmd or ())
    if not argv:
        raise BadRequest("No exec command specified")
    if not container.running:
        raise Clash(f"Container {container.record.id} is not running")
    if container.state.paused:
        raise Clash(f"Container {container.record.id} is paused, unpause the container before exec")
    parse_detach_keys(body.detach_keys or DEFAULT_KEYS)
    made = Exec(
        container_id=container.record.id, argv=argv, env=parse_env(body.env or (), {}), user=body.user or "",
        working_dir=body.working_dir or "", tty=bool(body.tty), privileged=bool(body.privileged),
        stdin=bool(body.attach_stdin), stdout=bool(body.attach_stdout), stderr=bool(body.attach_stderr),
        detach_keys=body.detach_keys or DEFAULT_KEYS,
    )  # fmt: skip
    call.daemon.execs[made.id] = made
    await _tell(call.daemon, made, f"exec_create: {' '.join(argv)}")
    return reply({"Id": made.id}, 201)


async def start(call: Call) -> web.StreamResponse:
    """POST /exec/{name}/start. What fails after the connection left HTTP is told as text."""
    one = _find(call)
    body = await call.body(StartBody, optional=True)
    if one.started:
        raise Clash(f"exec command {one.id} has already run")
    container = await call.daemon.run(call.daemon.containers.get, one.container_id)
    if not container.running:
        raise Clash(f"Container {one.container_id} is not running")
    one.started = True
    size = tuple(body.console_size or (0, 0))
    if body.detach:
        talk = await _begin(call.daemon, one, ("exit",), size)
        call.daemon.background(_finish(call.daemon, one, talk))
        return web.Response()
    names = (("stdin", one.stdin), ("stdout", one.stdout), ("stderr", one.stderr))
    streams = tuple(name for name, wanted in names if wanted)
    client = hijack(call, tty=one.tty)
    try:
        talk = await _begin(call.daemon, one, streams or ("exit",), size)
    except (EngineError, RunnerError) as error:
        await client.complain(str(error))
    else:
        await _carry(call.daemon, one, talk, client)
    finally:
        client.close()
    return Hijacked()


async def _carry(daemon: Daemon, one: Exec, talk: Talk, client: Client) -> None:
    keys = DetachKeys(parse_detach_keys(one.detach_keys) if one.tty else b"")
    pump = partial(pump_input, client, keys=keys) if one.stdin else None
    over = False
    try:
        found = await carry(talk, client, pump)
        if found is None:
            await client.complain("exec attach failed: error on attach stdin: read escape sequence")
            return
        one.exit_code, over = found.code, True
        await _tell(daemon, one, "exec_die", exitCode=str(found.code))
    except RunnerError:
        one.exit_code = _LOST
    except ConnectionError:
        pass  # the process goes on without its client
    finally:
        if over or one.exit_code is not None:
            _over(one, talk)
        else:
            daemon.background(_finish(daemon, one, talk))


async def _begin(daemon: Daemon, one: Exec, streams: tuple[str, ...], size: tuple[int, ...]) -> Talk:
    container = await daemon.run(daemon.containers.get, one.container_id)
    work = partial(
        daemon.containers.exec, container, one.argv, attach=streams, env=one.env, user=one.user,
        working_dir=one.working_dir, tty=one.tty, privileged=one.privileged,
        console_size=(size[0], size[1]) if len(size) == 2 else (0, 0),
    )  # fmt: skip
    try:
        running = await daemon.run(work)
    except (EngineError, RunnerError) as error:
        one.exit_code = error.exit_code if isinstance(error, CommandNotFound | NotExecutable) else 126
        raise
    one.talk = Talk(running)
    one.pid = running.pid
    await _tell(daemon, one, f"exec_start: {' '.join(one.argv)}")
    return one.talk


async def _finish(daemon: Daemon, one: Exec, talk: Talk) -> None:
    """Wait for the end of one that nobody is attached to (any more)."""
    try:
        one.exit_code = (await talk.ended()).code
        await _tell(daemon, one, "exec_die", exitCode=str(one.exit_code))
    except RunnerError:
        one.exit_code = _LOST
    finally:
        _over(one, talk)


def _over(one: Exec, talk: Talk) -> None:
    one.talk = None
    talk.close()


async def inspect(call: Call) -> web.StreamResponse:
    one = _find(call)
    return reply(
        {
            "ID": one.id,
            "Running": one.running,
            "ExitCode": one.exit_code,
            "ProcessConfig": {
                "tty": one.tty, "entrypoint": one.argv[0], "arguments": list(one.argv[1:]),
                "privileged": one.privileged, "user": one.user,
            },
            "OpenStdin": one.stdin,
            "OpenStdout": one.stdout,
            "OpenStderr": one.stderr,
            "CanRemove": not one.running,
            "ContainerID": one.container_id,
            "DetachKeys": "",
            "Pid": one.pid,
        }
    )  # fmt: skip


async def resize(call: Call) -> web.StreamResponse:
    one = _find(call)
    if one.talk is None:
        raise Clash(f"exec {one.id} is not running")
    one.talk.resize(call.number("h", 0) or 0, call.number("w", 0) or 0)
    return web.Response()


def _find(call: Call) -> Exec:
    found = call.daemon.execs.get(call.name)
    if found is None:
        fitting = [one for one in call.daemon.execs.values() if call.name and one.id.startswith(call.name)]
        found = fitting[0] if len(fitting) == 1 else None
    if found is None:
        raise NoSuchThing(f"No such exec instance: {call.name}")
    return found


async def _tell(daemon: Daemon, one: Exec, action: str, **attributes: str) -> None:
    def work() -> None:
        record = daemon.containers.records.load(one.container_id)
        daemon.containers.tell(record, action, execID=one.id, **attributes)

    try:
        await daemon.run(work)
    except EngineError:
        return  # removed meanwhile
