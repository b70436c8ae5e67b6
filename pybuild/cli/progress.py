"""How the progress of a build looks: numbered lines, a live display, JSON lines, or nothing. Always on stderr.

Gives:    progress_to(stream, style), a context manager that yields a listener for the builder's events.
Not here: what happens in a build (builder/progress.py tells it).
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from builder.progress import (
    Event,
    Listener,
    Notice,
    StepCanceled,
    StepDone,
    StepFailed,
    StepLog,
    StepStarted,
    StepStatus,
    Warned,
)  # fmt: skip
from pybuild.cli.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

STYLES = ("auto", "plain", "tty", "quiet", "rawjson")
_TAIL = 6  # lines of output shown below a running step
_REFRESH = 12  # times a second


@contextmanager
def progress_to(stream: TextIO, style: str = "auto", *, debug: bool = False) -> Iterator[Listener]:
    """A listener that draws on `stream`; `auto` is live on a terminal, numbered lines elsewhere.

    What the build checks found is told at the end, however that comes; with `debug` all that is known about it.
    """
    if style == "auto":
        style = "tty" if stream.isatty() else "plain"
    renderers: dict[str, type[_Renderer]] = {"plain": Plain, "tty": Live, "quiet": Quiet, "rawjson": RawJson}
    warned: list[Warned] = []

    def show(event: Event) -> None:
        if isinstance(event, Warned):
            warned.append(event)
        renderer.show(event)

    try:
        with renderers[style](stream) as renderer:
            yield show
    finally:
        if warned and style in {"plain", "tty"}:
            stream.write(plain("".join(_warnings(warned, debug=debug))))
            stream.flush()


def _warnings(warned: Sequence[Warned], *, debug: bool) -> Iterator[str]:
    """As buildx tells them."""
    count = "1 warning" if len(warned) == 1 else f"{len(warned)} warnings"
    yield f"\n {count} found{'' if debug else ' (use --debug to expand)'}:\n"
    for warning in warned:
        yield f" - {warning.short}\n"
        if debug:
            yield f"{warning.description}\n"
            yield f"More info: {warning.url}\n" if warning.url else ""
            yield f"{warning.excerpt}\n\n"


class _Renderer(Protocol):
    def __init__(self, stream: TextIO) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, event: Event) -> None: ...


class _Lines:
    """A renderer that keeps nothing open."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()


class Quiet(_Lines):
    def show(self, event: Event) -> None:
        """Nothing: errors are told by main()."""


class RawJson(_Lines):
    """One JSON object a line, for programs."""

    def show(self, event: Event) -> None:
        fields = {name: getattr(event, name) for name in event.__slots__}
        self._stream.write(json.dumps({"event": type(event).__name__, **fields}) + "\n")
        self._stream.flush()


