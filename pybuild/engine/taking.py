"""What a container has made of its image: the changes, the whole as an archive, or a new image.

Not here: single files (copying.py).
"""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from builder.layers.compression import Compression
from builder.layers.diff import write_layer, write_tree
from builder.snapshots import Snapshot
from pybuild.engine.changing import pause, unpause
from pybuild.engine.containers import Container, Containers
from pybuild.errors import EngineError, UsageError
from registry.layouts import UNNAMED
from registry.model import Digest, Reference
from registry.model.media_types import MediaType
from registry.storage import StoredImage
from registry.storage.images import find_by_id
from runner.container.state import timestamp
from runner.kernel.mounts import overlay_tree
from runner.kernel.paths import stat_in_root

MODIFIED, ADDED, DELETED = 0, 1, 2
# A manifest of one family does not list layers of the other.
_OCI = {
    str(MediaType.DOCKER_LAYER): MediaType.OCI_LAYER,
    str(MediaType.DOCKER_LAYER_GZIP): MediaType.OCI_LAYER_GZIP,
    str(MediaType.DOCKER_LAYER_ZSTD): MediaType.OCI_LAYER_ZSTD,
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def changes(containers: Containers, container: Container) -> list[tuple[int, str]]:
    """Paths that are not as in the image, in order; a directory in which something changed is modified."""
    snapshot = _snapshot(containers, container)
    lower = overlay_tree(snapshot.lower)
    upper = os.open(snapshot.upper, _DIRECTORY)
    try:
        return sorted(_changed(upper, "", lower), key=lambda change: change[1])
    finally:
        os.close(upper)
        os.close(lower)


def _changed(directory: int, above: str, lower: int) -> Iterator[tuple[int, str]]:
    with os.scandir(directory) as entries:
        names = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    for name, found in names:
        path = f"{above}/{name}"
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:  # overlayfs' mark (overlayfs.rst, "whiteouts")
            yield DELETED, path
            continue
        yield MODIFIED if _is_there(lower, path) else ADDED, path
        if stat.S_ISDIR(found.st_mode):
            below = os.open(name, _DIRECTORY, dir_fd=directory)
            try:
                yield from _changed(below, path, lower)
            finally:
                os.close(below)


def _is_there(lower: int, path: str) -> bool:
    try:
        stat_in_root(lower, path, follow=False)
    except OSError:
        return False
    return True


def export(containers: Containers, container: Container, out: BinaryIO) -> None:
    """Its whole file system as an archive, without what is mounted in it."""
    snapshot = _snapshot(containers, container)
    view = overlay_tree((snapshot.upper, *snapshot.lower))
    try:
        write_tree(view, out)
    finally:
        os.close(view)


@dataclass(frozen=True, slots=True)
class Commit:
    """What a new image is to be called, and what it says of itself. `config`: docker's keys that win over all else."""

    name: Reference | None = None
    author: str = ""
    comment: str = ""
    config: dict[str, Any] | None = None
    pause: bool = True


def commit(containers: Containers, container: Container, wanted: Commit) -> Digest:
    """Make an image of a container: its own image, and a layer with all that it changed. Returns the image's ID."""
    if wanted.name and wanted.name.digest:
        raise UsageError(f"a name for an image has no digest: {wanted.name}", hint="write NAME:TAG")
    snapshot, store = _snapshot(containers, container), containers.store
    base = find_by_id(store, container.record.image_id.removeprefix("sha256:"))
    frozen = wanted.pause and container.running and not container.state.paused
    if frozen:
        pause(containers, container)
    lease = store.lease()
    try:
        layer = write_layer(snapshot, store, Compression.parse("gzip"), lease=lease)
        config = json.dumps(_config(containers, container, base, wanted, layer.diff_id)).encode()
        config_digest = store.put(config, lease=lease)
        repository = wanted.name.repository if wanted.name else UNNAMED
        store.link_blob(repository, config_digest, *(one.digest for one in (*base.manifest.layers, layer.descriptor)))
        parts = [
            (_OCI.get(str(one.media_type), one.media_type), one.digest, one.size)
            for one in (*base.manifest.layers, layer.descriptor)
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": str(MediaType.OCI_MANIFEST),
            "config": {"mediaType": str(MediaType.OCI_CONFIG), "digest": str(config_digest), "size": len(config)},
            "layers": [{"mediaType": str(kind), "digest": str(one), "size": size} for kind, one, size in parts],
        }
        tags = [wanted.name.tag or "latest"] if wanted.name else []
        store.put_manifest(repository, json.dumps(manifest).encode(), str(MediaType.OCI_MANIFEST), tags=tags)
    finally:
        lease.release()
        if frozen:
            unpause(containers, containers.get(container.record.id))
    containers.tell(container.record, "commit", imageID=str(config_digest), imageRef=str(wanted.name or ""))
    return config_digest


def _config(
    containers: Containers, container: Container, base: StoredImage, wanted: Commit, diff_id: Digest
) -> dict[str, Any]:
    """The image's config with what the container was made with, and one step more in its history."""
    record, now = container.record, timestamp()
    found: dict[str, Any] = json.loads(containers.store.read(base.config_digest))
    own: dict[str, Any] = {
        "User": record.user, "Env": list(record.env), "Entrypoint": list(record.entrypoint) or None,
        "Cmd": list(record.cmd) or None, "WorkingDir": record.working_dir, "Labels": record.labels,
        "ExposedPorts": {port: {} for port in record.exposed_ports} or None, "StopSignal": record.stop_signal,
    }  # fmt: skip
    config = {**(found.get("config") or {}), **own, **(wanted.config or {})}
    found["config"] = {key: value for key, value in config.items() if value not in (None, {}, "")}
    found["created"] = now
    if wanted.author:
        found["author"] = wanted.author
    found["rootfs"] = {"type": "layers", "diff_ids": [*map(str, base.config.rootfs.diff_ids), str(diff_id)]}
    step = {"created": now, "created_by": " ".join(record.argv), "author": wanted.author, "comment": wanted.comment}
    found["history"] = [*(found.get("history") or []), {key: value for key, value in step.items() if value}]
    return found


def _snapshot(containers: Containers, container: Container) -> Snapshot:
    snapshot = containers.snapshots.get(container.record.snapshot)
    if snapshot is None:
        raise EngineError(f"the filesystem of container {container.record.name} is gone", hint="remove the container")
    return snapshot
