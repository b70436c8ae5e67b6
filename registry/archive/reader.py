"""Reading an archive once, from front to back, out of a stream of chunks.

A hostile archive costs no more memory than one chunk and one long name.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from registry.archive import AGAIN, HARM, tarformat
from registry.archive.tarformat import BLOCK, Entry, Kind
from registry.archive.unpacking import CHUNK, Limits, unpacked
from registry.errors import ArchiveError

_LONGEST_NAME = 4096  # PATH_MAX
_LONGEST_EXTENSION = 1 << 20  # a PAX header, capabilities and extended attributes included
_HIGHEST_ID = (1 << 32) - 2  # -1 is no user but "leave it" for chown(2)
_HIGHEST_DEVICE = (1 << 20) - 1
_BIGGEST = (1 << 63) - 1
_LATEST = (1 << 40) * 1_000_000_000
_LONGEST_TAIL = 1 << 30  # bytes
_PAGE = 4096  # so many zeros in a row, or more, are not written but skipped
_ZEROS = bytes(CHUNK)


def starts_archive(stream: BinaryIO) -> bool:
    """Whether a stream is a tar archive, plain or packed. Reads its beginning."""
    try:
        start = b""
        for chunk in unpacked(stream, Limits()):
            start += chunk
            if len(start) >= BLOCK:
                break
    except ArchiveError:
        return False
    return is_header(start[:BLOCK])


def is_header(block: bytes) -> bool:
    """Whether a tar archive may begin so."""
    with suppress(ArchiveError):
        return len(block) == BLOCK and any(block) and bool(tarformat.decode(block))
    return False


class TarReader:
    """Entries in order; the content of each is to be taken (or not) before the next is asked for."""

    def __init__(self, chunks: Iterator[bytes], limits: Limits) -> None:
        self._chunks = chunks
        self._limits = limits
        self._chunk = memoryview(b"")
        self._position = 0
        self._left = 0  # content of the current entry not yet taken
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """Raises ArchiveError when the archive is damaged, ends too early or breaks a limit."""
        if not self._refill():
            raise ArchiveError("the archive is empty; even one without entries has an end mark", hint=AGAIN)
        for _ in range(self._limits.entries):
            entry = self._next()
            if entry is None:
                self._drain()
                return
            yield entry
        raise ArchiveError(f"the archive has more than {self._limits.entries} entries", hint=HARM)

    def write_to(self, file: int) -> None:
        """Write the current entry's content at the start of an empty file, long rows of zeros as holes."""
        size, done = self._left, 0
        for piece in self.pieces():
            done += len(piece)
            if len(piece) >= _PAGE and piece[0] == 0 and bytes(piece) == _ZEROS[: len(piece)]:
                os.lseek(file, done, os.SEEK_SET)
                continue
            while piece:
                piece = piece[os.write(file, piece) :]
        if size >= _PAGE:
            os.ftruncate(file, size)

    def pieces(self) -> Iterator[memoryview]:
        """The current entry's content, or what is left of it."""
        while self._left:
            piece = self._piece(self._left)
            self._left -= len(piece)
            yield piece

    def _next(self) -> Entry | None:
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        own: dict[bytes, bytes] = {}
        name = link = None
        while True:
            block = self._block()
            if block is None or not any(block):
                if own or name is not None or link is not None:
                    raise ArchiveError("the archive ends after an extended header", hint=AGAIN)
                return None
            header = tarformat.decode(block)
            entry = header.entry
            match header.flag:
                case 0x78:  # x: PAX, for the next entry
                    own = tarformat.records(self._extension(entry.size))
                case 0x67:  # g: PAX, for all that follow; docker does not let it change anything, and so do we
                    self._extension(entry.size)
                case 0x4C:  # L: GNU long name
                    name = self._extension(entry.size).partition(b"\0")[0]
                case 0x4B:  # K: GNU long link
                    link = self._extension(entry.size).partition(b"\0")[0]
                case _:
                    entry.name = entry.name if name is None else name
                    entry.link = entry.link if link is None else link
                    return self._finish(entry, header.flag, own)

    def _finish(self, entry: Entry, flag: int, records: dict[bytes, bytes]) -> Entry:
        tarformat.amend(entry, records)
        shown = entry.name[:200].decode(errors="replace")
        if not tarformat.is_known(flag):
            raise ArchiveError(
                f"{shown!r} is of tar type {chr(flag)!r}, which is not supported",
                hint="make the archive without --sparse, as ustar or PAX",
            )
        if len(entry.name) > _LONGEST_NAME or len(entry.link) >= _LONGEST_NAME:
            raise ArchiveError(f"a name in the archive is longer than {_LONGEST_NAME} bytes: {shown[:60]}…", hint=HARM)
        if b"\0" in entry.name or b"\0" in entry.link:
            raise ArchiveError(f"a name in the archive has a zero byte: {shown!r}", hint=HARM)
        for what, value, most in (
            ("size", entry.size, _BIGGEST),
            ("owner", entry.uid, _HIGHEST_ID),
            ("group", entry.gid, _HIGHEST_ID),
            ("device number", max(entry.major, entry.minor, -min(entry.major, entry.minor)), _HIGHEST_DEVICE),
            ("time", abs(entry.mtime_ns), _LATEST),
        ):
            if not 0 <= value <= most:
                raise ArchiveError(f"{shown!r} has a {what} that no file can have: {value}", hint=HARM)
        if entry.kind is not Kind.FILE:
            entry.size = 0  # no content follows, whatever the header says (Go's archive/tar reads it so, too)
        if entry.size > self._limits.size:
            raise ArchiveError(
                f"{shown!r} claims {entry.size} bytes; an archive may unpack to {self._limits.size}", hint=HARM
            )
        self._left, self._padding = entry.size, -entry.size % BLOCK
        return entry

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_EXTENSION:
            raise ArchiveError(f"an extended header claims {size} bytes", hint=HARM)
        body = bytearray()
        while len(body) < size:
            body += self._piece(size - len(body))
        self._skip(-size % BLOCK)
        return bytes(body)

    def _block(self) -> bytes | None:
        """The next 512 bytes; None where the archive ends without the zeros that should close it."""
        start = self._position
        if len(self._chunk) - start >= BLOCK:
            self._position = start + BLOCK
            return bytes(self._chunk[start : start + BLOCK])
        if start == len(self._chunk) and not self._refill():
            return None
        block = bytearray()
        while len(block) < BLOCK:
            block += self._piece(BLOCK - len(block))
        return bytes(block)

    def _piece(self, most: int) -> memoryview:
        """Up to `most` bytes, at least one."""
        if self._position == len(self._chunk) and not self._refill():
            raise ArchiveError("the archive ends too early", hint="it was cut off; make or fetch it again")
        piece = self._chunk[self._position : self._position + most]
        self._position += len(piece)
        return piece

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._piece(size))

    def _refill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk, self._position = memoryview(chunk), 0
                return True
        return False

    def _drain(self) -> None:
        """What follows the end mark counts for the diff ID, too; but nobody pads an archive with so much."""
        self._position = len(self._chunk)
        followed = 0
        while self._refill():
            self._position = len(self._chunk)
            followed += self._position
            if followed > _LONGEST_TAIL:
                raise ArchiveError(f"more than {_LONGEST_TAIL} bytes follow the archive's end mark", hint=HARM)
