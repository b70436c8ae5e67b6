"""What all requests of one daemon share: the engine, threads for what blocks, news, who waits for a start.

Everything that must survive this process is elsewhere: on disk, or with the supervisor.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pybuild import __version__
from pybuild.api.hijack import Client
from pybuild.api.hub import Hub
from pybuild.api.talk import Talk
from pybuild.api.versions import ANNOUNCED, text
from pybuild.engine.containers import Container, Containers
from pybuild.engine.images import Images, containers_of
from pybuild.engine.records import Record
from pybuild.engine.restarting import clear, is_stopped, revive
from pybuild.engine.roots import runtime_dir
from runner.container.client import Exit
from runner.container.journal import Happened
from runner.container.protocol import STDERR, STDIN, STDOUT
from runner.errors import RunnerError

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 32  # for calls that are over in a moment
_TRANSFERS = 8  # for pulls, pushes, builds and archives, which take as long as they take
_DOUBT = 10.0  # seconds without news before a waiter looks for itself
_STREAMS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}


@dataclass(eq=False)
class Viewer:
    """Somebody attached to a container that does not run yet."""

    client: Client
    streams: tuple[str, ...]
    pump_input: Callable[[Talk], Coroutine[Any, Any, bool]]  # True: the viewer has left by the detach keys
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, kind: bytes) -> bool:
        return any(_STREAMS[name] == kind for name in self.streams)


@dataclass(eq=False)
class Exec:
    """A process to be run, running, or run in a container. Docker forgets them with their container; so do we."""

    container_id: str
    argv: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    working_dir: str
    tty: bool
    privileged: bool
    stdin: bool
    stdout: bool
    stderr: bool
    detach_keys: str
    id: str = field(default_factory=lambda: secrets.token_hex(32))
    pid: int = 0
    started: bool = False
    exit_code: int | None = None
    talk: Talk | None = None

    @property
    def running(self) -> bool:
        return self.started and self.exit_code is None


class Daemon:
    """Lives in one event loop."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.containers = Containers(root)
        self.images = Images(self.containers.store, containers_of(root))
        self.containers.snapshots  # noqa: B018 -- opened before several threads may want to
        self.hub = Hub(runtime_dir(root))
        self.viewers: dict[str, list[Viewer]] = {}  # by container
        self.execs: dict[str, Exec] = {}
        self.id = secrets.token_hex(16)
        self.headers = {
            "Api-Version": text(ANNOUNCED),
            "Docker-Experimental": "false",
            "Ostype": "linux",
            "Server": f"Docker/{__version__} (linux)",
        }
        self._quick = ThreadPoolExecutor(_THREADS, "engine")
        self._slow = ThreadPoolExecutor(_TRANSFERS, "transfer")
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self.hub.open()
        await self._reconcile()
        self.background(self._keep_up())

    async def close(self) -> None:
        """Let go; containers go on, and clean up behind themselves."""
        self.hub.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._quick.shutdown(wait=True)
        self._slow.shutdown(wait=True, cancel_futures=True)
        self.containers.close()

    async def _reconcile(self) -> None:
        """What a daemon or a machine that stopped suddenly has left half done; and who is to run when a daemon does."""
        for record in await self.run(self._revivable):
            self.background(self.run_long(revive, self.containers, record.id))

    def _revivable(self) -> list[Record]:
        self.containers.recover()
        found = [
            one.record for one in self.containers.all() if not one.running and one.record.options.restart.name != "no"
        ]
        for record in found:
            directory = self.containers.records.of(record.id)
            # To docker `always` includes those that somebody stopped; and a daemon that starts does not wait long.
            if record.options.restart.name == "always" or not is_stopped(directory):
                clear(directory)
        return found

    async def _keep_up(self) -> None:
        """With what others do: a container that they start may have viewers here, one that is gone has no execs."""
        with self.hub.listen() as news:
            while True:
                happened = await news.get()
                if happened is None or happened.kind != "container":
                    continue
                if happened.action == "start":
                    for viewer in self.viewers.pop(happened.id, []):
                        self.background(self._catch_up(happened.id, viewer))
                elif happened.action == "destroy":
                    self.execs = {key: one for key, one in self.execs.items() if one.container_id != happened.id}
                    for viewer in self.viewers.pop(happened.id, []):
                        viewer.over.set()

    async def _catch_up(self, container_id: str, viewer: Viewer) -> None:
        """Attach somebody who waited to a container that was started by another process."""
        from pybuild.api.streams import carry

        try:
            with Talk(await self.run(self.containers.supervisor.attach, container_id, viewer.streams)) as talk:
                await carry(talk, viewer.client, viewer.pump_input if "stdin" in viewer.streams else None)
        except (RunnerError, OSError):
            pass  # over already, or the viewer has left
        finally:
            viewer.over.set()

    # --- work -------------------------------------------------------------------------------------------------------

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A call that blocks for a moment. Ends only when its thread has (see registry/server/threads.py)."""
        return await self._in(self._quick, partial(work, *args, **kwargs))

    async def run_long(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """One that moves bytes; it must stop by itself when its client is gone."""
        return await self._in(self._slow, partial(work, *args, **kwargs))

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that outlives its request; cancelled when the daemon stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def find(self, name: str) -> Container:
        return await self.run(self.containers.find, name)

    # --- life of containers, without a thread that waits --------------------------------------------------------------

    async def start(self, record: Record) -> None:
        """Start a container; those who attached before see its output from the first byte on."""
        viewers = self.viewers.pop(record.id, [])
        streams = tuple({name for viewer in viewers for name in viewer.streams})
        try:
            running = await self.run(self.containers.start, record, attach=streams, claim=True)
        except BaseException:
            for viewer in viewers:
                viewer.over.set()
            if record.options.auto_remove:
                with contextlib.suppress(Exception):
                    container = await self.run(self.containers.get, record.id)
                    await self.run(partial(self.containers.remove, container, volumes=True))
            raise
        if viewers or record.options.restart.name == "no":
            self.background(self._see_to(record, Talk(running), viewers))
        else:
            running.close()  # with a restart policy the supervisor's hook sees to it

    async def _see_to(self, record: Record, talk: Talk, viewers: list[Viewer]) -> None:
        """Until its end: carry streams to those who attached, then put away what the run needed."""
        with talk:
            typists = [
                asyncio.create_task(self._type(talk, viewer, viewers))
                for viewer in viewers
                if "stdin" in viewer.streams
            ]
            try:
                await self._show(talk, viewers)
                await self.run(self.containers.settle, record.id)
                talk.cleaned()
            except RunnerError:
                log.warning("container %s goes on under another supervisor", record.id[:12])
            except Exception:
                log.exception("container %s could not be put away", record.id[:12])
            finally:
                for task in typists:
                    task.cancel()
                for viewer in viewers:
                    viewer.over.set()

    async def _show(self, talk: Talk, viewers: list[Viewer]) -> None:
        while not isinstance(piece := await talk.receive(), Exit):
            for viewer in [viewer for viewer in viewers if viewer.wants(piece.kind)]:
                try:
                    await viewer.client.output(piece.kind, piece.data)
                except ConnectionError:
                    _leave(viewer, viewers)
        for viewer in viewers:
            viewer.over.set()

    async def _type(self, talk: Talk, viewer: Viewer, viewers: list[Viewer]) -> None:
        with contextlib.suppress(OSError):
            if await viewer.pump_input(talk):
                _leave(viewer, viewers)

    async def until(self, container_id: str, news: "asyncio.Queue[Happened | None]", *actions: str) -> Happened | None:
        """Wait for one of the actions of a container; None: it may have been missed, look for yourself."""
        while True:
            try:
                happened = await asyncio.wait_for(news.get(), _DOUBT)
            except TimeoutError:
                return None
            if happened is None:
                return None
            if happened.kind == "container" and happened.id == container_id and happened.action in actions:
                return happened

    async def ended(self, container_id: str, seconds: float | None) -> bool:
        """Wait for a running container's end; whether it came in time."""
        with self.hub.listen() as news:
            try:
                async with asyncio.timeout(seconds):
                    while await self.run(self.containers.is_running, container_id):
                        await self.until(container_id, news, "die", "destroy")
            except TimeoutError:
                return False
        return True


def _leave(viewer: Viewer, viewers: list[Viewer]) -> None:
    viewer.over.set()
    if viewer in viewers:
        viewers.remove(viewer)
