"""Compressing layers in parallel with output that does not depend on how many cores there are, and the way back.

Blocks of fixed size become gzip members or zstd frames of their own, in order. Both formats define a row of them as one
stream, and every client reads it so (estargz and zstd:chunked layers are made in the same way).
"""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self, cast

from builder.errors import LayerError
from registry.model.digest import Digest
from registry.model.media_types import MediaType

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

# Packers are imported where they are used: each costs some milliseconds, and most commands need none.

_BLOCK = {"gzip": 1 << 20, "zstd": 4 << 20, "uncompressed": 1 << 20}
_CHUNK = 256 * 1024
_LEVELS = {"gzip": (0, 9, 2), "zstd": (1, 19, 3), "uncompressed": (0, 0, 0)}  # lowest, highest, ours
_MEDIA_TYPES = {
    "gzip": MediaType.OCI_LAYER_GZIP,
    "zstd": MediaType.OCI_LAYER_ZSTD,
    "uncompressed": MediaType.OCI_LAYER,
}
_MOST_WORKERS = 16  # reading and hashing, one thread each, feed no more
# isal's level 3 has other output with AVX-512 than without (1.9.1, seen); 0 to 2 have the same. Above them zlib packs
# tighter, at a tenth of the speed.
_ISAL_LEVELS = 2
_GZIP_WBITS = 31
_WINDOW = 1 << 27  # zstd's own limit for decompression without --long
_XZ_MEMORY = 256 << 20


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
        return _MEDIA_TYPES[self.algorithm]

    @property
    def block(self) -> int:
        return _BLOCK[self.algorithm]

    def packer(self) -> Callable[[bytes], bytes]:
        """A function that packs one block; safe in many threads at once."""
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

    At most a few blocks a core are in memory. What fits into one block never starts a thread.
    """

    def __init__(self, compression: Compression, sink: Callable[[bytes], object]) -> None:
        self._pack = compression.packer()
        self._block = compression.block
        self._sink = sink
        self._pieces: list[bytes] = []
        self._held = 0
        self._hash = hashlib.sha256()
        self._workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
        self._running: deque[tuple[Future[None], Future[bytes]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._hasher: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._hasher):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def write(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held >= self._block:
            whole = b"".join(self._pieces)
            cut = len(whole) - len(whole) % self._block
            for start in range(0, cut, self._block):
                self._submit(whole[start : start + self._block] if len(whole) > self._block else whole)
            self._pieces = [whole[cut:]]
            self._held = len(whole) - cut

    def finish(self) -> Digest:
        """Pack what is left; the digest of all that was written (the diff ID)."""
        last = b"".join(self._pieces)
        while self._running:
            self._emit()
        if last:
            self._hash.update(last)
            self._sink(self._pack(last))
        return Digest("sha256", self._hash.hexdigest())

    def _submit(self, block: bytes) -> None:
        if self._pool is None or self._hasher is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._workers, "pack")
            self._hasher = ThreadPoolExecutor(1, "hash")
        self._running.append((self._hasher.submit(self._hash.update, block), self._pool.submit(self._pack, block)))
        if len(self._running) > self._workers + 2:
            self._emit()

    def _emit(self) -> None:
        hashed, packed = self._running.popleft()
        hashed.result()
        self._sink(packed.result())


@dataclass(frozen=True, slots=True)
class Limits:
    """What one archive may become when it is unpacked.

    gzip can't pack better than 1032:1, so the ratio only ever stops zstd, xz and bzip2, and those only after
    `free` bytes of nothing but zeros.
    """

    size: int = 64 << 30  # bytes in all
    ratio: int = 1100  # unpacked bytes for one packed byte …
    free: int = 256 << 20  # … beyond these
    entries: int = 4_000_000


class _Stream(Protocol):
    """What igzip_lib's, bz2's and lzma's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def unpacked(stream: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """The content of an archive in chunks; its packing is told by its first bytes, never by a name.

    Raises LayerError when it is damaged, cut off, or grows beyond the limits.
    """
    source = _Counted(stream)
    start = source.read(_CHUNK)
    produced = 0
    for chunk in _chunks(start, source):
        produced += len(chunk)
        if produced > limits.size:
            raise LayerError(f"the archive unpacks to more than {limits.size >> 30} GiB")
        if produced > limits.free + limits.ratio * source.count:
            raise LayerError(
                f"the archive unpacks to more than {limits.ratio} times its size",
                hint="it looks like a decompression bomb",
            )
        yield chunk


def sniff(start: bytes) -> str:
    """How data that begins so is packed: gzip, zstd, bzip2, xz, or uncompressed for all else."""
    if start.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if start.startswith(b"\x28\xb5\x2f\xfd") or (start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50):
        return "zstd"
    if start.startswith(b"BZh"):
        return "bzip2"
    if start.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    return "uncompressed"


class _Counted(io.RawIOBase):
    """Counts what is read of a stream. Bytes may be put back, and others be made to follow its end."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._back = self._more = b""
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        if self._back:
            data, self._back = self._back[:size], self._back[size:]
            return data
        data = self._stream.read(size)
        self.count += len(data)
        if not data and self._more:
            self._back, self._more = self._more, b""
            return self.read(size)
        return data

    def put_back(self, data: bytes) -> None:
        self._back = data

    def follow_by(self, data: bytes) -> None:
        self._more = data


