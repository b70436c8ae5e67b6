"""Leaves a memo of a build that had nothing to do, so that its like is answered without one (again.py)."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cache.report import FILE
from builder.dockerfile.ignore import IgnoreRules
from pybuild.cli import again
from registry.model import Digest, Manifest, parse_manifest
from registry.storage import ContentStore
from registry.storage.cache import TOUCH_SECONDS
from registry.storage.facts import blobs_fact, schema_fact, tag_fact

if TYPE_CHECKING:
    from builder.build import BuildResult

_KEPT = 64  # memos; beyond, all go
_RACY_NS = 2_000_000_000  # as builder.ops.statcache has it
_LOOKED_FOR = ("Dockerfile", "dockerfile", "Containerfile", ".dockerignore", ".containerignore")
_MOST_BLOBS = 900  # values that an SQL statement may have


def remember(
    root: Path, words: Sequence[str], result: "BuildResult", *, context: str, dockerfile: str | None, told: str
) -> None:
    """Leave the memo, if all that the build took is of a kind that can be looked at again cheaply.

    Args:
        root: the state root.
        words: the command line.
        result: of the build.
        context: as the command line names it.
        dockerfile: the value of -f.
        told: what it wrote to standard error.
    """
    idle = result.idle
    if idle is None or not result.tags or str(root) != again.state_root(words):
        return
    pruned = pruned_by(idle.context, idle.rules)
    files = again.listing(idle.context, pruned)
    names = [os.path.abspath(context), *(f"{idle.context}/{name}" for name in _LOOKED_FOR)]
    if dockerfile is not None:
        for path in (os.path.abspath(dockerfile), os.path.join(idle.context, dockerfile)):
            names += [path, f"{path}.dockerignore"]
    watched = [(name, again.stamp(name)) for name in names]
    stamps = [*(files or ()), *(stamp for _, stamp in watched if stamp is not None)]
    # Looked at after the build has read them: what is older than its begin was not written to meanwhile.
    if files is None or any(stamp[5] >= idle.began_ns - _RACY_NS for stamp in stamps):
        return
    with ContentStore.open(root) as store:
        blobs = _blobs(store, result)
        facts = [schema_fact(), blobs_fact(blobs)]
        facts += [tag_fact(tag.repository, tag.tagged.tag or "latest", result.digest) for tag in result.tags]
        facts += [tag_fact(*base) for base in idle.bases]
        paths = [(str(store.path(digest)), store.size(digest)) for digest in blobs]
    if len(blobs) > _MOST_BLOBS:
        return
    memo = again.Memo(
        key=again.key(words),
        until=time.time() + TOUCH_SECONDS,
        context=idle.context,
        pruned=sorted(pruned),
        files=again.packed(files),
        watched=watched,
        blobs=paths,
        facts=facts,
        report=again.stamp(f"{root}/builds/{max(os.listdir(root / 'builds'))}/{FILE}"),
        output=(f"{result.image_id}\n", told),
    )
    _write(again.place(str(root), words), memo.to_bytes())


def _blobs(store: ContentStore, result: "BuildResult") -> list[Digest]:
    tag = result.tags[0]
    found = store.manifest(tag.repository, result.digest)
    manifest = parse_manifest(found.content, found.media_type)
    assert isinstance(manifest, Manifest), "a build makes an image"
    return sorted({manifest.config.digest, *(layer.digest for layer in manifest.layers)}, key=str)


def pruned_by(context: str, rules: IgnoreRules) -> frozenset[str]:
    """The topmost directories that the ignore rules leave out with all that is in them."""
    if not rules.rules:
        return frozenset()
    found: set[str] = set()
    todo = [""]
    while todo:
        above = todo.pop()
        with os.scandir(f"{context}/{above}") as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    path = f"{above}{entry.name}"
                    if rules.excluded(path) and not rules.may_hold_included(path):
                        found.add(path)
                    else:
                        todo.append(f"{path}/")
    return frozenset(found)


def _write(place: str, content: bytes) -> None:
    room = os.path.dirname(place)
    os.makedirs(room, mode=0o700, exist_ok=True)
    kept = os.listdir(room)
    for name in kept if len(kept) >= _KEPT else ():
        os.unlink(f"{room}/{name}")
    new = f"{room}/.{os.urandom(8).hex()}"
    with open(new, "xb") as file:
        file.write(content)
    os.replace(new, place)
