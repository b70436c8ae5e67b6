"""The tar format, to the byte: ustar headers, and PAX records for what they can't hold (POSIX.1-2017 pax, "ustar").

Writing is deterministic: equal entries give equal bytes. Reading takes what other tools write: ustar, old v7, GNU long
names and base-256 numbers, PAX.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from zlib import adler32

from registry.archive import AGAIN
from registry.errors import ArchiveError

BLOCK = 512
END = bytes(2 * BLOCK)

_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_XATTR = b"SCHILY.xattr."


class Kind(Enum):
    """What an entry is; the value is its type flag."""

    FILE = b"0"
    HARDLINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


_KINDS = {kind.value[0]: kind for kind in Kind} | {0: Kind.FILE, ord("7"): Kind.FILE}


@dataclass(slots=True)
class Entry:
    """One member of an archive. Names are bytes, as on disk; a directory's has no slash at its end."""

    name: bytes
    kind: Kind
    mode: int = 0  # permission bits only, setuid, setgid and sticky included
    uid: int = 0
    gid: int = 0
    size: int = 0  # of the content that follows; 0 for all but files
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


def encode(entry: Entry) -> bytes:
    """The header of an entry, with a PAX header before it if it needs one. Times are cut to seconds, as docker does."""
    name = entry.name + b"/" if entry.kind is Kind.DIRECTORY else entry.name
    mtime = entry.mtime_ns // 1_000_000_000
    records: dict[bytes, bytes] = {_XATTR + key: value for key, value in entry.xattrs.items()}
    prefix, short = _split(name)
    if short is None:
        records[b"path"], short = name, name[:100]
    link = entry.link
    if len(link) > 100 or not link.isascii():
        records[b"linkpath"], link = link, link[:100]
    uid, gid, size = entry.uid, entry.gid, entry.size
    if uid > _MAX_ID:
        records[b"uid"], uid = b"%d" % uid, 0
    if gid > _MAX_ID:
        records[b"gid"], gid = b"%d" % gid, 0
    if size > _MAX_SIZE:
        records[b"size"], size = b"%d" % size, 0
    if not 0 <= mtime <= _MAX_SIZE:
        records[b"mtime"], mtime = b"%d" % mtime, 0
    header = _ustar(
        short,
        entry.kind.value,
        prefix=prefix,
        mode=entry.mode,
        uid=uid,
        gid=gid,
        size=size,
        mtime=mtime,
        link=link,
        major=entry.major,
        minor=entry.minor,
    )
    return _pax(records) + header if records else header


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name as ustar has them; None if the name does not fit."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut > 0 and len(name) - cut - 1 <= 100:
        return name[:cut], name[cut + 1 :]
    return b"", None


def _ustar(
    name: bytes,
    flag: bytes,
    *,
    prefix: bytes = b"",
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    header = (
        b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%bustar\x0000%64b%07o\0%07o\0%b%12b"
        % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime, flag, link.ljust(100, b"\0"), bytes(64), major, minor,
           prefix.ljust(155, b"\0"), bytes(12))
    )  # fmt: skip
    # Adler-32 has the sum of all bytes in its lower half, modulo 65521, which 512 times ASCII never reaches.
    total = (adler32(header) - 1) & 0xFFFF if header.isascii() else sum(header)
    return header[:148] + b"%06o\0 " % total + header[156:]


def _pax(records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    return _ustar(b"PaxHeader", b"x", size=len(body)) + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value newline`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def padding(size: int) -> bytes:
    """Zeros that fill the last block of `size` bytes."""
    return bytes(-size % BLOCK)


@dataclass(frozen=True, slots=True)
class Header:
    """One ustar block as it stands, before PAX and GNU headers have their say."""

    entry: Entry
    flag: int


def decode(block: bytes) -> Header:
    """Read a header block that is not all zeros. Raises ArchiveError."""
    told = block[148:156].strip(b" \0").lstrip(b"0")
    if told != b"%o" % (sum(block) - sum(block[148:156]) + 8 * 32):
        raise ArchiveError(
            "this is no tar archive, or it is damaged",
            hint="it must be a tar archive, plain or packed by gzip, zstd, bzip2 or xz",
        )
    flag = block[156]
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's own headers have "ustar  " and other things there
        name = _text(block[345:500]) + b"/" + name
    kind = _KINDS.get(flag, Kind.FILE)
    if flag == 0 and name.endswith(b"/"):
        kind = Kind.DIRECTORY  # v7 had no flag for directories
    device = kind in {Kind.CHARACTER, Kind.BLOCK}
    entry = Entry(
        name,
        kind,
        number(block[100:108]) & 0o7777,
        number(block[108:116]),
        number(block[116:124]),
        number(block[124:136]),
        number(block[136:148]) * 1_000_000_000,
        _text(block[157:257]),
        number(block[329:337]) if device else 0,
        number(block[337:345]) if device else 0,
    )
    return Header(entry, flag)


def is_known(flag: int) -> bool:
    return flag in _KINDS


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def number(raw: bytes) -> int:
    """An octal number, or GNU's base-256 (first bit set, two's complement). Raises ArchiveError."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    digits = raw.strip(b" \0")
    if not digits:
        return 0
    if digits.isdigit():  # int() alone takes signs and underscores, too
        try:
            return int(digits, 8)
        except ValueError:
            pass
    raise ArchiveError(f"a tar header has {raw!r} for a number", hint=AGAIN)


def records(body: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header. Raises ArchiveError."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(body):
        space = body.find(b" ", position, position + 20)
        digits = body[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise ArchiveError("a PAX header is damaged: no length where one must be", hint=AGAIN)
        end = position + int(digits)
        record = body[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if not space < end <= len(body) or not record.endswith(b"\n") or not equals:
            raise ArchiveError("a PAX header is damaged: a record lacks the length that it claims", hint=AGAIN)
        found[key] = value
        position = end
    return found


def amend(entry: Entry, found: dict[bytes, bytes]) -> None:
    """Let PAX records overrule the header. Raises ArchiveError for those that we can't follow."""
    for key, value in found.items():
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = _decimal(key, value)
        elif key == b"uid":
            entry.uid = _decimal(key, value)
        elif key == b"gid":
            entry.gid = _decimal(key, value)
        elif key == b"mtime":
            entry.mtime_ns = _nanoseconds(value)
        elif key.startswith(_XATTR):
            entry.xattrs[key.removeprefix(_XATTR)] = value
        elif key.startswith(b"GNU.sparse."):
            raise ArchiveError("sparse members are not supported", hint="make the archive without --sparse")


def _decimal(key: bytes, value: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,19}", value):
        raise ArchiveError(f"a PAX header has {value[:40]!r} for {key.decode()}", hint=AGAIN)
    return int(value)


def _nanoseconds(value: bytes) -> int:
    match = re.fullmatch(rb"(-?)([0-9]{1,12})(?:\.([0-9]*))?", value)
    if match is None:
        raise ArchiveError(f"a PAX header has {value[:40]!r} for mtime", hint=AGAIN)
    total = int(match[2]) * 1_000_000_000 + int((match[3] or b"")[:9].ljust(9, b"0"))
    return -total if match[1] else total
