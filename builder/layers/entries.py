"""All that a directory holds, however deep it is."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Member:
    """One file, link, device or directory: `name` in `parent`, which is open until the next one comes."""

    path: str  # from the top
    name: str
    parent: int
    stat: os.stat_result

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


def entries(top: int) -> Iterator[Member]:
    """What lies below an open directory; directories before what is in them, names sorted."""
    handle = os.open(".", _DIRECTORY, dir_fd=top)
    levels = [(handle, "", sorted(os.listdir(handle), reverse=True))]
    try:
        while levels:
            handle, prefix, names = levels[-1]
            if not names:
                os.close(levels.pop()[0])
                continue
            name = names.pop()
            found = Member(prefix + name, name, handle, os.stat(name, dir_fd=handle, follow_symlinks=False))
            yield found
            if found.is_dir:
                below = os.open(name, _DIRECTORY, dir_fd=handle)
                levels.append((below, f"{found.path}/", []))
                levels[-1][2].extend(sorted(os.listdir(below), reverse=True))
    finally:
        for handle, _, _ in levels:
            os.close(handle)
