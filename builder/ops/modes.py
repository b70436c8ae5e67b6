"""The words of --chmod and --chown."""

import re
import stat
from collections.abc import Callable

from builder.errors import BuilderError
from runner.container.users import resolve_user
from runner.errors import RunnerError

Change = Callable[[int], int]  # st_mode, type bits included, to permission bits

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o007, "a": 0o6777}
_STICKY, _OTHERS, _SEARCH = 0o1000, 0o007, 0o111
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")


def parse_chmod(text: str) -> tuple[Change, int | None]:
    """What `--chmod=text` does to a mode, and the mode itself if it is given as a number.

    Symbolic words are those of BSD's chmod(1) with a umask of 0, as with BuildKit: = takes set-id bits away, from
    directories too, but never the sticky bit; s and t say nothing for others alone. Raises BuilderError.
    """
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda _: fixed, fixed
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    actions: list[tuple[str, str, str]] = []
    for clause in clauses:
        if clause is None:
            raise BuilderError(f"invalid --chmod={text}", hint="write it as chmod does: 755, u=rwX,go=rX or +x")
        actions += [(clause[1], action[1], action[2]) for action in _ACTION.finditer(clause[2])]

    def change(mode: int) -> int:
        bits, searched = mode & 0o7777, stat.S_ISDIR(mode) or mode & _SEARCH != 0
        for who, operator, what in actions:
            bits = _act(bits, who, operator, what, searched=searched)
        return bits

    return change, None


def _act(bits: int, who: str, operator: str, what: str, *, searched: bool) -> int:
    """One operation of a clause. `searched`: the mode was that of a directory or had an x, before anything was done."""
    mask = 0
    for letter in who:
        mask |= _WHO[letter]
    if what in {"u", "g", "o"}:
        return _copied(bits, mask, operator, (bits >> {"u": 6, "g": 3, "o": 0}[what]) & 7)
    given = 0
    for letter in what:
        if letter == "t" and (not mask or mask & ~_OTHERS):
            mask |= _STICKY
            given |= _STICKY
        elif letter == "s" and (not mask or mask & ~_OTHERS):
            given |= 0o6000
        elif letter == "X":
            given |= _SEARCH if searched or operator == "-" else 0
        else:
            given |= {"r": 0o444, "w": 0o222, "x": _SEARCH}.get(letter, 0)
    given &= mask or 0o7777
    if operator == "-":
        return bits & ~given
    if operator == "=":
        bits &= ~(mask or _WHO["a"])
    return bits | given


def _copied(bits: int, mask: int, operator: str, value: int) -> int:
    """`u=g`: three bits to each of those that the clause names."""
    places = sum(place for place in (0o100, 0o010, 0o001) if not mask or mask & place * 4)
    if operator == "-":
        return bits & ~(value * places)
    if operator == "=":
        bits &= ~(7 * places)
    return bits | value * places


def find_owner(rootfs: int, text: str) -> tuple[int, int]:
    """The owner that `--chown=text` means in a root filesystem.

    As with BuildKit a number alone is user and group, a name alone brings its primary group, a colon with nothing
    behind it means nothing, and root needs no /etc/passwd. Unlike there, a name that is not known is an error and not
    root.
    """
    user, _, group = text.partition(":")
    user = user or "0"
    group = group or (user if user.isdecimal() else "")
    try:
        found = resolve_user(rootfs, f"{user}:{group}" if group else user)
    except RunnerError as error:
        if "root" not in {user, group}:
            raise BuilderError(f"--chown={text}: {error}", hint=error.hint) from None
        plain_user, plain_group = ("0" if word == "root" else word for word in (user, group or "0"))
        return find_owner(rootfs, f"{plain_user}:{plain_group}")
    return found.uid, found.gid
