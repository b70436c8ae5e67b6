"""Compressed streams, read in bounded pieces. What they unpack to is not trusted: windows and ratios have limits."""

import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from registry.layouts.errors import ArchiveError

MAX_WINDOW = 128 * 1024 * 1024  # bytes; what the zstd tool itself takes by default
_XZ_MEMORY = 256 * 1024 * 1024
_INPUT = 256 * 1024
_FREE_OUTPUT = 1024 * 1024 * 1024  # bytes that may come from next to nothing; zeros are legal
_MAX_RATIO = 200
MAGIC = {
    "gzip": b"\x1f\x8b",
    "zstd": b"\x28\xb5\x2f\xfd",
    "xz": b"\xfd7zXZ\x00",
    "bzip2": b"BZh",
}


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def compression_of(head: bytes) -> str | None:
    """The name of the compression whose mark `head` bears; None for plain bytes."""
    return next((name for name, magic in MAGIC.items() if head.startswith(magic)), None)


class Opened:
    """A stream of which the beginning has been looked at, counted as it is read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._head = stream.read(8)
        while len(self._head) < 8 and (more := stream.read(8 - len(self._head))):
            self._head += more
        self.compression = compression_of(self._head)
        self.count = 0

    def read(self, size: int, /) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
        else:
            piece = self._stream.read(size)
        self.count += len(piece)
        return piece

    def readinto(self, buffer: bytearray | memoryview) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def decompressed(stream: Readable) -> Readable:
    """The plain bytes of `stream`, whatever it is compressed with. Reading raises ArchiveError."""
    opened = Opened(stream)
    if opened.compression is None:
        return opened
    return _Guarded(opened, _unpacker(opened, opened.compression))


class _Guarded:
    """Watches the ratio, so that a small file can't fill a disk."""

    def __init__(self, source: Opened, unpacked: Readable) -> None:
        self._source = source
        self._unpacked = unpacked
        self._count = 0

    def read(self, size: int, /) -> bytes:
        with _damage():
            piece = self._unpacked.read(size)
        self._count += len(piece)
        if self._count > _FREE_OUTPUT and self._count > _MAX_RATIO * self._source.count:
            raise ArchiveError(
                f"the archive unpacks to more than {_MAX_RATIO} times its size",
                hint="if you trust it, unpack it by hand first (gunzip, unzstd) and load that",
            )
        return piece


@contextmanager
def _damage() -> Iterator[None]:
    import zstandard
    from isal import igzip_lib

    isal_error: type[Exception] = igzip_lib.error  # type: ignore[assignment]  # isal's stub calls it a value

    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError, isal_error) as error:
        raise ArchiveError(f"the compressed archive is damaged: {error}", hint="make or fetch it again") from None


def _unpacker(source: Any, compression: str) -> Readable:  # noqa: ANN401 - these libraries only call its read()
    if compression == "gzip":
        from isal import igzip

        unpacked: Readable = igzip.IGzipFile(fileobj=source, mode="rb")  # type: ignore[no-untyped-call]  # isal has no types
        return unpacked
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
            source, read_size=_INPUT, read_across_frames=True
        )
    if compression == "bzip2":
        import bz2

        return bz2.BZ2File(source, "rb")
    return _Xz(source)


class _Xz:
    """lzma's own file object has no limit on memory; its decompressor has."""

    def __init__(self, source: Opened) -> None:
        self._source = source
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while not self._decompressor.eof:
            piece = b""
            if self._decompressor.needs_input and not (piece := self._source.read(_INPUT)):
                raise EOFError("it ends too early")
            if found := self._decompressor.decompress(piece, size):
                return found
        return b""
