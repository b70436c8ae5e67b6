"""Two images that should be the same: the first thing in which they differ.

Layers are looked at first, bottom up, for what is in them: a digest says only that something differs, and what follows
from it differs, too. Then the configuration, then how the image is packed and annotated.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from registry.archive.reader import TarReader
from registry.archive.tarformat import Entry, Kind
from registry.archive.unpacking import Limits, unpacked
from registry.model import Descriptor, History, ImageConfig, Manifest, parse_manifest
from registry.storage import ContentStore

_SHOWN = 24  # bytes of content around a difference
_MOST = 1 << 30  # bytes of a file that are looked through for the place of a difference


@dataclass(frozen=True, slots=True)
class Difference:
    """Where it is, and what it is there and in the other image."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Side:
    """One of two images: a manifest of a store, and what to call it."""

    name: str
    store: ContentStore
    content: bytes  # of the manifest

    @property
    def manifest(self) -> Manifest:
        found = parse_manifest(self.content)
        assert isinstance(found, Manifest), "images are compared one platform at a time"
        return found

    def config(self) -> bytes:
        return self.store.read(self.manifest.config.digest)


def first_difference(one: Side, other: Side) -> Difference | None:
    """None: the manifests are the same bytes, and so is all that they name.

    Raises BlobUnknown, ArchiveError: a layer is not here or damaged.
    """
    if one.content == other.content:
        return None
    configs = [ImageConfig.parse(side.config()) for side in (one, other)]
    return (
        _of_layers(one, other, configs)
        or _of_json("configuration", one, other, [json.loads(side.config()) for side in (one, other)])
        or _of_json("manifest", one, other, [json.loads(side.content) for side in (one, other)])
        or Difference("manifest", "the same values in other bytes")
    )


def _of_json(where: str, one: Side, other: Side, values: Sequence[Any]) -> Difference | None:
    found = _first_path(values[0], values[1], "")
    if found is None:
        return None
    path, here, there = found
    return Difference(where, f"{path}: {_told(here)} in {one.name}, {_told(there)} in {other.name}")


_ABSENT = object()


def _first_path(one: Any, other: Any, path: str) -> tuple[str, Any, Any] | None:  # noqa: ANN401 - JSON
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            place = f"{path}.{key}" if path else key
            if found := _first_path(one.get(key, _ABSENT), other.get(key, _ABSENT), place):
                return found
        return None
    if isinstance(one, list) and isinstance(other, list):
        for number in range(max(len(one), len(other))):
            pair = [side[number] if number < len(side) else _ABSENT for side in (one, other)]
            if found := _first_path(pair[0], pair[1], f"{path}[{number}]"):
                return found
        return None
    return None if one == other else (path, one, other)


def _told(value: Any) -> str:  # noqa: ANN401 - JSON
    return "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False)


# -- layers


def _of_layers(one: Side, other: Side, configs: Sequence[ImageConfig]) -> Difference | None:
    rows = [config.rootfs.diff_ids for config in configs]
    count = max(map(len, rows))
    texts = _texts(max(configs, key=lambda config: len(config.rootfs.diff_ids)).history)
    for number in range(count):
        where = f"layer {number + 1} of {count}" + (f" ({texts[number]})" if number < len(texts) else "")
        short = [side.name for side, row in zip((one, other), rows, strict=True) if number >= len(row)]
        if short:
            return Difference(where, f"not in {short[0]}")
        if rows[0][number] != rows[1][number]:
            layers = [side.manifest.layers[number] for side in (one, other)]
            return Difference(where, _in_layer(one, other, layers) or "the same files, in another archive")
    return None


def _texts(history: Sequence[History]) -> list[str]:
    """What made each layer, cut to a line."""
    found = [" ".join((step.created_by or step.comment).split()) for step in history if not step.empty_layer]
    return [text if len(text) < 80 else f"{text[:77]}..." for text in found]


