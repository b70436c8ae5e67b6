"""A cache in a folder: an OCI layout that may hold several, each under a tag, and nothing that none of them needs."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.cache.places import CachePlace
from builder.errors import BuilderError
from registry.errors import RegistryError
from registry.model import Digest, Reference, parse_manifest

if TYPE_CHECKING:
    from registry.storage import ContentStore

_TAG = "org.opencontainers.image.ref.name"
_HEX = re.compile(r"[0-9a-f]{64}")


class _Other(NamedTuple):
    """A cache under another tag: its entry of the index, and the names of its blobs."""

    entry: dict[str, Any]
    blobs: frozenset[str]


def write_folder(store: "ContentStore", place: CachePlace, digest: Digest, children: Sequence[Digest]) -> None:
    """Write a manifest of the store there; caches under other tags stay, unless the place is to be reset.

    Raises:
        BuilderError: it can't be written.
    """
    from registry.layouts.write import write_oci_layout

    folder = Path(place.where)
    try:
        others = [] if place.reset else list(_others(folder, place.tag))
        write_oci_layout(store, [(Reference.parse(f"pybuild-cache:{place.tag}"), digest)], folder)
        _list(folder, others)
        wanted = {
            digest.encoded,
            *(child.encoded for child in children),
            *(name for each in others for name in each.blobs),
        }
        blobs = folder / "blobs" / "sha256"
        for name in os.listdir(blobs):
            if name not in wanted and _HEX.fullmatch(name):
                (blobs / name).unlink(missing_ok=True)  # of the cache that was there before: else it grows for ever
    except OSError as error:
        raise BuilderError(f"can't write the cache to {folder}: {error.strerror}") from error


def _others(folder: Path, tag: str) -> Iterator[_Other]:
    """What else is there and whole; the rest is no loss."""
    try:
        entries = list(json.loads((folder / "index.json").read_bytes())["manifests"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    for entry in entries:
        try:
            name = Digest.parse(entry["digest"]).encoded
            manifest = parse_manifest((folder / "blobs" / "sha256" / name).read_bytes())
            if entry["annotations"][_TAG] != tag:
                yield _Other(entry, frozenset({name, *(child.digest.encoded for child in manifest.children)}))
        except (OSError, KeyError, TypeError, RegistryError):
            continue


def _list(folder: Path, others: Sequence[_Other]) -> None:
    """Put them into the index again; the new one stays the last."""
    if others:
        path, draft = folder / "index.json", folder / "index.json.new"
        index = json.loads(path.read_bytes())
        index["manifests"] = [*(each.entry for each in others), *index["manifests"]]
        draft.write_text(json.dumps(index), encoding="utf-8")
        draft.replace(path)
