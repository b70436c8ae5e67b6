"""What a step's cache key is made of, in a form that is kept with the step's record and read again.

Only msgspec's types: dataclasses would take every build some milliseconds to define.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import MsgspecError, Struct, convert, to_builtins

from builder.plan.vertices import Op
from registry.model import Digest

_LONGEST = 2000  # characters of one value; what is longer keeps its start, and the digest of all of it


class Input(Struct, frozen=True):
    """What a step stands on or takes files from."""

    kind: str  # image, step, context, http, scratch
    title: str  # for people: the image's name, the step's text
    name: str = ""  # of its content: a chain ID; empty if nothing short stands for it
    digest: str = ""  # of an image's manifest


class Selection(Struct, frozen=True):
    """Files that the step took from a source."""

    title: str  # what they were taken from
    digest: str


class Parts(Struct, frozen=True):
    definition: dict[str, Any]
    below: Input
    sources: tuple[Input, ...] = ()
    selections: tuple[Selection, ...] = ()
    epoch: int | None = None


def shortened(value: object) -> object:
    """The same value with long texts cut, so that a record stays small whatever a Dockerfile holds."""
    if isinstance(value, str):
        if len(value) <= _LONGEST:
            return value
        return f"{value[:_LONGEST]}… ({len(value)} characters, {Digest.of(value.encode('utf-8', 'surrogateescape'))})"
    if isinstance(value, Mapping):
        return {str(key): shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(item) for item in value]
    return value


def definition_of(op: Op) -> dict[str, Any]:
    return {name: shortened(value) for name, value in op.definition().items()}


def to_json(parts: Parts) -> object:
    found: object = to_builtins(parts)
    return found


def from_json(value: object) -> Parts | None:
    """None if it is not what to_json() makes: of another version, or not there."""
    try:
        return convert(value, Parts)
    except MsgspecError:
        return None
