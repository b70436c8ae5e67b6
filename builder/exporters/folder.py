"""The files of images into a directory of this machine."""

import os
from collections.abc import Sequence

from builder.errors import BuilderError
from builder.layers.entries import entries
from builder.ops.copy import CopyRequest, Source, copy_into
from runner.kernel.calls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

Tree = tuple[str, int]  # the name below which it goes (empty: none), and its root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def write_folder(trees: Sequence[Tree], folder: str, *, clear: bool = False, seconds: int | None = None) -> None:
    """Copy trees into a folder, which is made if absent; what it holds otherwise stays, unless it is to be cleared.

    Args:
        trees: what to copy. Those that go to the same place may share directories only.
        folder: where.
        clear: empty it first.
        seconds: the time that everything copied gets; None keeps that of the image.

    Raises:
        BuilderError: two trees have a file of the same name. OSError: it can't be written.
    """
    check_apart(trees)
    os.makedirs(folder, exist_ok=True)
    if clear:
        _clear(folder)
    target = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, root in trees:
            copy_into(target, CopyRequest((Source(root, "/", keep_owner=True),), f"/{name}/" if name else "/"))
            if seconds is not None:
                _stamp(root, target, name, seconds)
    finally:
        os.close(target)


def check_apart(trees: Sequence[Tree]) -> None:
    """Raises BuilderError: a file of one tree would overwrite another's."""
    if len({name for name, _ in trees}) == len(trees):
        return
    seen: dict[str, bool] = {}  # by path: whether it is a directory
    for _, root in trees:
        mine: dict[str, bool] = {}
        for member in entries(root):
            mine[member.path] = member.is_dir
        for path in mine.keys() & seen.keys():
            if not (mine[path] and seen[path]):
                raise BuilderError(
                    f"several platforms have a file {path}",
                    hint="leave platform-split=false out: one directory each",
                )
        seen |= mine


def _clear(folder: str) -> None:
    from builder.snapshots.trees import remove_tree

    if os.path.realpath(folder) == "/":
        raise BuilderError("mode=delete would remove all files of this machine", hint="choose another dest=")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
            else:
                os.unlink(entry.path)


def _stamp(root: int, target: int, below: str, seconds: int) -> None:
    """Give the copy of each file of a tree one time."""
    for member in entries(root):
        above = os.path.join(below, os.path.dirname(member.path)) or "."
        directory = openat2(target, os.fsencode(above), _DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        try:
            os.utime(member.name, (seconds, seconds), dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
