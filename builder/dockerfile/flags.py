"""Flags of instructions: which there are, what they may hold, and the values that are not mere text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from builder.dockerfile.faults import did_you_mean, nearest


class Kind(Enum):
    TEXT = "text"
    BOOL = "bool"
    LIST = "list"  # may be given several times


_COPY = {"chown": Kind.TEXT, "chmod": Kind.TEXT, "link": Kind.BOOL, "exclude": Kind.LIST}
FLAGS: Mapping[str, Mapping[str, Kind]] = {
    "FROM": {"platform": Kind.TEXT},
    "RUN": {"mount": Kind.LIST, "network": Kind.TEXT, "security": Kind.TEXT, "device": Kind.LIST},
    "COPY": {"from": Kind.TEXT, "parents": Kind.BOOL, **_COPY},
    "ADD": {"checksum": Kind.TEXT, "keep-git-dir": Kind.BOOL, "unpack": Kind.BOOL, **_COPY},
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), Kind.TEXT),
}
NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")

_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)(?:'|\\?$)|"((?:[^"\\]|\\.)*)(?:"|\\?$)|\\(.?)""")
_DURATION = re.compile(r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_LONGEST = 2**63 - 1
_MODE = re.compile(r"[0-7]{1,5}|[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")


class FlagFault(Exception):
    """What is wrong with a flag, and which part of its text; the parser adds the place."""

    def __init__(self, problem: str, part: str = "", *, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.part = part
        self.hint = hint


@dataclass(slots=True)
class Flags:
    """The flags of one instruction, checked against its table."""

    instruction: str
    text: dict[str, str] = field(default_factory=dict)
    booleans: dict[str, bool] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def add(self, word: str) -> str:
        """Take `--name[=value]` as written, and return the name. Raises FlagFault."""
        written = word.partition("=")[0]
        plain = unquote(word)
        name, equals, value = plain[2:].partition("=")
        known = FLAGS.get(self.instruction, {})
        kind = known.get(name)
        if kind is None:
            near = nearest(name, known)
            hint = f"did you mean --{near}?" if near else f"known are {', '.join(f'--{flag}' for flag in known)}"
            hint = hint if known else f"{self.instruction} takes no flags"
            raise FlagFault(f"unknown flag --{name} of {self.instruction}", written, hint=hint)
        if kind is not Kind.LIST and (name in self.text or name in self.booleans):
            raise FlagFault(f"duplicate flag --{name}", written, hint="it can be given once only")
        if kind is Kind.BOOL:
            self.booleans[name] = _boolean(name, value, given=bool(equals))
        elif not equals:
            raise FlagFault(f"--{name} needs a value", written, hint=f"write --{name}=…")
        elif kind is Kind.LIST:
            self.lists.setdefault(name, []).append(value)
        else:
            self.text[name] = value
        return name


def _boolean(name: str, value: str, *, given: bool) -> bool:
    if given and value.lower() not in ("true", "false"):
        raise FlagFault(f"--{name} is true or false, not {value!r}", value, hint=f"write --{name} or --{name}=false")
    return value.lower() != "false"


def unquote(word: str) -> str:
    """Take quotes and backslashes off a flag, as BuildKit does before anything looks at its value."""
    if "'" not in word and '"' not in word and "\\" not in word:
        return word
    return _QUOTED.sub(lambda match: re.sub(r"\\(.?)", r"\1", match[1] or match[2] or "") or match[3] or "", word)


def parse_duration(text: str) -> int:
    """Go's time.ParseDuration, in nanoseconds. Raises ValueError."""
    if text.lstrip("+-") == "0" and len(text) <= 2:
        return 0
    if len(text) > 128 or not _DURATION.fullmatch(text):
        raise ValueError(f"not a duration: {text!r}")
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(text):
        scale = _NANOSECONDS[unit]
        total += int(whole or 0) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if total > _LONGEST:
        raise ValueError(f"too long a duration: {text!r}")
    return -total if text[0] == "-" else total


def check_interval(name: str, text: str) -> int:
    """A duration of HEALTHCHECK: 0, or at least a millisecond. Raises FlagFault."""
    try:
        value = parse_duration(text) if text else 0
    except ValueError as error:
        raise FlagFault(f"--{name}: {error}", text, hint="write it like 30s, 1m30s or 500ms") from None
    if value != 0 and value < 10**6:
        raise FlagFault(f"--{name} can't be less than 1ms", text)
    return value


def check_retries(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]{1,10}", text) or not -(2**31) <= int(text) < 2**31:
        raise FlagFault(f"--retries is a number, not {text!r}", text)
    if int(text) < 0:
        raise FlagFault(f"--retries can't be negative ({text})", text)
    return int(text)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        hint = did_you_mean(value, choices) or f"one of {', '.join(choices)}"
        raise FlagFault(f"--{name} can't be {value!r}", value, hint=hint)


@dataclass(frozen=True, slots=True)
class Device:
    """What `RUN --device` asks for, by its CDI name."""

    name: str
    required: bool


def parse_device(text: str) -> Device:
    """`vendor.com/class=name[,required]`. Raises FlagFault."""
    name, required = "", False
    for word in text.split(","):
        key, equals, value = word.partition("=")
        if key.lower() == "required":
            required = _boolean("required", value, given=bool(equals))
        elif key.lower() == "name" and equals and not name:
            name = value
        elif not name:
            name = word
        else:
            raise FlagFault(f"--device: not understood: {word!r}", word, hint="write --device=NAME or NAME,required")
    if not name:
        raise FlagFault("--device needs a name", text, hint="write --device=vendor.com/class=name")
    return Device(name, required)


def check_no_variable(name: str, value: str) -> None:
    """`--from` names a stage when the file is read, before any variable has a value."""
    if "$" in value[:-1]:
        raise FlagFault(
            f"--{name} doesn't support variables",
            value,
            hint="give the image a stage name with FROM … AS name, use that",
        )


def check_mode(value: str) -> None:
    if value and "$" not in value and (not _MODE.fullmatch(value) or (value.isdigit() and int(value, 8) > 0o7777)):
        raise FlagFault(f"--chmod: not a mode: {value!r}", value, hint="octal like 755, or symbolic like u=rwX,go=rX")
