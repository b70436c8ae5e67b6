"""Platforms: how they are written, brought to one form, and matched (image-spec image-index.md)."""

import platform as host
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Self

from registry.errors import ManifestInvalid

_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "i386": "386", "i486": "386", "i586": "386", "i686": "386",
    "aarch64": "arm64", "armhf": "arm", "armv7l": "arm", "armv6l": "arm", "armel": "arm", "mips64el": "mips64le",
}  # fmt: skip
_VARIANTS = {"armhf": "v7", "armv7l": "v7", "armv6l": "v6", "armel": "v6"}
_BASELINES = {"amd64": 1, "arm": 7, "arm64": 8}  # the variant that is meant when none is written
_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd", "wasi"})
_PROCESSORS = frozenset({
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
})  # fmt: skip
_COMPONENT = re.compile(r"[a-z0-9_][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and a processor, in the words of GOOS and GOARCH."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/arch[/variant]`, or an architecture alone (then the OS is linux).

        Raises:
            ManifestInvalid: not of that form.
        """
        parts = text.strip().lower().split("/")
        if not 1 <= len(parts) <= 3 or not all(_COMPONENT.fullmatch(part) for part in parts):
            raise ManifestInvalid(f"not a platform: {text[:100]!r}", hint="write it like linux/amd64 or linux/arm/v7")
        if len(parts) == 1:
            parts = [parts[0], ""] if parts[0] in _SYSTEMS else ["linux", parts[0]]
            if parts[1] and _ARCHITECTURES.get(parts[1], parts[1]) not in _PROCESSORS:
                hint = "write it like linux/amd64 or linux/arm/v7"
                raise ManifestInvalid(f"neither an operating system nor a processor: {text[:100]!r}", hint=hint)
        architecture = parts[1] or native().architecture
        return cls._normal(parts[0], architecture, parts[2] if len(parts) == 3 else "")

    @classmethod
    def _normal(cls, os: str, architecture: str, variant: str) -> Self:
        variant = variant or _VARIANTS.get(architecture, "")
        architecture = _ARCHITECTURES.get(architecture, architecture)
        if (architecture, variant) in {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}:
            variant = ""
        if architecture == "arm" and variant.isdigit():
            variant = f"v{variant}"
        return cls(os, architecture, variant)

    @property
    def normal(self) -> "Platform":
        """The same platform in its one spelling (arm64/v8 is arm64)."""
        return self._normal(self.os, self.architecture, self.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@cache
def native() -> Platform:
    """The platform this machine runs without emulation."""
    machine = host.machine().lower()
    return Platform("linux", _ARCHITECTURES.get(machine, machine), _VARIANTS.get(machine, ""))


def preference(wanted: Platform, offered: Platform) -> int | None:
    """How well `offered` runs on `wanted`: 0 is exact, larger is worse, None is not at all.

    A variant runs what was made for lower ones (arm v7, v6, v5; amd64 v3, v2, v1), best its own; a 64-bit processor
    takes its 32-bit predecessor's images last.
    """
    wanted, offered = wanted.normal, offered.normal
    if wanted.os != offered.os:
        return None
    if wanted.architecture == offered.architecture:
        if wanted.variant == offered.variant:
            return 0
        if wanted.architecture in _BASELINES:
            ours, theirs = _version(wanted), _version(offered)
            return None if ours is None or theirs is None or theirs > ours else ours - theirs
        return 1 if not offered.variant else None
    if (wanted.architecture, offered.architecture) == ("arm64", "arm"):
        theirs = _version(offered)
        return None if theirs is None or theirs > 8 else 100 - theirs
    if (wanted.architecture, offered.architecture) == ("amd64", "386"):
        return 100
    return None


def best_match(wanted: Platform, offered: Iterable[Platform | None]) -> int | None:
    """Index of the platform among `offered` that fits `wanted` best; the first of equals; None if none fits."""
    ranked = [
        (rank, index)
        for index, candidate in enumerate(offered)
        if candidate is not None and (rank := preference(wanted, candidate)) is not None
    ]
    return min(ranked)[1] if ranked else None


def _version(platform: Platform) -> int | None:
    """The number in the variant, without one the architecture's baseline; None for a variant that is no number."""
    if not platform.variant:
        return _BASELINES[platform.architecture]
    digits = platform.variant.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 3 else None
