"""The words of --chmod and --chown."""

import re
import stat
from collections.abc import Callable

from builder.errors import BuilderError
from runner.container.users import resolve_user
from runner.errors import RunnerError

Change = Callable[[int], int]  # st_mode, type bits included, to permission bits

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")


def parse_chmod(text: str) -> tuple[Change, int | None]:
    """What `--chmod=text` does to a mode, and the mode itself if it is given as a number.

    Symbolic words are those of chmod(1) with a umask of 0. Raises BuilderError.
    """
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda _: fixed, fixed
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    actions: list[tuple[str, str, str]] = []
    for clause in clauses:
        if clause is None:
            raise BuilderError(f"invalid --chmod={text}", hint="write it as chmod does: 755, u=rwX,go=rX or +x")
        actions += [(clause[1] or "a", action[1], action[2]) for action in _ACTION.finditer(clause[2])]

    def change(mode: int) -> int:
        bits, is_dir = mode & 0o7777, stat.S_ISDIR(mode)
        for who, operator, what in actions:
            bits = _act(bits, who, operator, what, is_dir=is_dir)
        return bits

    return change, None


def _act(bits: int, who: str, operator: str, what: str, *, is_dir: bool) -> int:
    mask = 0
    for letter in who:
        mask |= _WHO[letter]
    given = _bits(bits, what, is_dir=is_dir) & mask
    if operator == "+":
        return bits | given
    if operator == "-":
        return bits & ~given
    kept = 0o6000 if is_dir else 0  # chmod(1) leaves a directory's set-id bits alone unless they are named
    return (bits & ~(mask & ~kept)) | given


def _bits(bits: int, what: str, *, is_dir: bool) -> int:
    """The bits that the right side of a clause means, for everybody; the left side picks among them."""
    if what in {"u", "g", "o"}:
        one = (bits >> {"u": 6, "g": 3, "o": 0}[what]) & 7
        return one * 0o111
    found = 0
    for letter in what:
        if letter == "X":
            found |= 0o111 if is_dir or bits & 0o111 else 0
        else:
            found |= {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}[letter]
    return found


def find_owner(rootfs: int, text: str) -> tuple[int, int]:
    """The owner that `--chown=text` means in a root filesystem.

    As with BuildKit a number alone is user and group, a name alone brings its primary group, `user:` means the group
    root, and root needs no /etc/passwd. Unlike there, a name that is not known is an error and not root.
    """
    user, colon, group = text.partition(":")
    user = user or "0"
    if colon:
        group = group or "0"
    elif user.isdecimal():
        group = user
    try:
        found = resolve_user(rootfs, f"{user}:{group}" if group else user)
    except RunnerError as error:
        if "root" not in {user, group}:
            raise BuilderError(f"--chown={text}: {error}", hint=error.hint) from None
        plain_user, plain_group = ("0" if word == "root" else word for word in (user, group or "0"))
        return find_owner(rootfs, f"{plain_user}:{plain_group}")
    return found.uid, found.gid
