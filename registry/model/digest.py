"""Content addresses (image-spec descriptor.md, "Digests")."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Protocol, Self

from registry.errors import DigestInvalid

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")


class Hasher(Protocol):
    """The part of hashlib's objects that is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Content address, `algorithm:encoded`; sha256 and sha512 are known, lowercase hex only."""

    algorithm: str
    encoded: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(str(self)):
            shown = str(self)[:150]
            raise DigestInvalid(f"not a digest: {shown}", hint="write sha256: and 64 lowercase hex digits")

    @classmethod
    def parse(cls, text: str) -> Self:
        algorithm, _, encoded = text.partition(":")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, content: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Self:
        hasher = new_hasher(algorithm)
        hasher.update(content)
        return cls(algorithm, hasher.hexdigest())

    @property
    def short(self) -> str:
        """The first 12 hex digits, as listings show them."""
        return self.encoded[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


def new_hasher(algorithm: str) -> Hasher:
    """Start a hash of one of the known algorithms. Raises DigestInvalid for any other."""
    if algorithm == "sha256":
        return hashlib.sha256()
    if algorithm == "sha512":
        return hashlib.sha512()
    raise DigestInvalid(f"unknown digest algorithm {algorithm[:40]!r}", hint="sha256 and sha512 are supported")


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """Name the filesystem reached after each layer (image-spec config.md, "Layer ChainID").

    Args:
        diff_ids: n digests of *uncompressed* layer archives, base layer first.

    Returns:
        n digests; item i names layers 0 to i applied in order, so item 0 is `diff_ids[0]` itself.

    Raises:
        ValueError: `diff_ids` is empty.
    """
    if not diff_ids:
        raise ValueError("an image without layers has no chain ID")
    return list(accumulate(diff_ids, lambda below, top: Digest.of(f"{below} {top}".encode())))


@cache
def empty_digest() -> Digest:
    """The digest of no bytes at all."""
    return Digest.of(b"")
