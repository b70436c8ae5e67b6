"""A build's steps as BuildKit calls them: what a cache of BuildKit's is asked for, and told.

Told by the solver of each vertex what it gave, so that the parts of it that a step takes can be named by their
content. Nothing is looked at before somebody asks.
"""

import os
import posixpath
import threading
from typing import TYPE_CHECKING

from builder.cache.contenthash import Files as Part
from builder.cache.contenthash import content_digest, file_digest
from builder.cache.llb import Dependency, Namer, Operation, web_key
from builder.ops.files import ContextFiles, Files, LateFiles, TreeFiles, WebFile
from builder.ops.workshop import Workshop
from builder.plan.vertices import CopyOp, Vertex
from builder.solver.results import Tree

if TYPE_CHECKING:
    from builder.solver.results import MadeLayer
    from registry.model import Digest

_WEB_MODE = 0o600  # of a file from a web server


class Foreign:
    """Used by several threads."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._namer = Namer(shop.epoch)
        self._lock = threading.RLock()
        self._given: dict[Digest, Files | LateFiles] = {}
        self._contents: dict[Dependency, str | None] = {}

    def learn(self, vertex: Vertex, given: Files | LateFiles) -> None:
        with self._lock:
            self._given[vertex.digest] = given
            if isinstance(given, WebFile):
                self._namer.downloads[vertex.digest] = web_key(given.op.filename, given.content, given.modified)

    def operation(self, vertex: Vertex) -> Operation | None:
        with self._lock:
            return self._namer.operation(vertex)

    def tree(self, vertex: Vertex) -> Tree | None:
        """The file system that a vertex gave."""
        given = self._given.get(vertex.digest)
        return given.tree if isinstance(given, TreeFiles) else None

    def find(self, vertex: Vertex, below: Tree) -> "MadeLayer | None":
        """What a cache of BuildKit's has for a step on that file system.

        None with SOURCE_DATE_EPOCH: BuildKit's layers have the times of the day they were made.
        """
        if self._shop.epoch is not None:
            return None
        operation = self.operation(vertex)
        if operation is None:
            return None
        for cache in self._shop.remotes:
            layer = cache.match(operation, self.content, below, self._shop.store, self._shop.lease)
            if layer is not None and self._is_harmless(layer, vertex, below):
                return layer
        return None

    def _is_harmless(self, layer: "MadeLayer", vertex: Vertex, below: Tree) -> bool:
        """BuildKit's layer of a COPY --link may change mode and owner of the directories on its way; ours never do."""
        if not isinstance(vertex.op, CopyOp) or not vertex.op.link:
            return True
        from builder.ops.linking import directories_above
        from registry.archive.reader import TarReader
        from registry.archive.unpacking import Limits, unpacked

        with self._shop.view(below) as root:
            above = directories_above(vertex.op.destination, root)
        known = {directory.path: tuple(directory[1:]) for directory in above}
        with self._shop.store.open_blob(layer.descriptor.digest) as blob:
            reader = TarReader(unpacked(blob, Limits()), Limits())
            return all(
                known.get(posixpath.normpath(os.fsdecode(entry.name)), (entry.mode, entry.uid, entry.gid))
                == (entry.mode, entry.uid, entry.gid)
                for entry in reader.entries()
            )

    def content(self, dependency: Dependency) -> str | None:
        """The digest of what is taken of an input; None if that can't be told."""
        with self._lock:
            if dependency not in self._contents:
                self._contents[dependency] = self._content(dependency)
            return self._contents[dependency]

    def cheap_content(self, dependency: Dependency) -> str | None:
        """The same, but None for what would have to be unpacked."""
        given = self._given.get(dependency.vertex.digest) if dependency.vertex is not None else None
        if isinstance(given, TreeFiles) and not self._shop.is_unpacked(given.tree):
            return None
        return self.content(dependency)

    def _content(self, dependency: Dependency) -> str | None:
        wanted = dependency.wanted
        given = self._given.get(dependency.vertex.digest) if dependency.vertex is not None else None
        if wanted is None or given is None:
            return None
        match given:
            case ContextFiles():
                with given.root() as root:
                    return content_digest(Part(root, local=True, rules=given.context.rules), wanted)
            case TreeFiles():
                with self._shop.view(given.tree) as root:
                    return content_digest(Part(root), wanted)
            case WebFile():
                if any(part.exclude for part in wanted) or not self._shop.store.has(given.content):
                    return None
                with self._shop.store.open_blob(given.content) as file:
                    return file_digest(_WEB_MODE, self._shop.store.size(given.content), file)
            case _:
                return None
