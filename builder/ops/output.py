"""What a step's command prints: whole into a file, line by line to whoever watches, the end kept for error messages."""

import fcntl
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from builder.errors import BuildFailed

_LONGEST = 64 * 1024  # bytes of a line shown before its end is there
_TAIL = 20  # lines kept for an error message
_KEPT = 50  # builds whose logs and reports are kept


class StepFailed(BuildFailed):
    """The command ended with something else than 0. The solver adds the Dockerfile's lines."""

    def __init__(self, message: str, *, log: Path, tail: Sequence[str]) -> None:
        super().__init__(message, hint=f"its whole output is in {log}")
        self.tail = tuple(tail)


@contextmanager
def log_directory(root: Path) -> Iterator[Path]:
    """A directory for the logs of one build, which is its own while the body runs; those of long ago go.

    Names sort by time.
    """
    builds = root / "builds"
    seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
    made = builds / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}.{fraction:09d}-{secrets.token_hex(2)}"
    made.mkdir(mode=0o700, parents=True)
    handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for old in sorted(builds.iterdir())[:-_KEPT]:
            _remove_unused(old)
        yield made
    finally:
        os.close(handle)


def _remove_unused(directory: Path) -> None:
    """Leave it alone if its build still runs, or another one removes it."""
    from builder.snapshots.trees import remove_tree

    with suppress(FileNotFoundError, BlockingIOError):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(str(directory))
        finally:
            os.close(handle)


class OutputLog:
    """Takes bytes as they come. A context manager: the end of the output is the end of the last line."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._file = path.open("wb")
        self._show = show
        self._rest = b""

    def write(self, data: bytes) -> None:
        self._file.write(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > _LONGEST:
            self._line(self._rest)
            self._rest = b""

    def _line(self, raw: bytes) -> None:
        """A progress bar redraws its line after a carriage return; what stands there in the end is shown."""
        text = raw.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        self.tail.append(text)
        self._show(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._file.close()
