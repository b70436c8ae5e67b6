"""The hand-written pass before the grammar: text → directives → logical lines with their heredocs.

Gives:    Splitter: one `LogicalLine` for each instruction; any offset in it leads back to line and column of the file.
Promises: linear time; every fault is a DockerfileError. The rules are BuildKit's, which are not a shell's.
Not here: what an instruction means (grammar.lark, transform.py).
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from builder.dockerfile.faults import fault
from builder.dockerfile.heredoc import heredoc_words
from builder.dockerfile.instructions import DockerfileError, Heredoc, Position

MAX_FILE = 16 << 20
MAX_LINE = 65_535  # bytes, as BuildKit's scanner

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(\S.*?)[ \t]*$")
_KNOWN_DIRECTIVES = ("syntax", "escape", "check")
_CONTINUES = {
    "\\": re.compile(r"(?:(?<=[^\\])|^)\\[ \t]*$"),
    "`": re.compile(r"(?:(?<=[^`])|^)`[ \t]*$"),
}
_BLANK = " \t\v\f\r"


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction on one line. `starts[i]` is the offset in `text` where the piece from `places[i]` begins."""

    text: str
    file: str
    line: int
    end_line: int
    starts: tuple[int, ...]
    places: tuple[tuple[int, int], ...]  # (line, column) of each piece
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()  # the comment block directly above, without parser directives
    empty_continuation: int = 0  # there is a blank line inside; the instruction's last line, heredocs aside; 0: none

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of the file where the character at `offset` stands."""
        piece = max(0, bisect_right(self.starts, offset) - 1)
        line, column = self.places[piece]
        return line, column + offset - self.starts[piece]

    @property
    def at(self) -> Position:
        line, column = self.place(0)
        return Position(self.file, line, column, self.end_line)

    def cut(self, offset: int) -> "LogicalLine":
        """The rest of the line from `offset` as a line of its own: the instruction inside ONBUILD."""
        starts = tuple(start - offset for start in self.starts)
        return replace(self, text=self.text[offset:], starts=starts)


def decode(content: str | bytes, file: str) -> str:
    """UTF-8 to text. A byte that is no UTF-8, and a file too large, are faults."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    if len(content) > MAX_FILE:
        raise DockerfileError(
            f"the file has {len(content)} bytes, more than {MAX_FILE}",
            at=Position(file, 1),
            hint="is this a Dockerfile? name another one with -f",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        lines = content.decode("utf-8", "replace").split("\n")
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise fault(
            f"not UTF-8: byte 0x{content[error.start]:02x}",
            lines=lines,
            file=file,
            line=line,
            column=column,
            hint="save the file as UTF-8",
        ) from None


def _check_characters(text: str, physical: Sequence[str], file: str) -> None:
    if (nul := text.find("\0")) >= 0:
        line = text.count("\n", 0, nul) + 1
        column = nul - text.rfind("\n", 0, nul)
        raise fault("a NUL byte", lines=physical, file=file, line=line, column=column, hint="is this a text file?")
    if not text.isascii() and (wrong := re.search("[\ud800-\udfff]", text)) is not None:
        line = text.count("\n", 0, wrong.start()) + 1
        raise fault("not UTF-8: a lone surrogate", lines=(), file=file, line=line)
    for number, line_text in enumerate(physical, 1):
        if len(line_text) * 4 > MAX_LINE and len(line_text.encode()) > MAX_LINE:
            raise fault(
                f"the line has more than {MAX_LINE} bytes",
                lines=physical,
                file=file,
                line=number,
                hint="break it with the escape character, or COPY the content from a file",
            )


def _directives(physical: Sequence[str], file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(physical, 1):
        match = _DIRECTIVE.match(line.strip(_BLANK))
        if match is None or (key := match[1].lower()) not in _KNOWN_DIRECTIVES:
            break
        column = line.index("#") + 1
        if key in found:
            raise fault(
                f"only one {key} directive can be used",
                lines=physical,
                file=file,
                line=number,
                column=column,
                width=len(line.strip()),
            )
        found[key] = match[2]
        if key == "escape" and found[key] not in _CONTINUES:
            raise fault(
                f"invalid escape character {found[key]!r}",
                lines=physical,
                file=file,
                line=number,
                column=line.index(found[key], line.index("=")) + 1,
                width=len(found[key]),
                hint="only \\ and ` can escape",
            )
    if "syntax" in found:
        found["syntax"] = found["syntax"].split(maxsplit=1)[0]
    return found


class Splitter:
    """Iterates over logical lines; whoever reads them asks for a line's heredocs before going on to the next."""

    def __init__(self, text: str, file: str, *, directives: bool = True) -> None:
        self.file = file
        self.physical: Sequence[str] = text.removeprefix("\N{BYTE ORDER MARK}").split("\n")
        self.ended = not self.physical[-1]  # the last line has a line feed
        if self.ended:
            self.physical = self.physical[:-1]
        _check_characters(text, self.physical, file)
        self.directives = _directives(self.physical, file) if directives else {}
        self.escape = self.directives.get("escape", "\\")
        self.next = 0  # index of the next physical line

    def __iter__(self) -> Iterator[LogicalLine]:
        comments: list[str] = []
        while self.next < len(self.physical):
            raw = self.physical[self.next].rstrip("\r")
            text = raw.lstrip()
            if text and not text.startswith("#"):
                yield self._instruction(raw, text, tuple(comments))
                comments = []
                continue
            if text:
                comment = text[1:].strip()
                if not comment:
                    comments = []
                elif self.next >= len(self.directives):
                    comments.append(comment)
            self.next += 1

    def _instruction(self, raw: str, text: str, comments: tuple[str, ...]) -> LogicalLine:
        first = self.next + 1
        continues = _CONTINUES[self.escape]
        pieces: list[str] = []
        places: list[tuple[int, int]] = []
        empty = False
        place = (first, len(raw) - len(text) + 1)
        while True:
            self.next += 1
            match = continues.search(text)
            pieces.append(text if match is None else text[: match.start()])
            places.append(place)
            if match is None:
                break
            found = self._continuation()
            empty = empty or found[1]
            if found[0] is None:
                break
            text = found[0]
            place = (self.next + 1, 1)
        starts, total = [], 0
        for piece in pieces:
            starts.append(total)
            total += len(piece)
        joined = "".join(pieces)
        whole = joined.strip()
        lead = len(joined) - len(joined.lstrip())
        if not whole:
            raise self.fault("an escape character with nothing to continue", first, places[0][1])
        starts = [start - lead for start in starts]
        return LogicalLine(
            whole,
            self.file,
            first,
            self.next,
            tuple(starts),
            tuple(places),
            comments=comments,
            empty_continuation=self.next if empty else 0,
        )

    def _continuation(self) -> tuple[str | None, bool]:
        """The next line that is no comment and not blank, and whether a blank one came first; None at the end."""
        empty = False
        while self.next < len(self.physical):
            text = self.physical[self.next].rstrip("\r")
            stripped = text.lstrip()
            if stripped and not stripped.startswith("#"):
                return text, empty
            self.next += 1
            empty = empty or not stripped
        return None, empty

    def with_heredocs(self, line: LogicalLine) -> LogicalLine:
        """Read the bodies that the line opens; they stand below it."""
        if "<<" not in line.text:
            return line
        bodies = tuple(self._body(line, word, offset) for word, offset in heredoc_words(line.text))
        return replace(line, heredocs=bodies, end_line=self.next)

    def _body(self, line: LogicalLine, word: Heredoc, offset: int) -> Heredoc:
        content: list[str] = []
        while self.next < len(self.physical):
            raw = self.physical[self.next]
            last = self.next == len(self.physical) - 1
            self.next += 1
            text = raw.lstrip("\t") if word.strip_tabs else raw
            if text.rstrip("\r") == word.name:
                return Heredoc(word.name, "".join(content), word.expand, word.strip_tabs, word.fd)
            content.append(raw if last and not self.ended else raw + "\n")
        number, column = line.place(offset)
        begin = line.text.index("<<", offset) - offset
        raise self.fault(
            f"unterminated heredoc: no line {word.name}",
            number,
            column,
            width=begin + 2 + word.strip_tabs + len(word.name),
            hint=f"end the text with a line that holds nothing but {word.name}",
        )

    def fault(
        self, problem: str, line: int, column: int = 1, *, width: int = 1, end_line: int = 0, hint: str | None = None
    ) -> DockerfileError:
        """An error that shows the line."""
        return fault(
            problem,
            lines=self.physical,
            file=self.file,
            line=line,
            column=column,
            width=width,
            end_line=end_line or self.next,
            hint=hint,
        )
