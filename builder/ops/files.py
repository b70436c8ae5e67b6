"""What vertices hand to each other: a file system, a context, the files of a commit, a downloaded file.

Each can be copied from or mounted, and is told by a name that stands for all of it, or by the content that a step
selects from it.
"""

import contextlib
import errno
import os
import posixpath
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from builder.dockerfile.ignore import IgnoreRules
from builder.dockerfile.match import escaped
from builder.errors import ContextError
from builder.ops.context import Context
from builder.ops.workshop import Workshop, closing
from builder.plan.vertices import HttpOp
from builder.progress import Step
from builder.solver.results import Tree
from registry.model import Digest

_PLACE = "mount"  # what a copied selection is called in its scratch directory
_OVERLAY = "the stage or image it comes from"


@dataclass(frozen=True, slots=True)
class Selection:
    """What a step takes from one of its sources."""

    paths: Sequence[str]
    excludes: Sequence[str] = ()
    parents: bool = False  # COPY --parents


@dataclass(frozen=True, slots=True)
class TreeFiles:
    """A file system: what a stage or an image holds."""

    tree: Tree

    @property
    def name(self) -> str | None:
        """Stands for the whole content; None if nothing does."""
        return self.tree.chain or "scratch"

    def digest(self, selection: Selection, shop: Workshop, step: Step) -> Digest:
        """Of what a step selects."""
        from builder.cache.filemap import FileMap, FileState
        from builder.ops.selection import selection_digest
        from builder.ops.sources import Source

        files: dict[str, FileState] = {}
        with shop.view(self.tree, step) as root:
            sources = [Source(root, path, where=_OVERLAY, parents=selection.parents) for path in selection.paths]
            digest = selection_digest(sources, selection.excludes, files, check=shop.cancellation.check)
        shop.selections[str(digest)] = lambda: FileMap(files)
        return digest

    @contextlib.contextmanager
    def opened(self, shop: Workshop, step: Step, path: str, *, writable: bool) -> Iterator[int]:
        """What lies at `path`, as a detached mount. Writes to a writable one are thrown away."""
        from runner.kernel.mounts import overlay_tree

        if not writable:
            with shop.view(self.tree, step) as root, _part(root, path, shop) as part:
                yield part
            return
        with (
            shop.scratch(shop.unpacked(self.tree, step)) as snapshot,
            closing(overlay_tree(snapshot.lower, snapshot.upper, snapshot.work)) as root,
            _part(root, path, shop) as part,
        ):
            yield part


@dataclass(frozen=True, slots=True)
class ContextFiles:
    """Files of this machine. They are never mounted themselves: a step gets a copy, owned by root."""

    context: Context

    @property
    def name(self) -> str | None:
        return None

    def digest(self, selection: Selection, shop: Workshop, step: Step) -> Digest:
        del step
        self.context.check = shop.cancellation.check
        digest, files, stamp = self.context.select(selection.paths, selection.excludes, parents=selection.parents)
        shop.selections[str(digest)] = files

        def is_unchanged() -> bool:
            with contextlib.suppress(ContextError, OSError):
                return stamp == self.context.stamp(selection.paths, selection.excludes, parents=selection.parents)
            return False

        shop.unchanged[str(digest)] = is_unchanged
        return digest

    @contextlib.contextmanager
    def opened(self, shop: Workshop, step: Step, path: str, *, writable: bool) -> Iterator[int]:
        del step, writable
        with self.root() as root, copied(root, path, shop, ignore=self.context.rules) as tree:
            yield tree

    def close(self) -> None:
        self.context.close()

    def root(self) -> contextlib.AbstractContextManager[int]:
        """The directory, as a descriptor."""
        return closing(os.open(self.context.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file from a web server. It can be copied only."""

    op: HttpOp
    content: Digest
    modified: int = 0  # seconds since 1970

    @property
    def name(self) -> str | None:
        return f"{self.content} {self.op.filename} {self.modified}"

    def digest(self, selection: Selection, shop: Workshop, step: Step) -> Digest:
        """As of all files, without the time."""
        del selection, shop, step
        return Digest.of(f"{self.content} {self.op.filename}".encode())


class LateFiles:
    """Files that are known by a name, and had only when somebody looks at them: those of a commit.

    Args:
        name: stands for the whole content.
        open_context: gets them; what it gives is ours to close.
    """

    def __init__(self, name: str, open_context: Callable[[], Context]) -> None:
        self.name: str | None = name
        self._open = open_context
        self._lock = threading.Lock()
        self._files: ContextFiles | None = None

    def files(self) -> ContextFiles:
        """Raises BuilderError: they can't be had."""
        with self._lock:
            if self._files is None:
                self._files = ContextFiles(self._open())
            return self._files

    def digest(self, selection: Selection, shop: Workshop, step: Step) -> Digest:
        return self.files().digest(selection, shop, step)

    def opened(
        self, shop: Workshop, step: Step, path: str, *, writable: bool
    ) -> contextlib.AbstractContextManager[int]:
        return self.files().opened(shop, step, path, writable=writable)

    def close(self) -> None:
        with self._lock:
            if self._files is not None:
                self._files.close()
                self._files = None


Mountable = TreeFiles | ContextFiles | LateFiles
Files = Mountable | WebFile


@contextlib.contextmanager
def copied(
    root: int, path: str, shop: Workshop, *, ignore: IgnoreRules | None = None, keep_owner: bool = False
) -> Iterator[int]:
    """A copy of what lies at `path` below `root`, as a detached mount; it is gone afterwards."""
    from builder.ops.copy import CopyRequest, Source, copy_into
    from runner.kernel.mounts import bind
    from runner.kernel.paths import stat_in_root

    source = Source(root, escaped(path), ignore or IgnoreRules(), keep_owner=keep_owner)
    with shop.scratch() as snapshot:
        with closing(os.open(snapshot.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as target:
            copy_into(target, CopyRequest((source,), f"/{_PLACE}"))
        place = posixpath.join(snapshot.upper, _PLACE)
        found = stat_in_root(root, path)
        if stat.S_ISDIR(found.st_mode) and posixpath.normpath("/" + path).strip("/"):
            os.chmod(place, stat.S_IMODE(found.st_mode))
            if keep_owner:
                os.chown(place, found.st_uid, found.st_gid)
        with closing(bind(place)) as tree:
            yield tree


@contextlib.contextmanager
def _part(root: int, path: str, shop: Workshop) -> Iterator[int]:
    """The mount `root` itself, or a part of it as a mount of its own."""
    from runner.kernel.mounts import bind
    from runner.kernel.paths import open_in_root

    if posixpath.normpath("/" + path).strip("/") == "":
        yield root
        return
    with contextlib.ExitStack() as opened:
        part = opened.enter_context(closing(open_in_root(root, path, os.O_PATH)))
        try:
            tree = opened.enter_context(closing(bind("", directory=part)))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            tree = opened.enter_context(copied(root, path, shop, keep_owner=True))  # before Linux 6.15
        yield tree
