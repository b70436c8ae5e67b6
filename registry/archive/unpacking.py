"""Packed streams in bounded pieces. What they unpack to is not trusted: windows, ratios and sizes have limits.

Packers are imported where they are used: each costs some milliseconds, and most commands need none.
"""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Protocol, cast

from registry.archive import AGAIN
from registry.errors import ArchiveError

CHUNK = 128 * 1024  # larger ones cost page faults: the allocator gives them back to the kernel each time
_MARK = 8  # bytes that tell how data is packed
_WINDOW = 1 << 27  # zstd's own limit for decompression without --long
_XZ_MEMORY = 256 << 20


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

    Raises ArchiveError when it is damaged, cut off, or grows beyond the limits.
    """
    source = _Counted(stream)
    start = source.read(CHUNK)
    while len(start) < _MARK and (more := source.read(CHUNK)):
        start += more  # a pipe gives what it has
    produced = 0
    for chunk in _chunks(start, source):
        produced += len(chunk)
        if produced > limits.size:
            raise ArchiveError(f"the archive unpacks to more than {limits.size >> 30} GiB", hint="make smaller ones")
        if produced > limits.free + limits.ratio * source.count:
            raise ArchiveError(
                f"the archive unpacks to more than {limits.ratio} times its size",
                hint="it looks like a decompression bomb; if you trust it, unpack it by hand first",
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
        raise ArchiveError(f"the {packing} data is damaged: {error}", hint=AGAIN) from error


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
        chunk = source.read(CHUNK)


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
        while chunk := reader.read(CHUNK):
            if len(chunk) >= len(seal):
                held, chunk = chunk, held
            else:
                whole = held + chunk
                chunk, held = whole[: -len(seal)], whole[-len(seal) :]
            yield chunk
    if held.endswith(seal):
        yield held[: -len(seal)]
    else:
        raise ArchiveError("the zstd data ends too early", hint=AGAIN)


def _members(make: Callable[[], _Stream], packing: str, start: bytes, source: _Counted) -> Iterator[bytes]:
    data = start
    while data:
        member = make()
        while not member.eof:
            if not data and member.needs_input:
                data = source.read(CHUNK)
                if not data:
                    raise ArchiveError(f"the {packing} data ends too early", hint=AGAIN)
            if chunk := member.decompress(data, CHUNK):
                yield chunk
            data = b""
        data = member.unused_data or source.read(CHUNK)
        while data and not data.strip(b"\0"):
            data = source.read(CHUNK)  # tapes and some tools pad with zeros
