"""History lines and step names, spelled as BuildKit spells them, so that image diff tools find no difference.

Pure. The odd formats are those of Go's fmt package, with which BuildKit writes them (reference §1.11).
"""

from collections.abc import Iterable, Mapping, Sequence

from registry.model import Healthcheck

COMMENT = "buildkit.dockerfile.v0"
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def quoted(text: str) -> str:
    """Go's %q of a string."""
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _code(char)) for char in text) + '"'


def quoted_list(words: Sequence[str]) -> str:
    """Go's %q of a list of strings: `["a" "b"]`."""
    return "[" + " ".join(quoted(word) for word in words) + "]"


def plain_list(words: Iterable[str]) -> str:
    """Go's %v of a list of strings: `[a b]`."""
    return "[" + " ".join(words) + "]"


def duration(nanoseconds: int) -> str:
    """Go's time.Duration: 1m30s, 1.5s, 100ms, 0s."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return _decimal(nanoseconds, size) + unit
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    seconds = _decimal(rest, 1_000_000_000) + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{seconds}"


def healthcheck(check: Healthcheck) -> str:
    """Go's %+v of the structure."""
    times = {
        "Interval": check.interval, "Timeout": check.timeout, "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }  # fmt: skip
    told = " ".join(f"{name}:{duration(time)}" for name, time in times.items())
    return f"HEALTHCHECK {{Test:{plain_list(check.test)} {told} Retries:{check.retries}}}"


def run(args: Sequence[str], declared: Mapping[str, str | None], environment: Mapping[str, str]) -> str:
    """`RUN |2 A=x B=y /bin/sh -c …`: the declared ARGs with their values, then the command."""
    values = [f"{name}={environment.get(name, value or '')}" for name, value in declared.items()]
    counted = [f"|{len(values)}", *values] if values else []
    return " ".join(["RUN", *counted, *args, "# buildkit"])


def copy(
    word: str,
    sources: Sequence[str],
    inline: Sequence[str],
    destination: str,
    *,
    chown: str = "",
    chmod: str = "",
    parents: bool = False,
) -> str:
    """`COPY a b /dst # buildkit`; of the flags only --parents, --chown and --chmod are told."""
    flags = ["--parents"] if parents else []
    flags += [f"--{name}={value}" for name, value in (("chown", chown), ("chmod", chmod)) if value]
    return " ".join([word, *flags, *sources, *(f"<<{name}" for name in inline), destination, "# buildkit"])


def assignments(word: str, pairs: Iterable[tuple[str, str | None]]) -> str:
    """`ENV a=1 b=2`, `ARG x` and the like."""
    return " ".join([word, *(name if value is None else f"{name}={value}" for name, value in pairs)])


def _code(char: str) -> str:
    point = ord(char)
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if unit > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)
