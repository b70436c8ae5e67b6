"""What a build's steps hit and missed, and why: kept in the build's directory for those who ask afterwards."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

FILE = "steps.json"
CACHED, MISSED, SKIPPED, FAILED, CANCELED = "cached", "missed", "skipped", "failed", "canceled"
MOST = 5  # reasons that a table of all steps shows of each


class Reason(Struct, frozen=True):
    """One input that is not what it was. `kind` is for programs: see docs/cache.md."""

    kind: str
    text: str


class StepReport(Struct, frozen=True):
    """`number` as progress shows it; 0 for a step that never began. `line` is of the Dockerfile."""

    number: int
    name: str
    line: int
    outcome: str
    reasons: tuple[Reason, ...] = ()
    seconds: float = 0.0


class Report(Struct, frozen=True):
    context: str
    dockerfile: str
    target: str
    tags: tuple[str, ...]
    began: float  # seconds since 1970
    steps: tuple[StepReport, ...]

    def find(self, word: str) -> list[StepReport]:
        """By number (`5`, `#5`), or by a part of the name, whatever its case."""
        number = word.removeprefix("#")
        if number.isascii() and number.isdigit():
            return [step for step in self.steps if step.number == int(number)]
        plain = " ".join(word.casefold().split())
        return [step for step in self.steps if plain in " ".join(step.name.casefold().split())]


def printable(path: str) -> str:
    """A path as a report holds it: bytes that are no UTF-8, and what would move a terminal's cursor, as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in path)


def write(report: Report, directory: Path) -> None:
    draft = directory / f"{FILE}.new"
    draft.write_bytes(msgspec.json.encode(report))
    draft.rename(directory / FILE)


def latest(root: Path) -> Report | None:
    """Of the last build on this state root."""
    builds = root / "builds"
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(builds), reverse=True):
            with suppress(OSError, msgspec.MsgspecError):
                return msgspec.json.decode((builds / name / FILE).read_bytes(), type=Report)
    return None


def as_json(steps: Sequence[StepReport]) -> str:
    return msgspec.json.encode(steps).decode()


def table(steps: Sequence[StepReport], *, most: int | None = MOST) -> str:
    """One line a step, and below those that missed what differed."""
    lines: list[str] = []
    for step in steps:
        number = f"#{step.number}" if step.number else "-"
        lines.append(f"{number:<4} {step.outcome.upper():<8} {step.name}")
        lines += [f"{'':13} {reason.text}" for reason in step.reasons[:most]]
        if left := len(step.reasons[most:]) if most is not None else 0:
            lines.append(f"{'':13} and {left} more: pybuild why {step.number}")
    return "".join(f"{line}\n" for line in lines)
