"""Directories that stay open while things are made in them; few at a time, for an archive may have any number."""

import os
from collections import OrderedDict
from typing import AnyStr, Generic

_AT_ONCE = 64


class OpenDirectories(Generic[AnyStr]):
    """Descriptors by path. One stays good until so many others were asked for."""

    def __init__(self) -> None:
        self._open: OrderedDict[AnyStr, int] = OrderedDict()

    def get(self, path: AnyStr) -> int | None:
        handle = self._open.get(path)
        if handle is not None:
            self._open.move_to_end(path)
        return handle

    def keep(self, path: AnyStr, handle: int) -> int:
        """Look after a descriptor from now on."""
        self._open[path] = handle
        if len(self._open) > _AT_ONCE:
            os.close(self._open.popitem(last=False)[1])
        return handle

    def forget(self, path: AnyStr) -> None:
        """The directory is gone, and all below it."""
        below = os.path.join(path, path[:0])
        for known in [known for known in self._open if known == path or known.startswith(below)]:
            os.close(self._open.pop(known))

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
