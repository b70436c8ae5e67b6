"""Annotations of manifests, indexes and the descriptors that point to them: as words, and which one goes where. Pure.

A word is `[LEVEL[PLATFORM],…:]KEY=VALUE`, the form of `--annotation`; among an output's options the same is
`annotation[-LEVEL][PLATFORM].KEY=VALUE` (buildx, "Annotations").
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builder.errors import BuilderError
from registry.errors import RegistryError
from registry.model import Platform

MANIFEST, INDEX = "manifest", "index"
MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR = "manifest-descriptor", "index-descriptor"
LEVELS = (MANIFEST, INDEX, MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR)
_PLACE = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_./-]+)\])?")
_OPTION = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_./-]+)\])?\.(\S+)")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One key and its value on one level; without a platform on that of each."""

    level: str
    key: str
    value: str
    platform: Platform | None = None


def parse_annotation(text: str) -> tuple[Annotation, ...]:
    """Read a word of `--annotation`. Raises BuilderError."""
    name, equals, value = text.partition("=")
    places, colon, key = name.rpartition(":")
    if not (equals and key):
        raise BuilderError(f"--annotation {text}: no key", hint="write --annotation [LEVEL:]KEY=VALUE")
    found: list[Annotation] = []
    for place in places.split(",") if colon else [MANIFEST]:
        match = _PLACE.fullmatch(place)
        if match is None:
            raise BuilderError(f"--annotation {text}: {place!r} is no level", hint=_HINT)
        found.append(_annotation(f"--annotation {text}", match[1], match[2], key, value))
    return tuple(found)


def parse_option(name: str, value: str) -> Annotation | None:
    """Read an option of `-o`; None: it is something else. Raises BuilderError."""
    match = _OPTION.fullmatch(name)
    if match is None:
        return None
    return _annotation(f"-o …,{name}={value}", match[1] or MANIFEST, match[2], match[3], value)


_HINT = f"there is {', '.join(LEVELS)}"


def _annotation(where: str, level: str, platform: str | None, key: str, value: str) -> Annotation:
    if level not in LEVELS:
        raise BuilderError(f"{where}: {level!r} is no level", hint=_HINT)
    try:
        return Annotation(level, key, value, Platform.parse(platform).normal if platform else None)
    except RegistryError as error:
        raise BuilderError(f"{where}: {error}", hint=error.hint) from None


def chosen(annotations: Iterable[Annotation], level: str, platform: Platform | None = None) -> dict[str, str]:
    """What goes on one level: for all platforms first, then for this one; the last of equal keys wins."""
    for_all = {each.key: each.value for each in annotations if each.level == level and each.platform is None}
    if platform is None:
        return for_all
    own = {each.key: each.value for each in annotations if each.level == level and each.platform == platform.normal}
    return for_all | own


def check(annotations: Sequence[Annotation], platforms: Sequence[Platform]) -> None:
    """Raises BuilderError: one is for an index where there is none, or for a platform that is not built."""
    built = {platform.normal for platform in platforms}
    for each in annotations:
        if each.level in {INDEX, INDEX_DESCRIPTOR} and len(platforms) == 1:
            raise BuilderError(
                f"{each.level} annotations not supported for single platform export: {each.key}",
                hint=f"annotate the {each.level.replace(INDEX, MANIFEST)}, or build for several platforms",
            )
        if each.platform is not None and each.platform not in built:
            told = ", ".join(map(str, platforms))
            raise BuilderError(f"annotation {each.key} is for {each.platform}", hint=f"this builds for {told}")
