"""A conversation with the supervisor that is awaited: no thread waits for a container."""

import asyncio
import contextlib
from typing import Self

from runner.container.client import Exit, Running
from runner.container.protocol import CHUNK, Packet


class Talk:
    """The loop's side of `Running`. One task may receive while another one types."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.pid = running.pid
        self.warnings = running.warnings

    async def receive(self) -> Packet | Exit:
        """The next piece of output, or the exit. Raises RunnerError when the supervisor is gone."""
        await self._ready(self._loop.add_reader, self._loop.remove_reader)
        return self._running.receive()

    async def ended(self) -> Exit:
        """Wait for the end; output is thrown away."""
        while True:
            found = await self.receive()
            if isinstance(found, Exit):
                return found

    async def type(self, data: bytes) -> None:
        """Pass input on; none ends it. Waits while the container reads nothing."""
        for start in range(0, len(data) or 1, CHUNK):
            await self._ready(self._loop.add_writer, self._loop.remove_writer)
            self._running.type(data[start : start + CHUNK])

    def resize(self, rows: int, columns: int) -> None:
        self._running.resize(rows, columns)

    def detach(self) -> None:
        self._running.detach()

    def cleaned(self) -> None:
        self._running.cleaned()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._running.fileno())
            self._loop.remove_writer(self._running.fileno())
            self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def _ready(self, add: object, remove: object) -> None:
        """Wait until the socket can be read from, or written to."""
        if self._closed:
            raise asyncio.CancelledError
        descriptor = self._running.fileno()
        waiter = self._loop.create_future()
        assert callable(add)
        assert callable(remove)
        add(descriptor, _wake, waiter)
        try:
            await waiter
        finally:
            with contextlib.suppress(ValueError, OSError):
                if not self._closed:
                    remove(descriptor)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
