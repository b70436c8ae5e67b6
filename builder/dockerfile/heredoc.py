"""Here-documents: which words of a line open one.

The escape character is always a backslash here, whatever the escape directive says: the words are a shell's.
"""

import re
from collections.abc import Sequence

from builder.dockerfile.instructions import Heredoc

# One piece of a word: a quoted part, an escaped character, `<<` with the blanks after it, or a plain character.
_PIECE = re.compile(
    r"""'[^']*+'|"(?:[^"\\]|\\.)*"|\\.?|<<[ \t\r]*+|[^\s'"\\<]++|<|(?P<blank>\s++)|(?P<open>['"])""", re.DOTALL
)
_OPENS = re.compile(r"([0-9]*)<<(-?)\s*([^<]*)", re.DOTALL)
_QUOTED = re.compile(r"""'([^']*+)'|"((?:[^"\\]|\\.)*)"|\\(.?)""", re.DOTALL)


def heredoc_words(text: str) -> Sequence[tuple[Heredoc, int]]:
    """The heredocs that the words of a line open, without their bodies, each with the offset of its word."""
    words = _words(text)
    if words is None:
        return []
    return [(heredoc, start) for start, word in words if (heredoc := heredoc_word(word)) is not None]


def heredoc_word(word: str) -> Heredoc | None:
    """`<<EOF`, `<<-"EOF"`, `3<<EOF` as a heredoc without a body; None for any other word."""
    match = _OPENS.fullmatch(word)
    if match is None:
        return None
    words = _words(match[3])
    if words is None or len(words) != 1 or not (name := _unquoted(words[0][1])):
        return None
    quotes = match[3].count("'") + match[3].count('"')
    return Heredoc(name, "", quotes == name.count("'") + name.count('"'), match[2] == "-", int(match[1][:4] or 0))


def _words(text: str) -> list[tuple[int, str]] | None:
    """Split at blanks outside of quotes; quotes stay. None when a quote is not closed."""
    words: list[tuple[int, str]] = []
    start = -1
    for match in _PIECE.finditer(text):
        if match["open"]:
            return None
        if match["blank"]:
            if start >= 0:
                words.append((start, text[start : match.start()]))
            start = -1
        elif start < 0:
            start = match.start()
    if start >= 0:
        words.append((start, text[start:]))
    return words


def _unquoted(word: str) -> str:
    def plain(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1]
        if match[2] is not None:
            return re.sub(r'\\(["$\\])', r"\1", match[2])
        return match[3] or ""

    return _QUOTED.sub(plain, word)


def with_bodies(text: str, heredocs: Sequence[Heredoc]) -> str:
    """An instruction and its heredocs as one text that parses again, as ONBUILD stores it."""
    return "\n".join((text, *(f"{heredoc.source}{heredoc.name}" for heredoc in heredocs)))
