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
    same = _alike(one, other)
    one, other = one[same:], other[same:]
    same = _alike(one[::-1], other[::-1])
    one, other = one[: len(one) - same], other[: len(other) - same]
    if abs(len(one) - len(other)) >= limit:
        return limit
    row = [min(column, limit) for column in range(len(other) + 1)]
    for number, letter in enumerate(one, 1):
        # Cells further from the diagonal than `limit` can't be below it, so they need not be filled in.
        first, last = max(1, number - limit), min(len(other), number + limit)
        before, row[first - 1] = row[first - 1], number if first == 1 else limit
        for column in range(first, last + 1):
            here = min(row[column] + 1, row[column - 1] + 1, before + (letter != other[column - 1]))
            before, row[column] = row[column], here
        if min(row[first - 1 : last + 1]) >= limit:
            return limit  # it only grows
    return min(row[-1], limit)


def _alike(one: str, other: str) -> int:
    """How many letters at the beginning are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (letter, theirs) in pairs if letter != theirs), min(len(one), len(other)))


def quoted(text: str) -> str:
    """As Go's %q writes it."""
    import json

    return json.dumps(text, ensure_ascii=False)
