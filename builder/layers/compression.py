"""Compressing layers in parallel with output that does not depend on how many cores there are.

Blocks of fixed size become gzip members or zstd frames of their own, in order. Both formats define a row of them as one
stream, and every client reads it so (estargz and zstd:chunked layers are made in the same way).
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from builder.errors import LayerError
from registry.model.digest import Digest
from registry.model.media_types import LAYER_TYPES, MediaType

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

# Packers are imported where they are used: each costs some milliseconds, and most commands need none.

_BLOCK = {"gzip": 1 << 20, "zstd": 4 << 20, "uncompressed": 1 << 20}
_LEVELS = {"gzip": (0, 9, 2), "zstd": (0, 22, 3), "uncompressed": (0, 0, 0)}  # lowest, highest, ours
_MOST_WORKERS = 16  # reading and hashing, one thread each, feed no more
# isal's level 3 has other output with AVX-512 than without (1.9.1, seen); 0 to 2 have the same. Above them zlib packs
# tighter, at a tenth of the speed.
_ISAL_LEVELS = 2
_GZIP_WBITS = 31
Packed = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Compression:
    """How layers are packed."""

    algorithm: str  # gzip, zstd, uncompressed
    level: int

    @classmethod
    def parse(cls, algorithm: str, level: int | None = None) -> Self:
        """Raises LayerError for an algorithm or a level that there is not."""
        if algorithm not in _LEVELS:
            raise LayerError(f"unknown compression {algorithm!r}", hint="choose gzip, zstd or uncompressed")
        lowest, highest, ours = _LEVELS[algorithm]
        if level is not None and not lowest <= level <= highest:
            raise LayerError(f"{algorithm} has no level {level}", hint=f"choose {lowest} to {highest}")
        return cls(algorithm, ours if level is None else level)

    @property
    def media_type(self) -> MediaType:
        return LAYER_TYPES[self.algorithm]

    @property
    def block(self) -> int:
        return _BLOCK[self.algorithm]

    def packer(self) -> "Callable[[memoryview], Packed]":
        """A function that packs one block, or hands it back; safe in many threads at once."""
        level = self.level
        if self.algorithm == "zstd":
            import zstandard

            return lambda block: zstandard.ZstdCompressor(level=level, write_checksum=True).compress(block)
        if self.algorithm == "uncompressed":
            return lambda block: block
        if level <= _ISAL_LEVELS:
            from isal import isal_zlib

            return lambda block: isal_zlib.compress(block, level, _GZIP_WBITS)
        import zlib

        return lambda block: zlib.compress(block, level, _GZIP_WBITS)


class Packer:
    """Takes an archive in pieces of any size; hashes it, packs it in threads, hands the result on in order.

    At most a few blocks a core are in memory, and the same ones all the time: fresh memory costs as much as copying.
    What fits into one block never starts a thread.
    """

    def __init__(self, compression: Compression, sink: Callable[[bytes | memoryview], object]) -> None:
        self._pack = compression.packer()
        self._size = compression.block
        self._sink = sink
        self._block = memoryview(bytearray(self._size))
        self._filled = 0
        self._hash = hashlib.sha256()
        self._workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
        self._running: deque[tuple[memoryview, Future[None], Future[Packed]]] = deque()
        self._free: list[memoryview] = []
        self._pool: ThreadPoolExecutor | None = None
        self._hasher: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._hasher):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def write(self, piece: bytes) -> int:
        """Take all of it; its length."""
        length = len(piece)
        end = self._filled + length
        if end < self._size:
            self._block[self._filled : end] = piece
            self._filled = end
            return length
        left = memoryview(piece)
        while left:
            taken = min(len(left), self._size - self._filled)
            self._block[self._filled : self._filled + taken] = left[:taken]
            self._advance(taken)
            left = left[taken:]
        return length

    def copy_from(self, file: int, size: int) -> int:
        """Take so many bytes from where an open file stands; the number of those that there were."""
        done = 0
        while done < size:
            room = self._block[self._filled : self._filled + min(size - done, self._size - self._filled)]
            taken = os.readv(file, (room,))
            if not taken:
                break
            self._advance(taken)
            done += taken
        return done

    def finish(self) -> Digest:
        """Pack what is left; the digest of all that was written (the diff ID)."""
        while self._running:
            self._emit()
        if self._filled:
            last = self._block[: self._filled]
            self._hash.update(last)
            self._sink(self._pack(last))
        return Digest("sha256", self._hash.hexdigest())

    def _advance(self, taken: int) -> None:
        self._filled += taken
        if self._filled == self._size:
            self._submit()
            self._block = self._free.pop() if self._free else memoryview(bytearray(self._size))
            self._filled = 0

    def _submit(self) -> None:
        if self._pool is None or self._hasher is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._workers, "pack")
            self._hasher = ThreadPoolExecutor(1, "hash")
        hashed = self._hasher.submit(self._hash.update, self._block)
        self._running.append((self._block, hashed, self._pool.submit(self._pack, self._block)))
        if len(self._running) > self._workers + 2:
            self._emit()

    def _emit(self) -> None:
        block, hashed, packed = self._running.popleft()
        hashed.result()
        self._sink(packed.result())
        self._free.append(block)
