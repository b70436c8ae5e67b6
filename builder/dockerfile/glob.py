"""Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and three escapes, run as a bit-parallel automaton.

A backtracking engine would take exponential time for `${v#*a*a*a*a*b}`; this takes one step a character.
"""

from dataclasses import dataclass
from typing import Self


class PatternError(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Pattern:
    """`tokens` are single characters; None stands for `?`, and a bit of `stars` for a `*` before that token."""

    tokens: tuple[str | None, ...]
    stars: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises PatternError for an escape of anything but `*`, `?` and the backslash."""
        tokens: list[str | None] = []
        stars = 0
        characters = iter(text)
        for char in characters:
            if char == "*":
                stars |= 1 << len(tokens)
            elif char == "?":
                tokens.append(None)
            elif char == "\\":
                escaped = next(characters, "")
                if not escaped or escaped not in "*?\\}/":
                    raise PatternError(f"invalid escape '\\{escaped}'")
                tokens.append(escaped)
            else:
                tokens.append(char)
        return cls(tuple(tokens), stars)

    def reversed(self) -> Self:
        """The pattern of the same texts read backwards."""
        size = len(self.tokens)
        stars = sum(1 << (size - place) for place in range(size + 1) if self.stars >> place & 1)
        return type(self)(self.tokens[::-1], stars)

    def prefix(self, value: str, *, longest: bool, start: int = 0) -> int | None:
        """How many characters from `start` match, as many or as few as possible; None when none do."""
        return self._run(value, start, longest=longest)

    def replace(self, value: str, replacement: str, *, everywhere: bool, limit: int) -> str:
        """Replace the first longest match, or all. An empty match right behind another one does not count."""
        starts = self._starts(value)
        parts: list[str] = []
        size = done = position = 0
        last_end = -1
        while position <= len(value):
            start = starts.find(1, position)
            if start < 0:
                break
            end = start + (self.prefix(value, longest=True, start=start) or 0)
            if start == end == last_end:
                position = start + 1
                continue
            parts += (value[done:start], replacement)
            size += start - done + len(replacement)
            if size > limit:
                break  # the caller refuses what is too long
            done = last_end = end
            position = end if end > start else start + 1
            if not everywhere:
                break
        return "".join((*parts, value[done:]))

    def _starts(self, value: str) -> bytearray:
        """A 1 at each place of `value` where a match begins: a run of the reversed pattern from the end."""
        automaton = _Automaton(self.reversed())
        found = bytearray(len(value) + 1)
        states = automaton.begin
        for place in range(len(value), -1, -1):
            found[place] = states >> automaton.size & 1
            if place:
                states = automaton.step(states, value[place - 1]) | automaton.begin
        return found

    def _run(self, value: str, start: int, *, longest: bool) -> int | None:
        automaton = _Automaton(self)
        states = automaton.begin
        best: int | None = None
        for place in range(start, len(value) + 1):
            if states >> automaton.size & 1:
                best = place - start
                if not longest:
                    return best
            if place == len(value) or not states:
                break
            states = automaton.step(states, value[place])
        return best


class _Automaton:
    """State i, a bit, means: i tokens are matched. A star at i lets the state stay."""

    def __init__(self, pattern: Pattern) -> None:
        self.size = len(pattern.tokens)
        self.stars = pattern.stars
        self.any = 0
        self.of: dict[str, int] = {}
        for place, token in enumerate(pattern.tokens):
            if token is None:
                self.any |= 1 << place
            else:
                self.of[token] = self.of.get(token, 0) | 1 << place
        self.begin = 1

    def step(self, states: int, char: str) -> int:
        moved = states & self.of.get(char, 0)
        if char == "\n":  # no wildcard matches a line feed
            return moved << 1
        return (states & self.any | moved) << 1 | states & self.stars
