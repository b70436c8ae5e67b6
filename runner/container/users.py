"""Who a process runs as: `user[:group]` looked up in the container's own /etc/passwd and /etc/group.

Promises: the files are read bounded and only as regular files within the root; a name or number that is not entirely
one is refused, never cut to what could be read (CVE-2026-30892); the primary group is among the supplementary ones
(CVE-2022-36109).
"""

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from runner.errors import RunnerError
from runner.kernel.paths import read_file_in_root

_LIMIT = 8 << 20  # bytes of /etc/passwd or /etc/group
_MAX_ID = (1 << 31) - 1  # as docker; the kernel's own -1 means "do not change"
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve_user(root_fd: int, user: str, additional_groups: Sequence[str] = ()) -> Identity:
    """Raises RunnerError: no such user or group, malformed text, files that are not what they should be."""
    return identity(user, additional_groups, lambda path: _read(root_fd, path))


def identity(user: str, additional_groups: Sequence[str], read: Callable[[str], str]) -> Identity:
    """The same over any reader of the two files; a file that is not there reads as empty."""
    name, colon, group = user.partition(":")
    if (colon and not (name and group)) or ":" in group or user != user.strip():
        raise RunnerError(f"invalid user {user!r}", hint="write USER, UID, USER:GROUP or UID:GID")
    entry = _find_user(name or "0", read)
    gid = _find_group(group, read) if group else entry.gid
    groups = [gid]
    if not group and entry.name:  # a group that is given stands alone, as with docker
        groups += [number for number, members in _groups(read) if entry.name in members]
    groups += [_find_group(extra, read) for extra in additional_groups]
    return Identity(entry.uid, gid, tuple(dict.fromkeys(groups)), entry.home)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    uid: int
    gid: int
    home: str


def _find_user(wanted: str, read: Callable[[str], str]) -> _Entry:
    number = _id(wanted)
    for fields in _lines(read("/etc/passwd"), 6):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is None or gid is None:
            continue
        if fields[0] == wanted or uid == number:
            return _Entry(fields[0], uid, gid, fields[5] or "/")
    if number is not None:
        return _Entry("", number, 0, "/")
    if _NUMBER.fullmatch(wanted):
        raise RunnerError(f"user {wanted} is out of range", hint=f"ids go from 0 to {_MAX_ID}")
    raise RunnerError(
        f"unable to find user {wanted}: no matching entries in passwd file",
        hint="add it in the image, or give a number",
    )


def _find_group(wanted: str, read: Callable[[str], str]) -> int:
    number = _id(wanted)
    for fields in _lines(read("/etc/group"), 3):
        if fields[0] == wanted and (gid := _id(fields[2])) is not None:
            return gid
    if number is not None:
        return number
    if _NUMBER.fullmatch(wanted):
        raise RunnerError(f"group {wanted} is out of range", hint=f"ids go from 0 to {_MAX_ID}")
    raise RunnerError(
        f"unable to find group {wanted}: no matching entries in group file",
        hint="add it in the image, or give a number",
    )


def _groups(read: Callable[[str], str]) -> Iterator[tuple[int, list[str]]]:
    for fields in _lines(read("/etc/group"), 4):
        gid = _id(fields[2])
        if gid is not None:
            yield gid, fields[3].split(",")


def _lines(text: str, least: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields


def _id(text: str) -> int | None:
    if not _NUMBER.fullmatch(text) or not text.isascii():
        return None
    number = int(text) if len(text) <= 10 else _MAX_ID + 1
    return number if number <= _MAX_ID else None


def _read(root_fd: int, path: str) -> str:
    try:
        return read_file_in_root(root_fd, path, _LIMIT).decode(errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            return ""
        raise RunnerError(f"can't read {path} of the image: {error.strerror}") from None
