"""What an image is, read from a docker archive (`docker save`, `pybuild save`): config, history, layers, files.

Promises: images of different builders are told in the same words, so that a test compares them with ==.
"""

import ast
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One path. `content`: a digest, a link's target, a device's numbers. `same`: all names of this one file."""

    kind: str
    mode: str
    owner: tuple[int, int]
    content: str
    xattrs: tuple[tuple[str, str], ...]
    mtime: int
    same: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One member of a layer: a node, another name of an earlier one, or a whiteout."""

    path: str
    node: Node | None
    link: str = ""


@dataclass(frozen=True)
class Image:
    config: Mapping[str, Any]  # the whole JSON
    layers: tuple[tuple[Entry, ...], ...]

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config["rootfs"]["diff_ids"])

    @property
    def settings(self) -> dict[str, Any]:
        """What containers get. Keys that say nothing are left out, and those about the container that built."""
        found = {key: value for key, value in self.config["config"].items() if value not in (None, "", False, [], {})}
        return {key: value for key, value in found.items() if key not in {"Hostname", "Image", "ArgsEscaped"}}

    @property
    def history(self) -> list[tuple[str, bool]]:
        """Each step as (text, whether it made no layer)."""
        return [(_older(step.get("created_by", "")), step.get("empty_layer", False)) for step in self.config["history"]]

    def tree(self) -> dict[str, Node]:
        """The files as a container sees them."""
        found: dict[str, tuple[int, Node]] = {}
        for number, layer in enumerate(self.layers):
            _lay_over(found, layer, number)
        names: dict[int, list[str]] = {}
        for path in sorted(found):
            names.setdefault(found[path][0], []).append(path)
        return {path: replace(found[path][1], same=tuple(names[found[path][0]])) for path in sorted(found)}


def images_in(archive: Path, *, restless: re.Pattern[str] | None = None) -> dict[str, Image]:
    """All tagged images of a docker archive. Content of files that `restless` matches is not looked at."""
    with tarfile.open(archive) as tar:

        @cache
        def layer(name: str) -> tuple[Entry, ...]:
            with tarfile.open(fileobj=tar.extractfile(name)) as members:
                return tuple(_entries(members, restless))

        return {
            tag: Image(json.loads(_read(tar, image["Config"])), tuple(layer(name) for name in image["Layers"]))
            for image in json.loads(_read(tar, "manifest.json"))
            for tag in image["RepoTags"] or ()
        }


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, str]:
    """What two mappings don't share, told for each key."""
    return {
        key: f"ours {ours.get(key, 'missing')!r}, theirs {theirs.get(key, 'missing')!r}"
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
    }


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None, name
    return file.read()


def _entries(layer: tarfile.TarFile, restless: re.Pattern[str] | None) -> Iterator[Entry]:
    for member in layer:
        path = _normal(member.name)
        if os.path.basename(path).startswith(".wh."):
            yield Entry(path, None)
        elif member.islnk():
            yield Entry(path, None, _normal(member.linkname))
        elif path != ".":
            yield Entry(path, _node(layer, member, is_restless=restless is not None and bool(restless.match(path))))


def _node(layer: tarfile.TarFile, member: tarfile.TarInfo, *, is_restless: bool) -> Node:
    content = member.linkname
    if member.ischr() or member.isblk():
        content = f"{member.devmajor}:{member.devminor}"
    elif member.isfile() and not is_restless:
        file = layer.extractfile(member)
        assert file is not None
        data = file.read()
        content = data.decode() if len(data) < 100 and data.isascii() else hashlib.sha256(data).hexdigest()
    xattrs = {key.removeprefix(_XATTR): text for key, text in member.pax_headers.items() if key.startswith(_XATTR)}
    return Node(
        _KINDS[member.type], oct(member.mode & 0o7777), (member.uid, member.gid), content,
        tuple(sorted(xattrs.items())), int(member.mtime),
    )  # fmt: skip


def _lay_over(tree: dict[str, tuple[int, Node]], layer: Iterable[Entry], number: int) -> None:
    """Apply one layer, whiteouts first (image-spec layer.md). Each node has a number that its hard links share."""
    entries = list(layer)
    for entry in entries:
        folder, name = os.path.split(entry.path)
        if name == ".wh..wh..opq":
            _remove(tree, f"{folder}/" if folder else "")
        elif name.startswith(".wh."):
            gone = os.path.join(folder, name.removeprefix(".wh."))
            tree.pop(gone, None)
            _remove(tree, f"{gone}/")
    for index, entry in enumerate(entries):
        if entry.node is not None:
            if entry.node.kind != "dir":
                _remove(tree, f"{entry.path}/")
            tree[entry.path] = (number << 32 | index, entry.node)
        elif entry.link:
            tree[entry.path] = tree[entry.link]


def _remove(tree: dict[str, tuple[int, Node]], prefix: str) -> None:
    for path in [path for path in tree if path.startswith(prefix)]:
        del tree[path]


def _normal(name: str) -> str:
    return os.path.normpath(name).lstrip("/")


def _older(text: str) -> str:
    """History as BuildKit wrote it in dockerd 20.10; today's, which is ours, tells more."""
    text = re.sub(r"^(COPY|ADD) (?:--\S+ )*", r"\1 ", text)
    text = re.sub(r"^(ARG \w+)=.*", r"\1", text)  # no value that came from elsewhere
    if ports := re.match(r"EXPOSE (?:map)?\[(.*)\]", text):  # a Go map, which Go prints sorted
        return f"EXPOSE {sorted(port.removesuffix(':{}') for port in ports[1].split())}"
    if check := re.match(
        r"""HEALTHCHECK &\{\[(.*)] "(\S+)" "(\S+)" "(\S+)" ('.*')}""", text
    ):  # there was no StartInterval
        words = [ast.literal_eval(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', check[1])]
        times = f"Interval:{check[2]} Timeout:{check[3]} StartPeriod:{check[4]} StartInterval:0s"
        return f"HEALTHCHECK {{Test:[{' '.join(words)}] {times} Retries:{ord(ast.literal_eval(check[5]))}}}"
    return text
