"""News from the journal, handed to all who wait for something to happen.

Promises: whoever listens before an action is told of it, whichever process did it; a listener that does not take its
news for long is told that it missed some, and costs bounded memory.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.container.journal import Happened, Journal
from runner.kernel import calls

KEPT = 256  # events for `since`, as dockerd keeps
_WAITING = 4096  # events that a listener may leave waiting
_SEEN_AFTER = 2.0  # seconds between looks, should a notice of the kernel be lost (its queue was full)


class Hub:
    """Reads the journal of one run directory as it is written. Lives in one event loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal = Journal(directory)
        self._listeners: set[asyncio.Queue[Happened | None]] = set()
        self._notices = -1
        self._timer: asyncio.TimerHandle | None = None
        self.past: deque[Happened] = deque(maxlen=KEPT)

    def open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._notices = calls.inotify(str(self._directory), calls.IN_MODIFY | calls.IN_CREATE | calls.IN_MOVED_TO)
        self.past.extend(self._journal.past())
        asyncio.get_running_loop().add_reader(self._notices, self._noticed)
        self._look()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._notices >= 0:
            asyncio.get_running_loop().remove_reader(self._notices)
            os.close(self._notices)
            self._notices = -1
        self._journal.close()
        for queue in self._listeners:
            _put(queue, None)

    @contextmanager
    def listen(self) -> Iterator["asyncio.Queue[Happened | None]"]:
        """All that happens from now on; None: something was missed, or the daemon stops."""
        queue: asyncio.Queue[Happened | None] = asyncio.Queue(_WAITING)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def read(self) -> None:
        """Hand on what was written by now; for whoever wrote it and can't wait for the kernel to say so."""
        for happened in self._journal.more():
            self.past.append(happened)
            for queue in self._listeners:
                _put(queue, happened)

    def _noticed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._notices, 65536)
        self.read()

    def _look(self) -> None:
        self.read()
        self._timer = asyncio.get_running_loop().call_later(_SEEN_AFTER, self._look)


def _put(queue: "asyncio.Queue[Happened | None]", happened: Happened | None) -> None:
    try:
        queue.put_nowait(happened)
    except asyncio.QueueFull:
        queue.get_nowait()
        queue.put_nowait(None)
