"""Faults in a Dockerfile, shown the way a compiler shows them: the line, and a caret below the place."""

import difflib
from collections.abc import Iterable, Sequence

from builder.dockerfile.instructions import DockerfileError, Position

_SHOWN_WIDTH = 240  # a fault in a line of 60 kB is shown with its surroundings only


def fault(
    problem: str,
    *,
    lines: Sequence[str],
    file: str,
    line: int,
    column: int = 1,
    width: int = 1,
    end_line: int = 0,
    hint: str | None = None,
) -> DockerfileError:
    """An error that points at `width` characters from `column` of `line`; `lines` are the file's."""
    at = Position(file, line, column, max(end_line, line))
    return DockerfileError(problem, at=at, hint=hint, excerpt=excerpt(lines, line, column, width))


def excerpt(lines: Sequence[str], line: int, column: int, width: int = 1) -> str:
    """Show `line` (from 1) with a caret below; empty when the file has no such line."""
    if not 1 <= line <= len(lines):
        return ""
    text = lines[line - 1].rstrip("\r\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
    cut = max(0, column - 1 - _SHOWN_WIDTH // 2)
    shown = text[cut : cut + _SHOWN_WIDTH]
    start = column - 1 - cut
    # Tabs stay tabs below, so that the caret stands under its character on any terminal.
    pad = "".join("\t" if char == "\t" else " " for char in shown[:start]).ljust(start)
    carets = "^" * max(1, min(width, len(shown) - start))
    number = f"{line:>4}"
    return f"{number} | {shown}\n{' ' * len(number)} | {pad}{carets}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be; None when nothing is near."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower()[:64], names, n=1, cutoff=0.6)
    return names[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    near = nearest(word, known)
    return f"did you mean {near}?" if near is not None else None
