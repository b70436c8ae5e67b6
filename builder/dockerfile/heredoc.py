"""Here-documents: which words of a line open one, and what a RUN with one means.

The escape character is always a backslash here, whatever the escape directive says: the words are a shell's.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.dockerfile.instructions import Heredoc, Run

# One piece of a word: a quoted part, an escaped character, `<<` with the blanks after it, or a plain character.
_PIECE = re.compile(
    r"""'[^']*+'|"(?:[^"\\]|\\.)*+"|\\.?|<<[ \t\r]*+|[^\s'"\\<]++|<|(?P<blank>\s++)|(?P<open>['"])""", re.DOTALL
)
_OPENS = re.compile(r"([0-9]*)<<(-?)\s*([^<]*)", re.DOTALL)
_QUOTED = re.compile(r"""'([^']*+)'|"((?:[^"\\]|\\.)*+)"|\\(.?)""", re.DOTALL)


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


@dataclass(frozen=True, slots=True)
class Script:
    """What the shell of a RUN gets: `text` after `-c`, and perhaps a file that must be there first.

    A body that begins with `#!` is run by its own interpreter: `file` is then to be mounted, executable and read-only,
    as `/dev/pipes/<file.name>`, and `text` is that path.
    """

    text: str
    file: Heredoc | None = None


def run_script(run: Run) -> Script | None:
    """The script of a shell-form RUN, heredocs put in their place; None for the exec form."""
    text = run.command.shell_form
    if text is None:
        return None
    if not run.heredocs:
        return Script(text)
    first = run.heredocs[0]
    if heredoc_word(text) is None:
        # The shell itself reads the bodies: `cat <<A <<B`.
        return Script("\n".join((text, *_bodies(run.heredocs))))
    if first.content.startswith("#!"):
        return Script(f"/dev/pipes/{first.name}", first)
    return Script(first.content)


def _bodies(heredocs: Sequence[Heredoc]) -> Iterator[str]:
    for heredoc in heredocs:
        yield f"{heredoc.content}{heredoc.name}"


def with_bodies(text: str, heredocs: Sequence[Heredoc]) -> str:
    """An instruction and its heredocs as one text that parses again, as ONBUILD stores it."""
    return "\n".join((text, *_bodies(heredocs)))
