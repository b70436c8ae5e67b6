"""Images into snapshots: what is missing of a chain of layers is unpacked, each layer once on this machine."""

import contextlib
import fcntl
import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

from builder.errors import LayerError
from builder.layers.apply import apply_layer
from builder.snapshots import Snapshots
from registry.client.progress import Progress, Silent
from registry.model.digest import Digest, chain_ids
from registry.model.image_config import ImageConfig
from registry.model.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from registry.storage import ContentStore


_TELL_SECONDS = 0.1


def unpack_image(
    store: "ContentStore",
    snapshots: Snapshots,
    manifest: Manifest,
    config: ImageConfig,
    progress: Progress | None = None,
) -> str | None:
    """Make sure that an image's root filesystem is there; several processes may ask at once, one of them works.

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
            with _alone(snapshots.root, step.name):
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


@contextlib.contextmanager
def _alone(directory: Path, name: str) -> Iterator[None]:
    """Be the only one on this machine who unpacks `name`. The lock dies with its holder."""
    path = directory / f"{name.partition(':')[2][:32]}.lock"
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _still_there(path, handle):
                try:
                    yield
                finally:
                    path.unlink()
                return
        finally:
            os.close(handle)


def _still_there(path: Path, handle: int) -> bool:
    """Whether the file that we locked still has its name; whoever held it before us has removed it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(handle))
    return False
