"""Progress from a thread to a client: one JSON object a line, each in a chunk of its own, as docker streams them.

Promises: a failure before the first line is an answer with a status; later ones are told in-band; the thread is held
when the client does not read, and stopped when it has gone.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from aiohttp import web

from pybuild.api.calls import Call
from pybuild.api.problems import message_of, status_of

Line = dict[str, Any]
_WAITING = 256  # lines that the thread may be ahead of the client
_PAUSE = 0.1  # seconds between two counts of the same transfer
_BAR = 50  # characters


class Teller:
    """The thread's end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()
        self._room = threading.Semaphore(_WAITING)
        self._gone = threading.Event()

    def say(self, line: Line) -> None:
        """Raises CancelledError when nobody listens any more."""
        while not self._room.acquire(timeout=1.0):
            self.check()
        self.check()
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    def check(self) -> None:
        if self._gone.is_set():
            raise CancelledError("the client is gone")

    async def next(self) -> Line | None:
        line = await self._lines.get()
        self._room.release()
        return line

    def over(self) -> None:
        """In the loop's thread: there will be no more lines."""
        self._lines.put_nowait(None)

    def leave(self) -> None:
        self._gone.set()


async def tell_while(call: Call, work: Callable[[Teller], None]) -> web.StreamResponse:
    """Run `work` in a thread, and stream what it says."""
    teller = Teller(asyncio.get_running_loop())
    task = asyncio.ensure_future(call.daemon.run_long(work, teller))
    task.add_done_callback(lambda _: teller.over())
    try:
        first = await teller.next()
        if first is None:
            await task  # raises what becomes a status
        response = await call.stream("application/json")
        line = first
        while line is not None:
            await response.write(_encoded(line))
            line = await teller.next()
        try:
            await task
        except Exception as error:
            if status_of(error) is None:
                raise
            message = message_of(error)
            await response.write(_encoded({"errorDetail": {"message": message}, "error": message}))
        await response.write_eof()
        return response
    finally:
        teller.leave()
        await asyncio.wait([task])


def _encoded(line: Line) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\r\n"


class Transfers:
    """Progress of a pull, push or load, in docker's words; counts come ten times a second at most."""

    def __init__(self, teller: Teller, prefix: str = "") -> None:
        self._teller, self._prefix = teller, prefix
        self._told: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        if not what:
            self._teller.say({"status": status})
            return
        with self._lock:
            before, when = self._told.get(what, ("", 0.0))
            if before == status and time.monotonic() - when < _PAUSE:
                self._teller.check()
                return
            self._told[what] = (status, time.monotonic())
        line: Line = {"status": status, "progressDetail": {}, "id": what}
        if total and current < total and status in {"Downloading", "Pushing", "Extracting"}:
            done = _BAR * current // total
            arrow = "=" * max(done - 1, 0) + ">"
            line["progressDetail"] = {"current": current, "total": total}
            line["progress"] = f"[{arrow:<{_BAR}}] {_size(current)}/{_size(total)}"
        self._teller.say(line)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g}GB"
