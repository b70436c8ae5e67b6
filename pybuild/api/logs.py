"""GET /containers/{name}/logs: what a container said, and says."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Self

from aiohttp import web

from pybuild.api.calls import Call
from pybuild.api.daemon import Daemon
from pybuild.api.hijack import frame
from pybuild.api.problems import BadRequest
from runner.container.jsonlog import LogReader, Record
from runner.container.protocol import STDERR, STDOUT
from runner.kernel import calls

_BATCH = 256  # records read at once
_SEEN_AFTER = 2.0  # seconds between looks, should the kernel's notice be lost


async def logs(call: Call) -> web.StreamResponse:
    container = await call.daemon.find(call.name)
    wanted = {name for name in ("stdout", "stderr") if call.flag(name)}
    if not wanted:
        raise BadRequest("Bad parameters: you must choose at least one stream")
    tail = call.text("tail") or "all"
    count = int(tail) if tail.isascii() and tail.isdigit() else None
    since, until = _moment(call.text("since")), _moment(call.text("until"))
    tty, stamped = container.record.options.tty, call.flag("timestamps")
    kind = "multiplexed" if not tty and call.version >= (1, 42) else "raw"
    response = await call.stream(f"application/vnd.docker.{kind}-stream")
    details = " " if call.flag("details") else ""  # attributes that log options ask for, of which there are none
    container_id = container.record.id
    async for line in records(call.daemon, container_id, tail=count, follow=call.flag("follow")):
        if until is not None and line.instant > until:
            break
        if line.stream not in wanted or (since is not None and line.instant < since):
            continue
        stamp = f"{_padded(line.time)} " if stamped else ""
        data = f"{stamp}{details}{line.text}".encode("utf-8", "surrogateescape")
        await response.write(data if tty else frame(stream_kind(line), data))
    await response.write_eof()
    return response


async def records(
    daemon: Daemon, container_id: str, *, tail: int | None = None, follow: bool = False
) -> AsyncIterator[Record]:
    """What there is, then with `follow` what comes until the container ends. No thread waits."""
    reader = LogReader(daemon.containers.log_path(container_id))
    try:
        async for line in _batched(daemon, reader.existing(tail)):
            yield line
        if not follow:
            return
        with _Notices(daemon.containers.records.of(container_id)) as notices:
            while True:
                ended = not await daemon.run(daemon.containers.is_running, container_id)
                async for line in _batched(daemon, reader.more()):
                    yield line
                if ended:
                    return
                await notices.wait()
    finally:
        reader.close()


async def _batched(daemon: Daemon, lines: Iterator[Record]) -> AsyncIterator[Record]:
    while batch := await daemon.run(lambda: list(islice(lines, _BATCH))):
        for line in batch:
            yield line


class _Notices:
    """The kernel tells when something in a container's directory changes: its log, or its state."""

    def __init__(self, directory: os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        try:
            self._fd = calls.inotify(self._directory, calls.IN_MODIFY | calls.IN_CREATE | calls.IN_MOVED_TO)
        except OSError:  # removed meanwhile, or no more watches: look from time to time
            self._fd = -1
            return self
        asyncio.get_running_loop().add_reader(self._fd, self._noticed)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)

    async def wait(self) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), _SEEN_AFTER)
        except TimeoutError:
            return
        self._changed.clear()

    def _noticed(self) -> None:
        try:
            os.read(self._fd, 65536)
        except BlockingIOError:
            return
        self._changed.set()


def stream_kind(line: Record) -> bytes:
    return STDERR if line.stream == "stderr" else STDOUT


def _padded(moment: str) -> str:
    """Nine digits of the second, so that lines stand under each other."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}Z"


def _moment(text: str) -> int | None:
    """Nanoseconds of `unix[.nanos]`; 0 and nothing mean no limit."""
    whole, _, fraction = text.partition(".")
    if not text:
        return None
    if not whole.lstrip("-").isdigit() or (fraction and not fraction.isdigit()):
        raise BadRequest(f"not a time: {text[:40]!r}; write seconds since 1970, like 1700000000.5")
    found = int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")
    return found if found > 0 else None