_Chunks = Callable[[bytes, _Counted], Iterator[bytes]]


def _chunks(start: bytes, source: _Counted) -> Iterator[bytes]:
    packing = sniff(start)
    chunks, damages = _unpacker(packing)
    try:
        yield from chunks(start, source)
    except damages as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the data's (bz2 raises a bare OSError)
        raise LayerError(f"the {packing} data is damaged: {error}") from error


def _unpacker(packing: str) -> tuple[_Chunks, tuple[type[Exception], ...]]:
    """What unpacks, and the errors by which it tells that the data is damaged."""
    if packing == "gzip":
        from isal import igzip_lib

        error = cast("type[Exception]", igzip_lib.error)  # its stubs take the class for an instance
        make = partial(igzip_lib.IgzipDecompressor, igzip_lib.DECOMP_GZIP)
        return partial(_members, make, packing), (error, EOFError)
    if packing == "zstd":
        import zstandard

        return _zstd, (zstandard.ZstdError,)
    if packing == "bzip2":
        import bz2

        return partial(_members, bz2.BZ2Decompressor, packing), (OSError, EOFError)
    if packing == "xz":
        import lzma

        return partial(_members, partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY), packing), (lzma.LZMAError,)
    return _plain, ()


def _plain(start: bytes, source: _Counted) -> Iterator[bytes]:
    chunk = start
    while chunk:
        yield chunk
        chunk = source.read(_CHUNK)


def _zstd(start: bytes, source: _Counted) -> Iterator[bytes]:
    """The reader takes a stream that was cut off for one that ended; so we let ours end with a frame that we know.

    What it holds repeats, so it can't show up by itself when its frame is swallowed as the rest of a cut one.
    """
    import zstandard

    seal = os.urandom(16) * 8
    source.put_back(start)
    source.follow_by(zstandard.compress(seal))
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    held = b""
    with unpacker.stream_reader(cast("BinaryIO", source), read_across_frames=True, closefd=False) as reader:
        while chunk := reader.read(_CHUNK):
            held += chunk
            if len(held) > len(seal):
                yield held[: -len(seal)]
                held = held[-len(seal) :]
    if held != seal:
        raise LayerError("the zstd data ends too early")


def _members(make: Callable[[], _Stream], packing: str, start: bytes, source: _Counted) -> Iterator[bytes]:
    data = start
    while data:
        member = make()
        while not member.eof:
            if not data and member.needs_input:
                data = source.read(_CHUNK)
                if not data:
                    raise LayerError(f"the {packing} data ends too early")
            if chunk := member.decompress(data, _CHUNK):
                yield chunk
            data = b""
        data = member.unused_data or source.read(_CHUNK)
        while data and not data.strip(b"\0"):
            data = source.read(_CHUNK)  # tapes and some tools pad with zeros
