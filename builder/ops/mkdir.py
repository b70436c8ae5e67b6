"""WORKDIR: a directory, and what is missing above it, made as the user of the moment (reference §1.5)."""

import os
import posixpath
import stat

from builder.errors import BuilderError
from builder.ops.workshop import closing
from builder.plan.vertices import MkdirOp
from builder.snapshots import Snapshot
from runner.container.users import resolve_user
from runner.errors import RunnerError
from runner.kernel.mounts import overlay_tree
from runner.kernel.paths import open_in_root

_MODE = 0o755


def make_directory(op: MkdirOp, snapshot: Snapshot) -> int:
    """Work on the snapshot; says 0: nothing went in that has a time."""
    with closing(overlay_tree(snapshot.lower, snapshot.upper, snapshot.work)) as root:
        try:
            _make(root, op.path, _owner(root, op.user) if op.user else None)
        except RunnerError as error:
            raise BuilderError(f"WORKDIR {op.path}: {error}", hint=error.hint) from None
        except OSError as error:
            raise BuilderError(
                f"can't make the directory {op.path}: {os.strerror(error.errno or 0)}",
                hint="something in the image is in its way",
            ) from None
    return 0


def _owner(root: int, user: str) -> tuple[int, int]:
    """A number alone is the group too, as with --chown (BuildKit's user_linux.go, readUser)."""
    found = resolve_user(root, f"{user}:{user}" if user.isdecimal() else user)
    return found.uid, found.gid


def _make(root: int, path: str, owner: tuple[int, int] | None) -> None:
    missing: list[str] = []
    while not _is_there(root, path):
        missing.append(path)
        path = posixpath.dirname(path)
    for place in reversed(missing):
        _make_one(root, place, owner)


def _is_there(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        return False
    return True


def _make_one(root: int, path: str, owner: tuple[int, int] | None) -> None:
    above, name = posixpath.split(path)
    with closing(open_in_root(root, above, os.O_PATH | os.O_DIRECTORY)) as parent:
        os.mkdir(name, _MODE, dir_fd=parent)
        with closing(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as made:
            inherited = os.fstat(made).st_mode & stat.S_ISGID  # from the directory above, and then its group too
            if owner is not None:
                os.fchown(made, *owner)
            os.fchmod(made, _MODE | inherited)  # whatever the umask of who builds
