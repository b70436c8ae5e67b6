"""Cache keys (reference §1.10). Pure.

The fast key is made of definitions and of the names of file systems, which cost nothing to know. The slow key has the
content of what a step selects from its sources instead, so it also hits when another stage gives the same files.
Both stand on the parent's *output*, not on how it was made: a step whose new output equals the old one lets the
steps after it hit again.
"""

from collections.abc import Sequence

from builder.plan.vertices import CopyOp, InlineFile, MkdirOp, RunOp, canonical
from registry.model import Digest, Platform, Reference

_VERSION = 1  # raise it when a step of the same definition makes something else than before


def fast_key(
    op: CopyOp | RunOp | MkdirOp, parent: str | None, sources: Sequence[str | None], epoch: int | None
) -> Digest | None:
    """The key from definitions.

    Args:
        op: what the step does.
        parent: name of the file system it stands on.
        sources: name of each further input; None if that has no name that stands for its content.
        epoch: SOURCE_DATE_EPOCH if the user gave one: it is then in the output.

    Returns:
        None if a source has no name.
    """
    if None in sources:
        return None
    return _key({"kind": "fast", "op": op.definition(), "parent": parent, "sources": list(sources), "epoch": epoch})


def slow_key(op: CopyOp | RunOp, parent: str | None, contents: Sequence[Digest], epoch: int | None) -> Digest:
    """The key from content: `contents` are the digests of what the op's sources or mounts select, in order."""
    if isinstance(op, CopyOp):
        inline = [[source.name, source.content] for source in op.sources if isinstance(source, InlineFile)]
        order = [0 if isinstance(source, InlineFile) else source.input for source in op.sources]
        definition = {**op.manner(), "inline": inline, "order": _renumbered(order)}
    else:
        definition = dict(op.definition())
    names = [str(digest) for digest in contents]
    return _key({"kind": "slow", "op": definition, "parent": parent, "contents": names, "epoch": epoch})


def _renumbered(order: Sequence[int]) -> list[int]:
    """In which order sources take turns, whatever their vertices' numbers; one that comes several times counts once."""
    turns = [number for at, number in enumerate(order) if at == 0 or order[at - 1] != number]
    names = {number: name for name, number in enumerate(dict.fromkeys(turns))}
    return [names[number] for number in turns]


def pull_key(reference: Reference, platform: Platform) -> Digest:
    """Under which builds that need the same base image wait for the one that pulls it."""
    return _key({"kind": "pull", "reference": str(reference), "platform": str(platform)})


def _key(parts: dict[str, object]) -> Digest:
    return Digest.of(canonical({"version": _VERSION, **parts}))
