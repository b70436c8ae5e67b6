"""Images into snapshots: what is missing of a chain of layers is unpacked, each layer once on this machine."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

from builder.errors import LayerError
from builder.layers.apply import apply_layer
from builder.snapshots import Snapshots
from registry.client.progress import Progress, Silent
from registry.model.digest import Digest, chain_ids
from registry.model.image_config import ImageConfig
from registry.model.manifest import Descriptor, Manifest
from runner.kernel.locks import alone, doze

if TYPE_CHECKING:
    from registry.storage import ContentStore


_TELL_SECONDS = 0.1


def unpack_image(
    store: "ContentStore",
    snapshots: Snapshots,
    manifest: Manifest,
    config: ImageConfig,
    progress: Progress | None = None,
    *,
    wait: Callable[[int], None] = doze,
) -> str | None:
    """Make sure that an image's root filesystem is there; several processes may ask at once, one of them works.

    Args:
        store: has the layers.
        snapshots: get them.
        manifest: names them.
        config: has their diff IDs.
        progress: told how far it is; may raise to end it.
        wait: as of alone(), while another works.

    Returns:
        The name of its topmost snapshot; None if the image has no layers.

    Raises:
        LayerError: a layer is damaged or hostile, or is not what the image's configuration says.
    """
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise LayerError(
            f"the image has {len(manifest.layers)} layers, but its configuration names {len(diff_ids)}",
            hint="the image is broken; build or pull it again",
        )
    if not diff_ids:
        return None
    names = [str(chain) for chain in chain_ids(diff_ids)]
    parents = [None, *names]
    for step in map(_Step, manifest.layers, diff_ids, names, parents):
        if not snapshots.exists(step.name):
            with alone(snapshots.root / f"{step.name.partition(':')[2][:32]}.lock", wait):
                if not snapshots.exists(step.name):  # another process may have done it while we waited
                    _unpack(step, store, snapshots, progress)
    return names[-1]


@dataclass(frozen=True, slots=True)
class _Step:
    layer: Descriptor
    diff_id: Digest
    name: str
    parent: str | None


def _unpack(step: _Step, store: "ContentStore", snapshots: Snapshots, progress: Progress | None) -> None:
    layer = step.layer
    key = f"unpack-{uuid4().hex}"
    snapshot = snapshots.prepare(key, step.parent)
    tell = partial((progress or Silent()).update, layer.digest.short)
    tell("Extracting", 0, layer.size)
    try:
        with store.open_blob(layer.digest) as blob:
            told = cast("BinaryIO", _Told(blob, lambda done: tell("Extracting", done, layer.size)))
            apply_layer(told, snapshot, expected=step.diff_id)
        snapshots.commit(key, step.name)
    except LayerError as error:
        snapshots.remove(key)
        raise LayerError(f"layer {layer.digest.short}: {error}", hint=error.hint) from error
    except BaseException:
        snapshots.remove(key)
        raise
    tell("Pull complete", layer.size, layer.size)


class _Told(io.RawIOBase):
    """A blob that tells how far it has been read, a few times a second."""

    def __init__(self, blob: BinaryIO, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._blob = blob
        self._tell = tell
        self._done = 0
        self._next = 0.0

    def read(self, size: int = -1) -> bytes:
        data = self._blob.read(size)
        self._done += len(data)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _TELL_SECONDS
            self._tell(self._done)
        return data
