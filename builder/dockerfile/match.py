"""Patterns of file names, with the meaning of Go's filepath.Match, which COPY and ignore files use.

Unlike a shell's or Python's fnmatch: `*` and `?` never cross a slash and do match a leading dot, `[^a]` negates where
`[!a]` does not, a backslash escapes.
Promises: a pattern made to be slow is not: no star but the last of a chunk ever looks back.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache


class PatternInvalid(ValueError):
    """The pattern itself is broken: a class that is not closed, a range without an end, a backslash at the end."""


STAR, DEEP = "*", "**"
Token = tuple[str, str]  # what it is ("*", "**", "." for one character, "/"), and its regular expression


def go_match(pattern: str, name: str) -> bool:
    """Whether all of `name` matches. Raises PatternInvalid."""
    return _compiled(pattern).fullmatch(name) is not None


def has_wildcard(pattern: str) -> bool:
    """Whether `pattern` names by wildcard; without one, `plain()` of it is the name."""
    return re.search(r"(?<!\\)(?:\\\\)*[*?\[]", pattern, re.DOTALL) is not None


def plain(pattern: str) -> str:
    r"""Take the escapes off a pattern without wildcards: `a\*b` names the file `a*b`."""
    return re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)


def escaped(name: str) -> str:
    r"""The pattern that matches this name only."""
    return re.sub(r"([*?\[\\])", r"\\\1", name)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(expression(list(tokens(pattern))), re.DOTALL)


def tokens(pattern: str, *, deep: bool = False) -> Iterator[Token]:
    """Cut a pattern in pieces. `**` is a piece of its own only with `deep`; a slash behind it belongs to it."""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            stars = len(pattern) - at - len(pattern[at:].lstrip("*"))
            if not deep or stars == 1:
                at += stars if not deep else 1
                yield STAR, "[^/]*"
                continue
            at += 2
            if pattern[at : at + 1] == "/":
                at += 1
            yield DEEP, ".*" if at >= len(pattern) else "(?:.*/)?"
        elif char == "?":
            at += 1
            yield ".", "[^/]"
        elif char == "[":
            text, at = _class(pattern, at)
            # Go lets a class match a slash in filepath.Match, where no star looks back. With `**` that would cost
            # exponential time.
            yield ".", f"(?!/){text}" if deep else text
        else:
            if char == "\\":
                at += 1
                if at == len(pattern):
                    raise PatternInvalid("a backslash at the end")
            yield ("/" if pattern[at] == "/" else "."), re.escape(pattern[at])
            at += 1


def expression(pieces: Sequence[Token]) -> str:
    """The regular expression of the pieces. Chunks between `**` are atomic, and in them all stars but the last."""
    chunks: list[list[Token]] = [[]]
    for piece in pieces:
        if piece[0] == DEEP:
            chunks.append([])
        chunks[-1].append(piece)
    last = len(chunks) - 1
    return "".join(_chunk(chunk, atomic=0 < place < last) for place, chunk in enumerate(chunks))


def _chunk(chunk: Sequence[Token], *, atomic: bool) -> str:
    parts: list[list[str]] = [[]]
    for kind, text in chunk:
        if kind == STAR:
            parts.append([])
        parts[-1].append(text if kind != DEEP or not atomic else "(?:.*?/)??")
    texts = ["".join(part) for part in parts]
    middle = [f"(?>[^/]*?{text.removeprefix('[^/]*')})" for text in texts[1:-1]]
    whole = "".join((texts[0], *middle, *texts[1:][-1:]))
    return f"(?>{whole})" if atomic else whole


def _class(pattern: str, start: int) -> tuple[str, int]:
    """`[a-z]`, `[^a-z]` from `start`; the expression and where it ends."""
    at = start + 1
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    while pattern[at : at + 1] != "]" or not ranges:
        low, at = _bound(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _bound(pattern, at + 1)
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    content = "".join(ranges)
    if not content:  # a range that ends before it begins holds nothing
        return ("(?s:.)" if negated else r"(?!)"), at + 1
    return f"[{'^' if negated else ''}{content}]", at + 1


def _bound(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] == "\\":
        at += 1
    elif pattern[at : at + 1] in ("-", "]"):
        raise PatternInvalid(f"a class with {pattern[at]} where a character should be")
    if at + 1 >= len(pattern):
        raise PatternInvalid("a class [ that is not closed")
    return pattern[at], at + 1