def _in_layer(one: Side, other: Side, layers: Sequence[Descriptor]) -> str | None:
    """What differs in the first file that does. Times come last: those of other files follow from what changed."""
    mine, theirs = _members(one.store, layers[0]), _members(other.store, layers[1])
    times: str | None = None
    for name in sorted({*mine, *theirs}):
        here, there = mine.get(name), theirs.get(name)
        path = _path(name)
        if here is None or there is None:
            return f"{path}: only in {other.name if here is None else one.name}"
        if here == there:
            continue
        told, them = here.words(), there.words()
        word = next(word for word, value in told.items() if value != them[word])
        if word == "content":
            return f"{path}: {_in_content(one, other, layers, name)}"
        found = f"{path}: {word} {told[word]} in {one.name}, {them[word]} in {other.name}"
        if word != "time":
            return found
        times = times or found
    if times is None and list(mine) != list(theirs):
        return "the same files in another order"
    return times


class _Member(NamedTuple):
    """An entry of a layer, in a few hundred bytes."""

    kind: Kind
    link: bytes
    device: tuple[int, int]
    mode: int
    uid: int
    gid: int
    attributes: tuple[tuple[bytes, bytes], ...]
    size: int
    content: bytes
    seconds: int

    @classmethod
    def of(cls, entry: Entry, content: bytes) -> "_Member":
        return cls(
            entry.kind, entry.link, (entry.major, entry.minor), entry.mode, entry.uid, entry.gid,
            tuple(sorted(entry.xattrs.items())), entry.size, content, entry.mtime_ns // 1_000_000_000,
        )  # fmt: skip

    def words(self) -> dict[str, str]:
        """In the order in which differences are told."""
        return {
            "kind": self.kind.name.lower(), "link": self.link.decode(errors="backslashreplace") or "to nothing",
            "device": ":".join(map(str, self.device)), "mode": f"{self.mode:04o}", "owner": f"{self.uid}:{self.gid}",
            "attributes": str(dict(self.attributes)), "size": str(self.size), "content": self.content.hex(),
            "time": str(self.seconds),
        }  # fmt: skip


def _members(store: ContentStore, layer: Descriptor) -> dict[bytes, _Member]:
    found: dict[bytes, _Member] = {}
    with _reading(store, layer) as reader:
        for entry in reader.entries():
            hasher = sha256()
            for piece in reader.pieces():
                hasher.update(piece)
            found[entry.name] = _Member.of(entry, hasher.digest() if entry.size else b"")
    return found


def _in_content(one: Side, other: Side, layers: Sequence[Descriptor], name: bytes) -> str:
    with _content(one.store, layers[0], name) as mine, _content(other.store, layers[1], name) as theirs:
        at = 0
        while at < _MOST:
            here, there = mine.take(_SHOWN * 1024), theirs.take(_SHOWN * 1024)
            if here != there:
                offset = next(number for number, (a, b) in enumerate(zip(here, there, strict=False)) if a != b)
                start = max(0, offset - _SHOWN // 3)
                shown = [bytes(part[start : start + _SHOWN]) for part in (here, there)]
                return f"byte {at + offset}: {shown[0]!r} in {one.name}, {shown[1]!r} in {other.name}"
            at += len(here)
            if not here:
                break
    return f"content differs, beyond {_MOST >> 20} MiB"


class _Pieces:
    """Content that comes in pieces, taken in pieces of another size."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._held = b""

    def take(self, size: int) -> bytes:
        while len(self._held) < size and (piece := next(self._pieces, None)) is not None:
            self._held += bytes(piece)
        found, self._held = self._held[:size], self._held[size:]
        return found


@contextmanager
def _content(store: ContentStore, layer: Descriptor, name: bytes) -> Iterator[_Pieces]:
    with _reading(store, layer) as reader:
        for entry in reader.entries():
            if entry.name == name:
                break
        yield _Pieces(reader.pieces())


@contextmanager
def _reading(store: ContentStore, layer: Descriptor) -> Iterator[TarReader]:
    limits = Limits()
    with store.open_blob(layer.digest) as blob:
        yield TarReader(unpacked(blob, limits), limits)


def _path(name: bytes) -> str:
    return "/" + name.decode(errors="backslashreplace").strip("/")
