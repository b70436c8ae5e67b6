"""How pull, push and load look on stderr: live bars on a terminal, a line for each change elsewhere, or nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from pybuild.cli import human

if TYPE_CHECKING:
    from rich.table import Table

    from registry.client import Progress

_BAR = 30  # characters
_REFRESH = 10  # times a second
_SHOWN = 30  # rows of a live display


@contextmanager
def transfer_progress(stream: TextIO, *, quiet: bool = False) -> "Iterator[Progress]":
    """A listener for `registry.client` and `registry.layouts`."""
    from registry.client import Silent

    if quiet:
        yield Silent()
    elif stream.isatty():
        with _live(stream) as live:
            yield live
    else:
        yield Lines(stream)


class Lines:
    """`0123456789ab: Pull complete`; how far it is changes too often for lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: dict[str, str] = {}
        self._lock = threading.Lock()

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        del current, total
        with self._lock:
            if what and self._told.get(what) == status:
                return
            self._told[what] = status
            self._stream.write(f"{what}: {status}\n" if what else f"{status}\n")
            self._stream.flush()


class Bars:
    """What a live display shows: a row for each blob, in the order in which they came up, below what is said once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rows: dict[str, tuple[str, int, int]] = {}
        self._lock = threading.Lock()

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        if not what:
            self._say(status)
            return
        with self._lock:
            self._rows[what] = (status, current, total)

    def __rich__(self) -> "Table":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        with self._lock:
            rows = list(self._rows.items())
        for what, (status, current, total) in rows[-_SHOWN:]:
            moving = total and current < total
            bar = ProgressBar(total, current, width=_BAR) if moving else Text("")
            amount = f"{human.size(current)}/{human.size(total)}" if moving else ""
            grid.add_row(Text(f"{what}:"), Text(status), bar, Text(amount))
        return grid


@contextmanager
def _live(stream: TextIO) -> Iterator[Bars]:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    bars = Bars(lambda line: console.print(line, markup=False, highlight=False))
    with Live(bars, console=console, refresh_per_second=_REFRESH):
        yield bars
