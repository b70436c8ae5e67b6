"""`.dockerignore`: which paths of a context are left out, with the meaning of moby/patternmatcher.

The last rule that matches a path, or a directory above it, decides. A `!` rule takes back, also below a directory that
is left out. Patterns start at the root of the context: `foo` is not `a/foo`, `**/foo` is both.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from builder.dockerfile.match import DEEP, PatternInvalid, Token, expression, tokens
from builder.errors import ContextError


@dataclass(frozen=True)
class Rule:
    pattern: str  # cleaned, without the !
    keeps: bool  # it began with !
    line: int


@dataclass(frozen=True)
class IgnoreRules:
    """The rules of one file, in order; no rules leave out nothing."""

    rules: tuple[Rule, ...] = ()
    file: str = ".dockerignore"

    @classmethod
    def parse(cls, text: str, file: str = ".dockerignore") -> "IgnoreRules":
        """Raises ContextError with the line of a pattern that is none."""
        lines = enumerate(text.removeprefix("\N{BYTE ORDER MARK}").split("\n"), 1)
        return cls._made(((number, line) for number, line in lines if not line.startswith("#")), file)

    @classmethod
    def of(cls, patterns: Sequence[str], file: str = "--exclude") -> "IgnoreRules":
        """Rules given one by one, as by COPY --exclude; the "line" of each is its number."""
        return cls._made(enumerate(patterns, 1), file)

    @classmethod
    def _made(cls, lines: Iterable[tuple[int, str]], file: str) -> "IgnoreRules":
        found = (_rule(line.strip(), number, file) for number, line in lines)
        return cls(tuple(rule for rule in found if rule is not None), file)

    def excluded(self, path: str) -> bool:
        """Whether `path` (relative, with slashes, nothing to clean) is left out."""
        for keeps, matches in self._groups:
            if matches.match(path) is not None:
                return not keeps
        return False

    def may_hold_included(self, directory: str) -> bool:
        """Whether something below a directory that is left out can still be kept: if not, nobody need look inside."""
        names = directory.split("/")
        return any(way.leads_through(names) for way in self._ways_down)

    def decided_by(self, path: str) -> Rule | None:
        """The rule that decides about `path`, for messages."""
        for rule in reversed(self.rules):
            if re.match(_matching(rule.pattern) + r"(?:/|\Z)", path, re.DOTALL):
                return rule
        return None

    @cached_property
    def _groups(self) -> tuple[tuple[bool, re.Pattern[str]], ...]:
        """Neighbours of one kind as one expression, the last first: the first one that matches decides."""
        return tuple(
            (keeps, re.compile(f"(?:{'|'.join(_matching(rule.pattern) for rule in group)})" + r"(?:/|\Z)", re.DOTALL))
            for keeps, group in groupby(reversed(self.rules), key=lambda rule: rule.keeps)
        )

    @cached_property
    def _ways_down(self) -> tuple["_Way", ...]:
        return tuple(_way(list(tokens(rule.pattern, deep=True))) for rule in self.rules if rule.keeps)


@dataclass(frozen=True)
class _Way:
    """The directories above what a pattern matches: the first parts of their paths, and whether any may follow."""

    parts: tuple[re.Pattern[str], ...]
    deep: bool

    def leads_through(self, names: Sequence[str]) -> bool:
        if len(names) > len(self.parts) and not self.deep:
            return False
        return all(part.fullmatch(name) for part, name in zip(self.parts, names, strict=False))


def _rule(line: str, number: int, file: str) -> Rule | None:
    keeps = line.startswith("!")
    pattern = line[1:].strip() if keeps else line
    pattern = posixpath.normpath(pattern).lstrip("/") if pattern else ""
    if not pattern:
        if keeps:
            raise ContextError(f"{file}:{number}: ! without a pattern", hint="write ! and what to keep")
        return None
    try:
        list(tokens(pattern))
    except PatternInvalid as error:
        raise ContextError(f"{file}:{number}: broken pattern {line!r}: {error}") from None
    return Rule(pattern, keeps, number)


def _matching(pattern: str) -> str:
    pieces = list(tokens(pattern, deep=True))
    wild = "\\" in pattern or any(kind in ("*", DEEP) or text.startswith(("[", "(?!/)")) for kind, text in pieces[1:])
    if pieces[0][0] == DEEP and len(pieces) > 1 and not pattern.startswith("**/") and not wild:
        pieces[0] = (DEEP, ".*")  # `**foo` and no other wildcard is a suffix for patternmatcher: it matches xfoo
    return f"(?:{expression(pieces)})"


def _way(pieces: Sequence[Token]) -> _Way:
    parts: list[str] = [""]
    deep = False
    for kind, text in pieces:
        if kind == DEEP:
            deep = True
            break
        if kind == "/":
            parts.append("")
        else:
            parts[-1] += text
    parts.pop()  # the last part is the thing itself, or goes on over directories
    return _Way(tuple(re.compile(part, re.DOTALL) for part in parts), deep)
