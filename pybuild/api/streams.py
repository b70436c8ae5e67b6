"""Bytes between clients and processes: attach, and what exec shares with it."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from aiohttp import web

from pybuild.api.calls import Call
from pybuild.api.daemon import Viewer
from pybuild.api.hijack import Client, Hijacked, hijack
from pybuild.api.problems import BadRequest, Clash
from pybuild.api.talk import Talk
from pybuild.engine.detaching import DetachKeys
from pybuild.engine.options import parse_detach_keys
from runner.container.client import Exit
from runner.errors import NoSuchContainer, RunnerError

_NAMES = ("stdin", "stdout", "stderr")
DEFAULT_KEYS = "ctrl-p,ctrl-q"
Pump = Callable[[Talk], Coroutine[Any, Any, bool]]


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/{name}/attach. Of one that does not run: from its start on."""
    container = await call.daemon.find(call.name)
    options = container.record.options
    keys = parse_detach_keys(call.text("detachKeys") or DEFAULT_KEYS)
    wanted = tuple(name for name in _NAMES if call.flag(name) and (name != "stdin" or options.interactive))
    if container.state.paused:
        raise Clash(f"container {container.record.name} is paused, unpause the container before attach")
    past = call.flag("logs")
    if not call.flag("stream"):
        if not past:
            raise BadRequest("attach needs stream=1 or logs=1")
        wanted = ()
    # Whatever is to be seen must be sure to be seen before the client hears that it is attached: it starts next.
    talk = await _talk(call, container.record.id, wanted) if wanted else None
    client = hijack(call, tty=options.tty)
    pump = partial(pump_input, client, keys=DetachKeys(keys if options.tty else b""))
    viewer = Viewer(client, wanted, pump)
    if wanted and talk is None:
        call.daemon.viewers.setdefault(container.record.id, []).append(viewer)
    try:
        if past:
            await _show_past(call, client, container.record.id)
        if talk:
            if await carry(talk, client, pump if "stdin" in wanted else None) is None:
                talk.detach()
        elif wanted:
            await viewer.over.wait()
    except (ConnectionError, RunnerError):
        pass  # the client has left, or the supervisor: clients attach again
    finally:
        if talk:
            talk.close()
        elif viewer in (waiting := call.daemon.viewers.get(container.record.id, [])):
            waiting.remove(viewer)
        client.close()
    return Hijacked()


async def _talk(call: Call, container_id: str, wanted: tuple[str, ...]) -> Talk | None:
    """None: it does not run, so there is nobody to talk to yet."""
    try:
        return Talk(await call.daemon.run(call.daemon.containers.supervisor.attach, container_id, wanted))
    except NoSuchContainer:
        return None


async def carry(talk: Talk, client: Client, pump: Pump | None) -> Exit | None:
    """Both ways until the process ends; None: the client has left by the detach keys.

    Raises:
        ConnectionError: the client is gone.
        RunnerError: the supervisor is.
    """
    showing = asyncio.create_task(show(talk, client))
    typing = asyncio.create_task(pump(talk)) if pump else None
    try:
        await asyncio.wait([task for task in (showing, typing) if task], return_when=asyncio.FIRST_COMPLETED)
        if typing and not showing.done() and not typing.cancelled() and typing.exception() is None and typing.result():
            return None
        return await showing
    finally:
        for task in (showing, typing):
            if task:
                task.cancel()
        await asyncio.gather(*(task for task in (showing, typing) if task), return_exceptions=True)


async def show(talk: Talk, client: Client) -> Exit:
    while not isinstance(piece := await talk.receive(), Exit):
        await client.output(piece.kind, piece.data)
    return piece


async def pump_input(client: Client, talk: Talk, *, keys: DetachKeys) -> bool:
    """Pass on what is typed until its end; True: the detach keys were typed."""
    while data := await client.read():
        passed, detached = keys.feed(data)
        if passed:
            await talk.type(passed)
        if detached:
            return True
    await talk.type(b"")
    return False


async def _show_past(call: Call, client: Client, container_id: str) -> None:
    from pybuild.api.logs import records, stream_kind

    async for line in records(call.daemon, container_id):
        await client.output(stream_kind(line), line.text.encode("utf-8", "surrogateescape"))
