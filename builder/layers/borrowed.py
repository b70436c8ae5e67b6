"""Contents that a snapshot does not have itself: its layer takes them from where they lie.

A file system that nobody will look at, because only the layer is wanted, need not hold large files twice. There they
are files of the right size without content, and an open file for each that has it.
"""

import os
from types import TracebackType
from typing import Self

LEAST = 1 << 20  # bytes; below, copying costs no more than this does
_MOST = 256  # open files


class Borrowed:
    """By the path in the snapshot. A context manager, which closes the files."""

    def __init__(self) -> None:
        self._files: dict[bytes, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for path in list(self._files):
            self.forget(path)

    def __bool__(self) -> bool:
        return bool(self._files)

    def lend(self, path: bytes, file: int) -> bool:
        """Whether the content of that open file, from its beginning, is taken for that path from now on."""
        if len(self._files) >= _MOST:
            return False
        self.forget(path)
        self._files[path] = os.dup(file)
        return True

    def forget(self, path: bytes) -> None:
        if (file := self._files.pop(path, None)) is not None:
            os.close(file)

    def get(self, path: bytes) -> int | None:
        return self._files.get(path)
