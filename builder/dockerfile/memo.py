"""Parsed Dockerfiles, kept between builds by the digest of their text: an unchanged one costs neither lark nor a parse.

It is a cache: what is damaged, foreign or gone is parsed again. Only files without faults are kept.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path

from builder.dockerfile import instructions, parse_dockerfile
from builder.dockerfile.instructions import Dockerfile

_MOST = 256  # files kept; then all go
_KIND = "is"


def parse_remembered(content: bytes, file: str, directory: Path) -> Dockerfile:
    """As parse_dockerfile(), with `directory` as memory."""
    place = directory / f"{_key(content, file)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = json.loads(place.read_bytes(), object_hook=_made)
        if isinstance(found, Dockerfile):
            return found
    parsed = parse_dockerfile(content, file)
    with suppress(OSError):
        _keep(json.dumps(_packed(parsed), ensure_ascii=True).encode(), place)
    return parsed


def _key(content: bytes, file: str) -> str:
    """Of the text, its name, and this very parser: its files are told by size and time."""
    parser = [(entry.name, found.st_size, found.st_mtime_ns) for entry, found in _sources()]
    return hashlib.sha256(repr((file, sorted(parser), content)).encode()).hexdigest()


def _sources() -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    with os.scandir(os.path.dirname(__file__)) as scan:
        for entry in scan:
            if entry.name.endswith((".py", ".lark")):
                yield entry, entry.stat()


def _keep(content: bytes, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = os.listdir(place.parent)
    if len(kept) >= _MOST:
        for name in kept:
            with suppress(OSError):
                os.unlink(place.parent / name)
    new = place.with_name(f"{os.urandom(8).hex()}.new")
    new.write_bytes(content)
    new.rename(place)


def _packed(value: object) -> object:
    if is_dataclass(value):
        return {
            _KIND: type(value).__name__,
            **{field.name: _packed(getattr(value, field.name)) for field in fields(value)},
        }
    if isinstance(value, tuple):
        return [_packed(each) for each in value]
    return value


def _made(value: dict[str, object]) -> object:
    kind = getattr(instructions, str(value.pop(_KIND)))
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise ValueError(f"no part of a Dockerfile: {kind}")
    return kind(**{name: _tuples(each) for name, each in value.items()})


def _tuples(value: object) -> object:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
