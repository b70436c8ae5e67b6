"""`--cache-from`, `--cache-to`: one text → where a cache lies and how it is written. Pure."""

import csv
import difflib
from collections.abc import Mapping
from typing import NamedTuple

from builder.errors import BuilderError

_SHAPE = {
    "mode", "compression", "compression-level", "force-compression", "ignore-error", "image-manifest", "oci-mediatypes",
}  # fmt: skip
_READ = {"local": {"src", "tag", "digest"}, "registry": {"ref"}}
_WRITE = {"local": {"dest", "tag", "reset", *_SHAPE}, "registry": {"ref", *_SHAPE}, "inline": set[str]()}
_COMPRESSIONS = ("", "gzip", "zstd", "uncompressed")
_TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}


class CachePlace(NamedTuple):
    """Where a cache lies: `where` is a folder, a reference, or nothing for the image itself."""

    type: str  # local, registry, inline
    where: str
    every: bool = False  # mode=max: also steps that are not in the result
    ignore_error: bool = False
    compression: str = ""  # of the layers, maybe with a level; empty: as they are
    force: bool = False  # of layers of the base image, too
    tag: str = "latest"  # in a folder
    digest: str = ""  # of a manifest in a folder: outranks the tag
    reset: bool = False  # a folder has this cache only, whatever it had under other tags

    @classmethod
    def parse(cls, text: str, *, write: bool) -> "CachePlace":
        """`type=local,dest=DIR`, `type=registry,ref=NAME,mode=max`; a lone name is that of a registry.

        Raises BuilderError: it makes no sense.
        """
        option = "--cache-to" if write else "--cache-from"
        words = next(csv.reader([text]), []) if "=" in text or text in _WRITE else [f"ref={text}", "type=registry"]
        pairs = {name.strip(): value for name, _, value in (word.partition("=") for word in words)}
        kind = pairs.pop("type", text if text in _WRITE else "")
        pairs.pop(kind, "")
        allowed = (_WRITE if write else _READ).get(kind)
        if allowed is None:
            raise BuilderError(f"{option} {text}: no such kind of cache", hint=_kinds(kind, write=write))
        if unknown := sorted(pairs.keys() - allowed):
            near = difflib.get_close_matches(unknown[0], allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(allowed)) or 'no options'}"
            raise BuilderError(f"{option} {text}: type={kind} has no option {unknown[0]}", hint=hint)
        key = {"local": "dest" if write else "src", "registry": "ref"}.get(kind, "")
        if key and not pairs.get(key):
            raise BuilderError(f"{option} {text}: {key} is missing", hint=f"write {option} type={kind},{key}=…")
        return _Words(pairs, f"{option} {text}").place(kind, pairs.get(key, ""))


class _Words:
    """The details of a place, checked one by one."""

    def __init__(self, pairs: Mapping[str, str], where: str) -> None:
        self._pairs = pairs
        self._where = where

    def place(self, kind: str, where: str) -> CachePlace:
        mode = self._one_of("mode", ("min", "max"))
        compression = self._one_of("compression", _COMPRESSIONS)
        level = self._pairs.get("compression-level", "")
        if level and not (level.isascii() and level.isdigit()):
            raise BuilderError(f"{self._where}: compression-level is no number", hint="write one like 9")
        if not (self._truth("image-manifest", default=True) and self._truth("oci-mediatypes", default=True)):
            raise BuilderError(
                f"{self._where}: the old form of caches is only read",
                hint="leave image-manifest and oci-mediatypes out: BuildKit reads what is written",
            )
        return CachePlace(
            kind,
            where,
            every=mode == "max",
            ignore_error=self._truth("ignore-error", default=False),
            compression=f"{compression or 'gzip'}:{level}" if level else compression,
            force=self._truth("force-compression", default=False),
            tag=self._pairs.get("tag") or "latest",
            digest=self._pairs.get("digest", ""),
            reset=self._truth("reset", default=False),
        )

    def _one_of(self, name: str, values: tuple[str, ...]) -> str:
        value = self._pairs.get(name, values[0])
        if value not in values:
            raise BuilderError(f"{self._where}: {name}={value}", hint=f"it is one of {', '.join(filter(None, values))}")
        return value

    def _truth(self, name: str, *, default: bool) -> bool:
        value = self._pairs.get(name)
        if value is not None and value.lower() not in _TRUTH:
            raise BuilderError(f"{self._where}: {name}={value}", hint="write true or false")
        return default if value is None else _TRUTH[value.lower()]


def _kinds(kind: str, *, write: bool) -> str:
    if kind == "inline":
        return "name the image that has it: --cache-from registry.example.com/app:1"
    return f"use type={' or type='.join(_WRITE if write else _READ)}"
