"""Runs a graph: each vertex once, as soon as its inputs are there, several at a time.

Gives:    run_graph(), and Cancellation, which long steps look at.
Promises: after the first failure nothing new starts, what runs is told to stop and is waited for, and that first
          failure is what the caller sees; the same for Ctrl-C, however often it comes. No thread outlives the call.
          With keep_going, only what needs a failed vertex is left out.
Not here: what a vertex does.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from builder.errors import BuilderError
from builder.plan.vertices import Vertex, in_order
from registry.model import Digest

Result = TypeVar("Result")
_POLL = 0.1  # seconds between two looks at whether steps may begin early


class Canceled(BuilderError):
    """The step was stopped because the build ends; never the reason that a user is told."""


class VertexFailed(Exception):
    """A step failed for a reason that the user can act on; whoever has the Dockerfile makes a message of it.

    `others` are those that failed after it, if the build went on.
    """

    def __init__(self, vertex: Vertex, reason: Exception) -> None:
        super().__init__(str(reason))
        self.vertex = vertex
        self.reason = reason
        self.others: tuple[VertexFailed, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Early(Generic[Result]):
    """How to begin a vertex that `begins_early` while its first input is not there yet.

    `begin` is given the results of the others. It is called when nothing can be solved, at most once for a vertex, and
    not while that is solved. `may_begin` says whether it is time for any of that; it is asked again and again.
    """

    begin: Callable[[Vertex, Sequence[Result]], None]
    may_begin: Callable[[], bool] = lambda: True


def run_graph(
    roots: Sequence[Vertex],
    solve: Solve[Result],
    *,
    workers: int,
    cancellation: Cancellation | None = None,
    early: Early[Result] | None = None,
    keep_going: bool = False,
) -> Mapping[Digest, Result]:
    """Solve `roots` and all they need.

    Args:
        roots: the vertices whose results are wanted; what several need is done once.
        solve: does one vertex, given the results of its inputs; called from several threads.
        workers: how many at a time.
        cancellation: is canceled when something fails.
        early: begins vertices before they can be solved.
        keep_going: after a VertexFailed, go on with what does not need that vertex.

    Returns:
        The result of every vertex, by its digest.

    Raises:
        The first error that `solve` or `early` raised; KeyboardInterrupt.
    """
    return _Run(roots, solve, early, cancellation or Cancellation(), keep_going=keep_going).run(workers)


class _Run(Generic[Result]):
    """The state of one run; every field is guarded by `_changed`."""

    def __init__(
        self,
        roots: Sequence[Vertex],
        solve: Solve[Result],
        early: Early[Result] | None,
        cancellation: Cancellation,
        *,
        keep_going: bool,
    ) -> None:
        vertices = list(in_order(roots))
        self._solve = solve
        self._beginner = early
        self._cancellation = cancellation
        self._keep_going = keep_going
        self._changed = threading.Condition()
        self._results: dict[Digest, Result] = {}
        self._missing = {vertex.digest: {below.digest for below in vertex.inputs} for vertex in vertices}
        self._users: dict[Digest, list[Vertex]] = {vertex.digest: [] for vertex in vertices}
        for vertex in vertices:
            for below in self._missing[vertex.digest]:
                self._users[below].append(vertex)
        self._left = {vertex.digest for vertex in vertices}
        self._ready = deque(vertex for vertex in vertices if not vertex.inputs)
        self._early = deque(vertex for vertex in vertices if self._can_begin(vertex))
        self._beginning: set[Digest] = set()  # vertices that a thread has begun, before they can be solved
        self._alive = 0
        self._error: BaseException | None = None
        self._failures: list[VertexFailed] = []

    def run(self, workers: int) -> Mapping[Digest, Result]:
        self._alive = min(workers, len(self._left))
        threads = [threading.Thread(target=self._work, name=f"build-{number}") for number in range(self._alive)]
        try:
            for thread in threads:
                thread.start()
            self._wait()
        except BaseException as error:  # noqa: BLE001 -- Ctrl-C above all; raised below when the threads are done
            with self._changed:
                self._alive -= sum(thread.ident is None for thread in threads)
            self._end(error)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        if self._error is not None:
            raise self._error
        if self._failures:
            first, *others = self._failures
            first.others = tuple(others)
            raise first
        return self._results

    def _end(self, error: BaseException) -> None:
        """Stop everything, and wait until it has: whoever presses Ctrl-C twice wants that, not threads left behind."""
        while True:
            try:
                self._fail(error)
                self._wait()
            except BaseException as another:  # noqa: BLE001 -- as in run()
                error = another
            else:
                return

    def _wait(self) -> None:
        """Until every worker is done. Not by join(): one that a signal interrupts takes the thread for dead."""
        with self._changed:
            while self._alive:
                self._changed.wait()

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                vertex, early = task
                try:
                    if early:
                        self._begun(vertex)
                    else:
                        result = self._solve(vertex, [self._results[below.digest] for below in vertex.inputs])
                        self._finish(vertex, result)
                except VertexFailed as error:
                    if not self._keep_going:
                        raise
                    self._leave_out(vertex, error)
        except BaseException as error:  # noqa: BLE001 -- handed to the caller's thread and raised there
            self._fail(error)
        finally:
            with self._changed:
                self._alive -= 1
                self._changed.notify_all()

    def _next(self) -> tuple[Vertex, bool] | None:
        """A vertex to solve, else one to begin early."""
        with self._changed:
            while self._left and self._error is None:
                if self._ready:
                    return self._ready.popleft(), False
                while self._early and self._beginner is not None and self._beginner.may_begin():
                    vertex = self._early.popleft()
                    if self._can_begin(vertex):
                        self._beginning.add(vertex.digest)
                        return vertex, True
                self._changed.wait(_POLL if self._early else None)
            return None

    def _can_begin(self, vertex: Vertex) -> bool:
        """Whether the file system that it stands on is all that it waits for."""
        if self._beginner is None or not vertex.begins_early or vertex.digest not in self._left:
            return False
        below, *others = vertex.inputs
        missing = self._missing[vertex.digest]
        return missing == {below.digest} and below.digest not in {each.digest for each in others}

    def _begun(self, vertex: Vertex) -> None:
        assert self._beginner is not None, "nothing is begun early without it"
        self._beginner.begin(vertex, [self._results[below.digest] for below in vertex.inputs[1:]])
        with self._changed:
            self._beginning.discard(vertex.digest)
            if not self._missing[vertex.digest]:
                self._ready.append(vertex)  # what it stands on came meanwhile
                self._changed.notify_all()

    def _finish(self, vertex: Vertex, result: Result) -> None:
        with self._changed:
            self._results[vertex.digest] = result
            self._left.discard(vertex.digest)
            for user in self._users[vertex.digest]:
                missing = self._missing[user.digest]
                missing.discard(vertex.digest)
                if not missing and user.digest in self._left and user.digest not in self._beginning:
                    self._ready.append(user)
                elif self._can_begin(user):
                    self._early.append(user)
            self._changed.notify_all()

    def _leave_out(self, vertex: Vertex, error: VertexFailed) -> None:
        """A vertex failed: go on without it and all that needs it."""
        with self._changed:
            self._failures.append(error)
            stack = [vertex]
            while stack:
                without = stack.pop()
                if without.digest in self._left:
                    self._left.discard(without.digest)
                    stack += self._users[without.digest]
            self._ready = deque(each for each in self._ready if each.digest in self._left)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None or (isinstance(self._error, Canceled) and not isinstance(error, Canceled)):
                self._error = error
            self._changed.notify_all()
        self._cancellation.cancel()
