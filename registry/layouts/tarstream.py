"""Reading tar archives that strangers made: one pass, no seeking, every length bounded.

The standard library's reader takes extended headers of any length into memory and guesses where it should refuse.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from registry.layouts.decompress import Readable
from registry.layouts.errors import ArchiveError

BLOCK = 512
MAX_MEMBERS = 200_000
_MAX_HEADER = 1024 * 1024  # bytes of an extended header
_MAX_NAME = 4096
_PIECE = 1024 * 1024
FILE, HARD_LINK, SYMBOLIC_LINK, DIRECTORY = b"0", b"1", b"2", b"5"
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = b"x", b"g", b"L", b"K"
_OLD_FILE = b"\0"


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    size: int
    kind: bytes
    link: str = ""


class TarStream:
    """Iterate for the members; `pieces` gives the content of the one that came last."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = 0  # bytes of content not yet read
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        changes: dict[str, str] = {}
        for _ in range(MAX_MEMBERS):
            self._skip()
            header = self._read_header()
            if header is None:
                return
            member = _parse(header)
            if member.kind in {_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK}:
                self._start(member.size)
                body = self._all(member.size)
                if member.kind == _PAX:
                    changes.update(_pax(body))
                elif member.kind != _PAX_GLOBAL:
                    changes["path" if member.kind == _GNU_NAME else "linkpath"] = _text(body.rstrip(b"\0"))
                continue
            member = _changed(member, changes)
            changes = {}
            self._start(member.size if member.kind == FILE else 0)
            yield member
        raise ArchiveError(f"the archive has more than {MAX_MEMBERS} members", hint="this is no archive of images")

    def pieces(self) -> Iterator[bytes]:
        """The content of the current member."""
        while self._left:
            piece = self._stream.read(min(_PIECE, self._left))
            if not piece:
                raise _truncated()
            self._left -= len(piece)
            yield piece

    def _start(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _skip(self) -> None:
        for _ in self.pieces():
            pass
        while self._padding:
            piece = self._stream.read(self._padding)
            if not piece:
                raise _truncated()
            self._padding -= len(piece)

    def _all(self, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise ArchiveError(f"a tar header of {size} bytes", hint="this archive was made to do harm")
        return b"".join(self.pieces())

    def _read_header(self) -> bytes | None:
        header = b""
        while len(header) < BLOCK:
            piece = self._stream.read(BLOCK - len(header))
            if not piece:
                if header:
                    raise _truncated()
                return None
            header += piece
        return None if header == b"\0" * BLOCK else header


def _truncated() -> ArchiveError:
    return ArchiveError("the archive ends in the middle", hint="make or fetch it again")


def _parse(header: bytes) -> Member:
    told = header[148:156].strip(b" \0").lstrip(b"0")
    if told != b"%o" % (sum(header[:148]) + 8 * 32 + sum(header[156:])):
        raise ArchiveError("this is no tar archive, or it is damaged", hint="`pybuild load` reads what `save` writes")
    kind = header[156:157]
    name = _text(header[:100].partition(b"\0")[0])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500].partition(b"\0")[0])):
        name = f"{prefix}/{name}"
    link = _text(header[157:257].partition(b"\0")[0])
    return Member(name, _number(header[124:136]), FILE if kind == _OLD_FILE else kind, link)


def _number(field: bytes) -> int:
    """Octal digits, or binary where the first bit is set."""
    if field[0] & 0x80:
        found = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        digits = field.strip(b" \0")
        if any(digit not in b"01234567" for digit in digits):
            raise ArchiveError("a tar header holds no number where one must be", hint="the archive is damaged")
        found = int(digits or b"0", 8)
    if found >= 1 << 60:
        raise ArchiveError("a tar header tells an impossible size", hint="this archive was made to do harm")
    return found


def _pax(body: bytes) -> dict[str, str]:
    """Records of a pax header, each `LENGTH KEY=VALUE` and a newline (pax(1), "pax Extended Header")."""
    found = {}
    while body:
        length, _, _ = body.partition(b" ")
        if not length.isdigit() or not 0 < len(length) < 8 or not len(length) + 3 <= int(length) <= len(body):
            raise ArchiveError("a pax header is damaged", hint="make or fetch the archive again")
        key, equals, value = body[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equals:
            raise ArchiveError("a pax header is damaged", hint="make or fetch the archive again")
        found[_text(key)] = _text(value)
        body = body[int(length) :]
    return found


def _changed(member: Member, changes: dict[str, str]) -> Member:
    if any(key.startswith("GNU.sparse") for key in changes):
        raise ArchiveError("the archive holds sparse files", hint="make it without --sparse")
    size = changes.get("size", "")
    if size and not (size.isascii() and size.isdigit() and len(size) < 19):
        raise ArchiveError("a pax header is damaged", hint="make or fetch the archive again")
    member = replace(
        member,
        name=changes.get("path", member.name),
        link=changes.get("linkpath", member.link),
        size=int(size) if size else member.size,
    )
    if max(len(member.name), len(member.link)) > _MAX_NAME:
        raise ArchiveError("a name in the archive is too long", hint="this archive was made to do harm")
    return member


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
