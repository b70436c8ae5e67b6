"""COPY --link: a layer that is the same whatever lies below it, and yet leaves the directories there as they are.

It is made in an empty directory, so no link of the destination is followed and nothing but numbers can own a file.
BuildKit's directories on the way then override mode and owner of those below; ours get what those have.
"""

import os
import posixpath
import stat
from itertools import accumulate
from typing import NamedTuple

from runner.kernel.paths import open_in_root, stat_in_root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Above(NamedTuple):
    """A directory on the way to the destination, as the file system below has it."""

    path: str
    mode: int
    uid: int
    gid: int


def directories_above(destination: str, below: int) -> tuple[Above, ...]:
    """Those on the way to `destination` and itself, from the top to the first that is missing or no directory."""
    found: list[Above] = []
    for path in _prefixes(destination):
        try:
            seen = stat_in_root(below, path, follow=False)
        except (FileNotFoundError, NotADirectoryError):
            break
        if not stat.S_ISDIR(seen.st_mode):
            break
        found.append(Above(path, stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid))
    return tuple(found)


def are_plain(directories: tuple[Above, ...]) -> bool:
    """Whether they are as a copy makes them where they are missing: then the layer is the same with and without."""
    return all((each.mode, each.uid, each.gid) == (0o755, 0, 0) for each in directories)


def dress(upper: int, above: tuple[Above, ...]) -> None:
    """Make directories of the new layer look like those below."""
    for directory in above:
        try:
            handle = open_in_root(upper, directory.path, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return  # a file takes the directory's place, or nothing was copied
        try:
            os.fchown(handle, directory.uid, directory.gid)
            os.fchmod(handle, directory.mode)
        finally:
            os.close(handle)


def _prefixes(destination: str) -> list[str]:
    path = posixpath.normpath(destination).strip("/")
    return list(accumulate(path.split("/"), posixpath.join)) if path else []
