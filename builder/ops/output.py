"""What a step's command prints: whole into a file, line by line to whoever watches, the end kept for error messages."""

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
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


def new_log_directory(root: Path) -> Path:
    """A directory for the logs of one build; those of long ago go. Names sort by time."""
    from builder.snapshots.trees import remove_tree

    builds = root / "builds"
    seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
    made = builds / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}.{fraction:09d}-{secrets.token_hex(2)}"
    made.mkdir(mode=0o700, parents=True)
    for old in sorted(builds.iterdir())[:-_KEPT]:
        remove_tree(str(old))
    return made


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
