"""What vertices give: a file system as layers, or files from outside. And the cache's records of it."""

import json
from dataclasses import dataclass
from functools import cached_property

from builder.times import OLDEST_NS
from registry.errors import DigestInvalid
from registry.model import Descriptor, Digest
from registry.model.digest import chain_ids


@dataclass(frozen=True, slots=True)
class MadeLayer:
    """A layer as one step made it, and what a later build must know of it."""

    descriptor: Descriptor
    diff_id: Digest
    newest_ns: int  # the newest mtime of what the image was made from so far
    created: str  # RFC 3339: the newest time in it; of another builder's cache, when the step was done

    def to_bytes(self, **more: object) -> bytes:
        """`more` is kept with it, for other readers than parse()."""
        layer = self.descriptor
        return json.dumps(
            {
                "mediaType": str(layer.media_type), "digest": str(layer.digest), "size": layer.size,
                "diffID": str(self.diff_id), "newest": self.newest_ns, "created": self.created,
                **more,
            }
        ).encode()  # fmt: skip

    @classmethod
    def parse(cls, record: bytes) -> "MadeLayer | None":
        """None for a record of another version: the step is then done again."""
        try:
            found = json.loads(record)
            descriptor = Descriptor(found["mediaType"], Digest.parse(found["digest"]), int(found["size"]))
            return cls(descriptor, Digest.parse(found["diffID"]), int(found["newest"]), str(found["created"]))
        except (ValueError, KeyError, TypeError, DigestInvalid):
            return None


@dataclass(frozen=True)
class Tree:
    """A file system: layers, base first."""

    layers: tuple[Descriptor, ...] = ()
    diff_ids: tuple[Digest, ...] = ()
    newest_ns: int = OLDEST_NS
    made: MadeLayer | None = None  # the topmost layer, if a step of this build made it

    @cached_property
    def chain(self) -> str | None:
        """The name of the file system, as of its snapshot; None for an empty one."""
        return str(chain_ids(self.diff_ids)[-1]) if self.diff_ids else None

    def on_top(self, layer: MadeLayer) -> "Tree":
        return Tree(
            (*self.layers, layer.descriptor),
            (*self.diff_ids, layer.diff_id),
            max(self.newest_ns, layer.newest_ns),
            layer,
        )
