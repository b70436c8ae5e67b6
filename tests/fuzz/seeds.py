"""What the fuzzers begin with: the inputs of the tests, taken from where they stand."""

import ast
import bz2
import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path

import zstandard

from tests.interop.build_context import make_archive

_TESTS = Path(__file__).parents[1]
_UNIT = _TESTS / "unit" / "dockerfile"
_CASES = _TESTS / "interop" / "dockerfiles"


def dockerfiles() -> Iterator[bytes]:
    for file in sorted(_CASES.glob("*.Dockerfile")):
        yield file.read_bytes()
    for name in ("grammar", "lines", "heredocs", "faults", "instructions", "triggers"):
        for text in _texts(name):
            yield text.encode("utf-8", "surrogatepass")
            if "FROM" not in text.upper():
                yield f"FROM scratch\n{text}\n".encode("utf-8", "surrogatepass")


def told_files() -> Iterator[bytes]:
    """Of each instruction what targets.planning makes of the words that may follow; and the files of the tests."""
    for first in range(18):
        for word in range(18 + first % 4, 96, 4):
            yield bytes((0, first, word, 27, 18, 28, 4, first, word, 30, 22, word, 23, 28))
    yield from dockerfiles()


def words() -> Iterator[bytes]:
    for text in _texts("expand"):
        yield text.encode("utf-8", "surrogatepass")


def rules() -> Iterator[bytes]:
    """Each with paths that it may decide about."""
    paths = "a a/b foo/bar/x.md README.md tree/src/lib/lib.o .dot x/y/z/foo".replace(" ", "\0")
    for file in sorted(_CASES.glob("*.dockerignore")):
        yield f"{file.read_text()}\0{paths}".encode()
    for name in ("ignore", "match"):
        for text in _texts(name):
            yield f"{text}\0{paths}".encode("utf-8", "surrogatepass")


def archives() -> Iterator[bytes]:
    plain = make_archive()
    yield plain
    yield plain[: len(plain) // 2]
    for pack in (gzip.compress, bz2.compress, lzma.compress, zstandard.compress):
        yield pack(plain)


def told_archives() -> Iterator[bytes]:
    """As targets.applying reads them: some entries one after the other, of each kind and of names that meet."""
    for kind in range(8):
        for name in range(16):
            yield bytes((kind, 0, name, 1, 0xED, 0, name, 5, 1, name, 2, 1, 0xED, 3, 0, 12, 0x81, 12, 2))
            yield bytes((2, 0, 12, 1, 0xFF, 0x81, 13, 0, kind, 1, 12, name, 1, 0xED, 1, 14, name))


def member_names() -> Iterator[bytes]:
    yield from (
        b"a/b",
        b"/a",
        b"./a/",
        b"a/../b",
        b"a//b/./c",
        b"../a",
        b".",
        b"a/..",
        b".wh.a",
        b"a/b/",
        b"...",
        b"\xff",
    )


def _texts(name: str) -> Iterator[str]:
    """All texts in a test's module."""
    tree = ast.parse((_UNIT / f"test_{name}.py").read_text())
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 2000
    }
    return iter(sorted(found))
