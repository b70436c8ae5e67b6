"""Parsed Dockerfiles, kept between builds by the digest of their text: an unchanged one costs neither lark nor a parse.

It is a cache: what is damaged, foreign or gone is parsed again. Only files without faults are kept.
"""

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import Dockerfile, Known

_MOST = 256  # files kept; then all go


def parse_remembered(content: bytes, file: str, directory: Path) -> Dockerfile:
    """As parse_dockerfile(), with `directory` as memory."""
    place = directory / f"{_key(content, file)}.json"
    with suppress(OSError, msgspec.MsgspecError, RecursionError):
        kept = msgspec.json.decode(place.read_bytes(), type=_Kept)
        return Dockerfile(
            kept.instructions, kept.escape, kept.syntax, kept.checks, kept.comments, kept.empty_continuations
        )
    parsed = parse_dockerfile(content, file)
    with suppress(OSError):
        keep(msgspec.json.encode(parsed), place)
    return parsed


class _Kept(msgspec.Struct):
    """A Dockerfile, told so that a decoder knows what an instruction can be."""

    instructions: tuple[Known, ...]
    escape: str
    syntax: str
    checks: str
    comments: tuple[tuple[str, ...], ...]
    empty_continuations: tuple[int, ...]


def _key(content: bytes, file: str) -> str:
    """Of the text, its name, and this very parser."""
    return hashlib.sha256(repr((file, stamps(os.path.dirname(__file__)), content)).encode()).hexdigest()


@cache
def stamps(directory: str) -> tuple[tuple[str, int, int], ...]:
    """What tells the sources in a directory from any other version of them: names, sizes and times."""
    with os.scandir(directory) as scan:
        sources = [(entry.name, entry.stat()) for entry in scan if entry.name.endswith((".py", ".lark"))]
    return tuple(sorted((name, status.st_size, status.st_mtime_ns) for name, status in sources))


def keep(content: bytes, place: Path) -> None:
    """Put a file into a memory that does not grow without end."""
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = os.listdir(place.parent)
    if len(kept) >= _MOST:
        for name in kept:
            with suppress(OSError):
                os.unlink(place.parent / name)
    new = place.with_name(f"{os.urandom(8).hex()}.new")
    new.write_bytes(content)
    new.rename(place)
