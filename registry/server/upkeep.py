"""What a server does between requests: write down pulls, collect garbage, scrub. Each job runs by itself.

A job that fails is tried again at its next turn; the log tells. Requests never wait for any of them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from registry.errors import RegistryError
from registry.server.backend import Care

log = logging.getLogger(__name__)
_NOTES_EVERY = 60.0  # seconds
_SCRUB_EVERY = 3600.0  # seconds between two looks for what has become old enough


class Upkeep:
    """The jobs of one server, inside the running loop."""

    def __init__(self, care: Care) -> None:
        self._care = care
        self._jobs: list[asyncio.Task[None]] = []

    def start(self, *, collect_every: float, scrub_rate: float) -> None:
        """Begin.

        Args:
            collect_every: seconds between two collections of garbage; 0: never.
            scrub_rate: bytes a second that are read to find damage; 0: none.
        """
        self._add(_NOTES_EVERY, self._care.take_notes)
        if collect_every:
            self._add(collect_every, self._collect)
        if scrub_rate:
            self._add(_SCRUB_EVERY, lambda: self._scrub(scrub_rate))

    async def stop(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        with suppress(RegistryError):
            await self._care.take_notes()

    def _add(self, every: float, work: Callable[[], Awaitable[None]]) -> None:
        self._jobs.append(asyncio.create_task(_repeat(every, work)))

    async def _collect(self) -> None:
        found = await self._care.collect()
        if found.blobs or found.manifests or found.leftovers:
            log.info("collection freed %d blobs of %d bytes, %d leftovers", found.blobs, found.bytes, found.leftovers)

    async def _scrub(self, rate: float) -> None:
        report = await self._care.scrub(rate)
        for damage in report.damages:
            log.error(
                "damaged: %s %s; needed by %s", damage.digest, damage.problem, ", ".join(damage.repositories) or "-"
            )


async def _repeat(every: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(every)
        try:
            await work()
        except RegistryError as error:
            log.error("%s", error)  # noqa: TRY400  # no bug: no traceback
        except Exception:
            log.exception("fault between requests")
