"""Cache mounts out of the state root and into it: what CI keeps between two machines.

A file holds one cache as an archive, packed as its name says (.tar, .tar.gz, .tar.zst). A directory holds several,
with `caches.json` that tells their ids.

Promises: an archive, from anybody, writes nothing outside its own cache, makes no device, and is taken whole or not at
          all; no step sees a cache that is half there, and none is read while a step writes to it.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from builder.cache.mounts import held, mount_name, mounts_directory, note_use
from builder.errors import BuilderError
from builder.snapshots.trees import remove_tree

_INDEX = "caches.json"
_INDEX_LIMIT = 1 << 20
_PACKINGS = {".tar": "uncompressed", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tar.zstd": "zstd"}

Notice = Callable[[str], None]


class Port(NamedTuple):
    """A cache by its id and its archive, or all caches (no id) and their directory."""

    id: str
    place: Path

    @property
    def is_file(self) -> bool:
        return _packing(self.place) is not None and not self.place.is_dir()


def export_mounts(root: Path, ports: Sequence[Port], used: Sequence[str], notice: Notice) -> None:
    """Write caches out; one that was never filled is left out with a notice.

    Args:
        root: the state root.
        ports: what to write where.
        used: ids of the caches that the build has used: what a port without an id means.
        notice: told what there was not.

    Raises:
        BuilderError: the place can't be written.
    """
    for port in ports:
        ids = [port.id] if port.id else list(dict.fromkeys(used))
        if not ids:
            notice(f"no cache mount to write to {port.place}: no step has one")
        written: dict[str, str] = {}
        for mount_id in ids:
            place = port.place if port.is_file else port.place / _file_name(mount_id)
            if _export(root, mount_id, place):
                written[mount_id] = place.name
            else:
                notice(f"no cache mount {mount_id!r} to write to {port.place}: it was never used")
        if written and not port.is_file:
            _write_index(port.place, written)


def import_mounts(root: Path, ports: Sequence[Port], notice: Notice) -> None:
    """Read caches in, in place of what is there. What is not there is told and left out: a first run has no cache yet.

    Raises:
        BuilderError: an archive is damaged, or has what no cache may hold.
    """
    for port in ports:
        if port.is_file:
            found = {port.id: port.place}
        else:
            known = _read_index(port.place)
            found = {port.id: known[port.id]} if port.id and port.id in known else {} if port.id else known
        present = {mount_id: place for mount_id, place in found.items() if place.exists()}
        for mount_id, place in present.items():
            _import(root, mount_id, place)
        if not present:
            notice(f"no cache mount {port.id!r} in {port.place} yet" if port.id else f"no caches in {port.place} yet")


def _export(root: Path, mount_id: str, place: Path) -> bool:
    from builder.layers.compression import Compression, Packer
    from builder.layers.diff import write_tree

    path = mounts_directory(root) / mount_name(mount_id)
    if not path.is_dir():
        return False
    packing = Compression.parse(_packing(place) or "zstd")
    with held(path, wait=True), _told("write", place):
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.new")
        try:
            with draft.open("wb") as file, Packer(packing, file.write) as packer:
                write_tree(str(path), _Writer(packer.write))  # type: ignore[arg-type]  # it only writes
                packer.finish()
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
    return True


class _Writer:
    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.write = write


def _import(root: Path, mount_id: str, place: Path) -> None:
    from builder.layers import apply_layer
    from builder.snapshots import Snapshot

    path = mounts_directory(root) / mount_name(mount_id)
    with held(path, wait=True):
        draft, old, empty = (path.with_name(f"{path.name}{end}.new") for end in ("", ".old", ".empty"))
        for left in (draft, old, empty):
            remove_tree(str(left))
        try:
            draft.mkdir(mode=0o755)
            empty.mkdir()
            with _told("read", place), place.open("rb") as file:
                apply_layer(file, Snapshot("", None, (str(empty),), str(draft), ""))
            _refuse_devices(draft, place)
            if path.is_dir():
                path.rename(old)
            draft.rename(path)
        finally:
            for left in (draft, old, empty):
                remove_tree(str(left))
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            note_use(lock, mount_id)
        finally:
            os.close(lock)


@contextmanager
def _told(doing: str, place: Path) -> Iterator[None]:
    try:
        yield
    except BuilderError as error:
        raise BuilderError(f"can't {doing} the cache mount in {place}: {error}", hint=error.hint) from error
    except OSError as error:
        raise BuilderError(f"can't {doing} the cache mount in {place}: {error.strerror}") from error


def _refuse_devices(tree: Path, place: Path) -> None:
    for above, _, names in os.walk(tree):
        for name in names:
            mode = os.lstat(os.path.join(above, name)).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise BuilderError(
                    f"the cache mount in {place} holds a device: {name}", hint="no build made this archive; delete it"
                )


def _packing(place: Path) -> str | None:
    return next((packing for end, packing in _PACKINGS.items() if place.name.endswith(end)), None)


def _file_name(mount_id: str) -> str:
    """Readable, and different for different ids."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", mount_id).strip("-.")[:60]
    return f"{plain or 'cache'}-{mount_name(mount_id)[:12]}.tar.zst"


def _write_index(place: Path, written: dict[str, str]) -> None:
    known = {mount_id: path.name for mount_id, path in _read_index(place).items()}
    with _told("write", place):
        draft = place / f"{_INDEX}.new"
        draft.write_text(json.dumps({"version": 1, "caches": known | written}, indent=2) + "\n", encoding="utf-8")
        draft.replace(place / _INDEX)


def _read_index(place: Path) -> dict[str, Path]:
    try:
        with (place / _INDEX).open("rb") as file:
            found = json.loads(file.read(_INDEX_LIMIT))["caches"]
        names = {str(mount_id): str(name) for mount_id, name in found.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuilderError(f"{place / _INDEX} is damaged", hint="delete the directory; it is a cache") from error
    if odd := next(
        (name for name in names.values() if name != os.path.basename(name) or name in {"", ".", ".."}), None
    ):
        raise BuilderError(f"{place / _INDEX} names a file elsewhere: {odd!r}", hint="no build made it; delete it")
    return {mount_id: place / name for mount_id, name in names.items()}
