"""What a build tells while it runs: events as frozen data, handed to one listener.

Gives:    the events; a Reporter that numbers the steps and stamps the times.
Promises: the listener is called by one thread at a time; an event of a step comes after its StepStarted.
Not here: how any of it looks (pybuild/cli/progress.py).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepStarted:
    step: int
    name: str


@dataclass(frozen=True, slots=True)
class StepLog:
    """One line that the step's command printed."""

    step: int
    line: str
    seconds: float  # since the step began


@dataclass(frozen=True, slots=True)
class StepStatus:
    """How far a transfer within the step is. Counts in bytes; `total` 0 when not known."""

    step: int
    what: str
    status: str
    current: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class StepDone:
    step: int
    seconds: float
    cached: bool = False


@dataclass(frozen=True, slots=True)
class StepFailed:
    step: int
    seconds: float
    message: str


@dataclass(frozen=True, slots=True)
class StepCanceled:
    """Another step failed, or the user interrupted."""

    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know that stops nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A finding of the build checks."""

    short: str  # rule, detail and line
    description: str
    url: str
    excerpt: str  # the lines of the Dockerfile


Event = StepStarted | StepLog | StepStatus | StepDone | StepFailed | StepCanceled | Notice | Warned
Listener = Callable[[Event], None]


class Step:
    """One numbered step; safe to use from any thread."""

    def __init__(self, number: int, emit: Listener) -> None:
        self.number = number
        self._emit = emit
        self._began = time.monotonic()
        self._seconds: float | None = None

    @property
    def seconds(self) -> float:
        """How long it is at it, or was until hold()."""
        return time.monotonic() - self._began if self._seconds is None else self._seconds

    def hold(self) -> None:
        """Its work is done; the time until it can end does not count."""
        self._seconds = self.seconds

    def log(self, line: str) -> None:
        self._emit(StepLog(self.number, line, self.seconds))

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        """The shape that transfers of registry/client report in."""
        self._emit(StepStatus(self.number, what, status, current, total))

    def notice(self, text: str) -> None:
        self._emit(Notice(text))

    def done(self, *, cached: bool = False) -> None:
        self._emit(StepDone(self.number, self.seconds, cached))

    def failed(self, message: str) -> None:
        self._emit(StepFailed(self.number, self.seconds, message))

    def canceled(self) -> None:
        self._emit(StepCanceled(self.number, self.seconds))


class Reporter:
    """Hands events to a listener, one at a time."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._count = 0

    def start(self, name: str) -> Step:
        with self._lock:
            self._count += 1
            step = Step(self._count, self._emit)
            if self._listener is not None:
                self._listener(StepStarted(step.number, name))
        return step

    def notice(self, text: str) -> None:
        self._emit(Notice(text))

    def warn(self, warned: Warned) -> None:
        self._emit(warned)

    def _emit(self, event: Event) -> None:
        if self._listener is not None:
            with self._lock:
                self._listener(event)
