"""Runs a graph: each vertex once, as soon as its inputs are there, several at a time.

Gives:    run_graph(), and Cancellation, which long steps look at.
Promises: after the first failure nothing new starts, what runs is told to stop and is waited for, and that first
          failure is what the caller sees; the same for Ctrl-C. No thread outlives the call.
Not here: what a vertex does.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from builder.errors import BuilderError
from builder.plan.vertices import Vertex, in_order
from registry.model import Digest

Result = TypeVar("Result")


class Canceled(BuilderError):
    """The step was stopped because the build ends; never the reason that a user is told."""


class Cancellation:
    """Tells running steps that the build ends. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stoppers: list[Callable[[], None]] = []
        self._canceled = threading.Event()

    def cancel(self) -> None:
        with self._lock:
            self._canceled.set()
            stoppers, self._stoppers = self._stoppers, []
        for stop in stoppers:
            stop()

    @property
    def requested(self) -> bool:
        return self._canceled.is_set()

    def check(self) -> None:
        """Raises Canceled if the build ends."""
        if self.requested:
            raise Canceled("canceled")

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the build ends. Raises Canceled."""
        if self._canceled.wait(seconds):
            raise Canceled("canceled")

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the body runs, `stop` is called (from another thread) if the build ends; at once if it already has."""
        with self._lock:
            ended = self.requested
            if not ended:
                self._stoppers.append(stop)
        if ended:
            stop()
        try:
            yield
        finally:
            with self._lock:
                if stop in self._stoppers:
                    self._stoppers.remove(stop)


Solve = Callable[[Vertex, Sequence[Result]], Result]


def run_graph(
    root: Vertex, solve: Solve[Result], *, workers: int, cancellation: Cancellation | None = None
) -> Mapping[Digest, Result]:
    """Solve `root` and all it needs.

    Args:
        root: the vertex whose result is wanted.
        solve: does one vertex, given the results of its inputs; called from several threads.
        workers: how many at a time.
        cancellation: is canceled when something fails.

    Returns:
        The result of every vertex, by its digest.

    Raises:
        The first error that `solve` raised; KeyboardInterrupt.
    """
    return _Run(root, solve, cancellation or Cancellation()).run(workers)


class _Run(Generic[Result]):
    """The state of one run; every field is guarded by `_changed`."""

    def __init__(self, root: Vertex, solve: Solve[Result], cancellation: Cancellation) -> None:
        vertices = list(in_order([root]))
        self._solve = solve
        self._cancellation = cancellation
        self._changed = threading.Condition()
        self._results: dict[Digest, Result] = {}
        self._missing = {vertex.digest: len({below.digest for below in vertex.inputs}) for vertex in vertices}
        self._users: dict[Digest, list[Vertex]] = {vertex.digest: [] for vertex in vertices}
        for vertex in vertices:
            for below in {below.digest for below in vertex.inputs}:
                self._users[below].append(vertex)
        self._ready = deque(vertex for vertex in vertices if not vertex.inputs)
        self._left = len(vertices)
        self._alive = 0
        self._error: BaseException | None = None

    def run(self, workers: int) -> Mapping[Digest, Result]:
        self._alive = min(workers, self._left)
        threads = [threading.Thread(target=self._work, name=f"build-{number}") for number in range(self._alive)]
        for thread in threads:
            thread.start()
        try:
            self._wait()
        except BaseException as error:  # noqa: BLE001 -- Ctrl-C above all; raised below when the threads are done
            self._fail(error)
            self._wait()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return self._results

    def _wait(self) -> None:
        """Until every worker is done. Not by join(): one that a signal interrupts takes the thread for dead."""
        with self._changed:
            while self._alive:
                self._changed.wait()

    def _work(self) -> None:
        try:
            while (vertex := self._next()) is not None:
                result = self._solve(vertex, [self._results[below.digest] for below in vertex.inputs])
                self._finish(vertex, result)
        except BaseException as error:  # noqa: BLE001 -- handed to the caller's thread and raised there
            self._fail(error)
        finally:
            with self._changed:
                self._alive -= 1
                self._changed.notify_all()

    def _next(self) -> Vertex | None:
        with self._changed:
            while not self._ready and self._left and self._error is None:
                self._changed.wait()
            if self._error is not None or not self._ready:
                return None
            return self._ready.popleft()

    def _finish(self, vertex: Vertex, result: Result) -> None:
        with self._changed:
            self._results[vertex.digest] = result
            self._left -= 1
            for user in self._users[vertex.digest]:
                self._missing[user.digest] -= 1
                if not self._missing[user.digest]:
                    self._ready.append(user)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None or (isinstance(self._error, Canceled) and not isinstance(error, Canceled)):
                self._error = error
            self._changed.notify_all()
        self._cancellation.cancel()
