"""What vertices hand to each other: a file system, a context, a downloaded file.

Each can be copied from or mounted, and is told by a name that stands for all of it, or by the content that a step
selects from it.
"""

import contextlib
import errno
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.dockerfile.ignore import IgnoreRules
from builder.ops.context import Context
from builder.ops.workshop import Workshop, closing
from builder.plan.vertices import HttpOp
from builder.progress import Step
from builder.solver.results import Tree
from registry.model import Digest

_PLACE = "mount"  # what a copied selection is called in its scratch directory
_OVERLAY = "the stage or image it comes from"


@dataclass(frozen=True, slots=True)
class TreeFiles:
    """A file system: what a stage or an image holds."""

    tree: Tree

    @property
    def name(self) -> str | None:
        """Stands for the whole content; None if nothing does."""
        return self.tree.chain or "scratch"

    def digest(self, paths: Sequence[str], excludes: Sequence[str], shop: Workshop, step: Step) -> Digest:
        """Of what a step selects."""
        from builder.cache.filemap import FileMap, FileState
        from builder.ops.selection import selection_digest
        from builder.ops.sources import Source

        files: dict[str, FileState] = {}
        with shop.view(self.tree, step) as root:
            digest = selection_digest([Source(root, path, where=_OVERLAY) for path in paths], excludes, files)
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

    def digest(self, paths: Sequence[str], excludes: Sequence[str], shop: Workshop, step: Step) -> Digest:
        del step
        digest, files = self.context.select(paths, excludes)
        shop.selections[str(digest)] = files
        return digest

    @contextlib.contextmanager
    def opened(self, shop: Workshop, step: Step, path: str, *, writable: bool) -> Iterator[int]:
        del step, writable
        with self.root() as root, copied(root, path, shop, ignore=self.context.rules) as tree:
            yield tree

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

    def digest(self, paths: Sequence[str], excludes: Sequence[str], shop: Workshop, step: Step) -> Digest:
        del paths, excludes, shop, step
        return Digest.of((self.name or "").encode())


Mountable = TreeFiles | ContextFiles
Files = TreeFiles | ContextFiles | WebFile


@contextlib.contextmanager
def copied(
    root: int, path: str, shop: Workshop, *, ignore: IgnoreRules | None = None, keep_owner: bool = False
) -> Iterator[int]:
    """A copy of what lies at `path` below `root`, as a detached mount; it is gone afterwards."""
    from builder.ops.copy import CopyRequest, Source, copy_into
    from runner.kernel.mounts import bind

    source = Source(root, path, ignore or IgnoreRules(), keep_owner=keep_owner)
    with shop.scratch() as snapshot:
        with closing(os.open(snapshot.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as target:
            copy_into(target, CopyRequest((source,), f"/{_PLACE}"))
        with closing(bind(posixpath.join(snapshot.upper, _PLACE))) as tree:
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