class Plain(_Lines):
    """`#5 [2/4] RUN make`, `#5 0.512 output`, `#5 DONE 0.6s`; a blank line where the steps change."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._last = 0
        self._told: dict[tuple[int, str], str] = {}

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._stream.write(f"WARNING: {event.text}\n")
        elif isinstance(event, Warned):
            return  # it is told at the end
        elif (text := self._line(event)) is not None:
            if self._last not in {0, event.step}:
                self._stream.write("\n")
            self._last = event.step
            self._stream.write(f"#{event.step} {text}\n")
        self._stream.flush()

    def _line(self, event: StepStarted | StepLog | StepStatus | StepDone | StepFailed | StepCanceled) -> str | None:
        match event:
            case StepStarted():
                return event.name
            case StepLog():
                return f"{event.seconds:.3f} {event.line}"
            case StepStatus():
                key = (event.step, event.what)
                if self._told.get(key) == event.status:
                    return None  # how far it is changes too often for lines
                self._told[key] = event.status
                return f"{event.what} {event.status}"
            case StepDone():
                return "CACHED" if event.cached else f"DONE {event.seconds:.1f}s"
            case StepFailed():
                return f"ERROR: {event.message}"
            case StepCanceled():
                return "CANCELED"


@dataclass
class _Row:
    """What the live display knows of one step."""

    name: str
    began: float
    state: str = "running"  # running, done, cached, failed, canceled
    seconds: float = 0.0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    transfers: dict[str, StepStatus] = field(default_factory=dict)


class Live:
    """Steps with their times, the last lines of what running steps print, and bars for transfers."""

    def __init__(self, stream: TextIO) -> None:
        import threading
        import time

        from rich.console import Console
        from rich.live import Live as RichLive

        self._clock = time.monotonic
        self._began = self._clock()
        self._lock = threading.Lock()  # it is drawn by a thread of its own
        self._rows: dict[int, _Row] = {}
        self._notices: list[str] = []
        self._console = Console(file=stream, highlight=False)
        self._live = RichLive(
            get_renderable=self._draw, console=self._console, refresh_per_second=_REFRESH, redirect_stderr=False,
            redirect_stdout=False, vertical_overflow="crop",
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        for text in self._notices:
            self._console.print(f"[yellow]warning:[/] {_escaped(text)}")

    def show(self, event: Event) -> None:
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._notices.append(event.text)
            return
        if isinstance(event, Warned):
            return  # it is told at the end
        if isinstance(event, StepStarted):
            self._rows[event.step] = _Row(event.name, self._clock())
            return
        row = self._rows[event.step]
        match event:
            case StepLog():
                row.tail.append("".join(char for char in event.line.expandtabs() if char.isprintable()))
            case StepStatus():
                row.transfers[event.what] = event
            case StepDone():
                row.state, row.seconds = ("cached" if event.cached else "done"), event.seconds
            case StepFailed():
                row.state, row.seconds = "failed", event.seconds
            case StepCanceled():
                row.state, row.seconds = "canceled", event.seconds

    def _draw(self) -> "RenderableType":
        with self._lock:
            return self._drawn()

    def _drawn(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        finished = sum(row.state != "running" for row in self._rows.values())
        width = max(self._console.width, 40)
        lines = [Text(f"[+] Building {self._clock() - self._began:.1f}s ({finished}/{len(self._rows)})", style="bold")]
        for row in self._visible():
            lines.append(self._row(row, width))
            if row.state in {"running", "failed"}:
                lines += [Text(f" => => # {line}"[:width], style="dim") for line in row.tail]
            if row.state == "running":
                lines += [Text(_transfer(status)[:width], style="dim") for status in row.transfers.values()]
        return Group(*lines)

    def _visible(self) -> list[_Row]:
        """All steps when the screen holds them, else running and failed ones with the latest of the others."""
        rows = list(self._rows.values())
        room = max(self._console.height - 2, 5)
        need = [1 + (len(row.tail) + len(row.transfers) if row.state in {"running", "failed"} else 0) for row in rows]
        while rows and sum(need) > room:
            quiet = [at for at, row in enumerate(rows) if row.state not in {"running", "failed"}]
            at = quiet[0] if quiet else 0
            del rows[at], need[at]
        return rows

    def _row(self, row: _Row, width: int) -> "Text":
        from rich.text import Text

        marks = {"cached": "CACHED ", "failed": "ERROR ", "canceled": "CANCELED "}
        seconds = self._clock() - row.began if row.state == "running" else row.seconds
        timing = f"{seconds:.1f}s"
        left = f" => {marks.get(row.state, '')}{row.name}"
        room = width - len(timing) - 2
        left = left if len(left) <= room else left[: room - 1] + "…"
        styles = {"running": "", "done": "blue", "cached": "blue", "failed": "red", "canceled": "yellow"}
        return Text(f"{left:<{room}} {timing}", style=styles[row.state])


def _transfer(status: StepStatus) -> str:
    far = (
        f" {_amount(status.current)}" + (f" / {_amount(status.total)}" if status.total else "")
        if status.current
        else ""
    )
    return f" => => {status.what} {status.status}{far}"


def _amount(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f}{unit}" if unit == "B" else f"{size:.2f}{unit}"
        size /= 1000
    return f"{size:.2f}GB"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
