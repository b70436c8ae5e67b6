"""`RUN --mount=…`: text → MountFlag. What holds a variable is checked when that is known (builder/plan)."""

import csv
import re
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from builder.dockerfile.faults import did_you_mean
from builder.dockerfile.flags import FlagFault
from builder.dockerfile.instructions import MountFlag

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")
_FIELDS = {
    "type": "type",
    "from": "from_",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "id": "id",
    "sharing": "sharing",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "size": "size",
    "env": "env",
}
_SWITCHES = {"readonly": True, "ro": True, "readwrite": False, "rw": False}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_HIGHEST_SIZE = (1 << 63) - 1
_HIGHEST_ID = (1 << 32) - 2  # -1 is no user but "leave it" for chown(2)
_WORDS = ("type", "target", "source", "from_", "id", "sharing", "mode", "uid", "gid", "size", "env")


def parse_mount(text: str) -> MountFlag:
    """Read the value of `--mount`. Values that hold a variable are not checked yet. Raises FlagFault."""
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise FlagFault(f"--mount: {error}", text) from None
    if not any(rows):
        raise FlagFault("--mount needs a value", text, hint="write --mount=type=bind,target=/some/directory")
    values: dict[str, str] = {}
    switches: list[tuple[str, str]] = []
    for entry in rows[0]:
        written, equals, value = entry.partition("=")
        key = written.lower()
        if key in _SWITCHES or key == "required":
            switches.append((key, value if equals else "true"))
        elif key not in _FIELDS:
            known = (*_FIELDS, *_SWITCHES, "required")
            raise FlagFault(f"--mount: unknown key {written!r}", written, hint=did_you_mean(key, known))
        elif not equals:
            raise FlagFault(f"--mount: {written} needs a value", entry, hint=f"write {key}=…")
        else:
            values[_FIELDS[key]] = value
    mount = _switched(replace(MountFlag(), **values), switches)
    if "$" in mount.from_[:-1]:
        raise FlagFault(
            "--mount: from doesn't support variables",
            mount.from_,
            hint="give the image a stage name with FROM … AS name, use that",
        )
    given = values.keys() | {key for key, _ in switches if key == "required"}
    return mount if "$" in mount.type else _checked(mount, given, later="$")


def expanded_mount(mount: MountFlag, expand: Callable[[str], str]) -> MountFlag:
    """The same with the values of its variables, all checked. Raises FlagFault, and what `expand` raises."""
    words = {name: getattr(mount, name) for name in _WORDS}
    given = {name for name, word in words.items() if word != getattr(MountFlag(), name)}
    given |= {"required"} if mount.required or any(key == "required" for key, _ in mount.switches) else set()
    words = {name: word and expand(word) for name, word in words.items() if name != "from_"}
    switches = [(key, expand(word)) for key, word in mount.switches]
    return _checked(_switched(replace(mount, **words, switches=()), switches), given)


def _switched(mount: MountFlag, switches: Iterable[tuple[str, str]]) -> MountFlag:
    """With its booleans, but for those whose value has a variable still."""
    later: list[tuple[str, str]] = []
    for key, value in switches:
        if "$" in value:
            later.append((key, value))
        elif key == "required":
            mount = replace(mount, required=_boolean(key, value))
        else:
            mount = replace(mount, read_only=_SWITCHES[key] == _boolean(key, value))
    return replace(mount, switches=tuple(later))


def _checked(mount: MountFlag, given: set[str], *, later: str = "\0") -> MountFlag:
    """What a value that holds the character `later` means is not known yet."""
    kind = mount.type.lower()
    if kind not in TYPES:
        hint = did_you_mean(kind, TYPES) or f"one of {', '.join(TYPES)}"
        raise FlagFault(f"--mount: unknown type {mount.type!r}", mount.type, hint=hint)
    sharing = mount.sharing.lower()
    if sharing not in SHARINGS and later not in sharing:
        hint = did_you_mean(sharing, SHARINGS) or f"one of {', '.join(SHARINGS)}"
        raise FlagFault(f"--mount: unknown sharing {mount.sharing!r}", mount.sharing, hint=hint)
    _check_keys(kind, given)
    for name, value, pattern, what in (
        ("mode", mount.mode, "[0-7]{1,11}", "octal digits"),
        ("uid", mount.uid, "[0-9]{1,10}", "a number"),
        ("gid", mount.gid, "[0-9]{1,10}", "a number"),
    ):
        if name in given and later not in value and not re.fullmatch(pattern, value):
            raise FlagFault(f"--mount: {name} is {what}, not {value!r}", value or name)
        if name != "mode" and value.isdecimal() and int(value) > _HIGHEST_ID:
            raise FlagFault(f"--mount: no {name} is as high as {value}", value)
    if "size" in given and later not in mount.size and not is_size(mount.size):
        raise FlagFault(f"--mount: not a size: {mount.size[:40]!r}", mount.size, hint="write it like 64m or 1g")
    if kind == "secret" and not {"id", "source", "target"} & given:
        raise FlagFault("--mount: a secret needs an id", "secret", hint="write type=secret,id=NAME")
    if kind == "secret" and {"id", "source"} <= given:
        raise FlagFault("--mount: source and id of a secret are the same thing", "source", hint="keep id")
    return replace(mount, type=kind, sharing=mount.sharing if later in sharing else sharing)


_ONLY_FOR = {
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
    "sharing": ("cache",),
    "size": ("tmpfs",),
    "required": ("secret", "ssh"),
    "from_": ("bind", "cache", "tmpfs", "ssh"),
    "source": ("bind", "cache", "tmpfs", "secret"),
}


def _check_keys(kind: str, given: set[str]) -> None:
    for name in sorted(given):
        kinds = _ONLY_FOR.get(name, TYPES)
        if kind not in kinds:
            key = name.rstrip("_")
            raise FlagFault(f"--mount: {key} is not for type {kind}", key, hint=f"it is for {', '.join(kinds)}")


def _boolean(key: str, value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise FlagFault(f"--mount: {key} is true or false, not {value!r}", f"{key}={value}")
    return value in _TRUE


def size_in_bytes(text: str) -> int:
    """`64m`, `1.5g` → bytes; an empty text is no limit (0)."""
    found = _SIZE.fullmatch(text)
    return int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0


def is_size(text: str) -> bool:
    """Whether size_in_bytes() can tell what it means."""
    return _SIZE.fullmatch(text) is not None and size_in_bytes(text) <= _HIGHEST_SIZE
