"""Expansion that remembers which variables a word asked for; and what a wrong name was meant to be."""

from collections.abc import Iterable, Iterator, Mapping

_LONGEST = 100  # letters of a name that was mistyped; a longer one was not typed


class Watched(Mapping[str, str]):
    """Variables that note who was asked for, found or not."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.found: dict[str, None] = {}
        self.missing: dict[str, None] = {}

    def __getitem__(self, name: str) -> str:
        try:
            value = self._variables[name]
        except KeyError:
            self.missing[name] = None
            raise
        self.found[name] = None
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest, at most two letters away; empty if there is none."""
    best, nearest = 3, ""
    if len(word) > _LONGEST:
        return ""
    for other in known:
        if other == word:
            return ""
        if (far := _distance(word, other, best)) < best:
            best, nearest = far, other
    return nearest


def _distance(one: str, other: str, limit: int) -> int:
    """How many letters must be put in, taken out or changed; `limit` stands for anything from there on."""
    if abs(len(one) - len(other)) >= limit:
        return limit
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        before, row[0] = row[0], number
        for column, theirs in enumerate(other, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (letter != theirs))
        if min(row) >= limit:
            return limit  # it only grows
    return min(row[-1], limit)


def quoted(text: str) -> str:
    """As Go's %q writes it."""
    import json

    return json.dumps(text, ensure_ascii=False)
