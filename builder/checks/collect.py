"""Where findings are gathered, and by whose leave."""

from collections.abc import Sequence

from msgspec import Struct

from builder.checks.findings import Finding
from builder.checks.rules import RULES
from builder.checks.settings import Settings
from builder.dockerfile.instructions import Instruction, Position


class Noted(Struct, frozen=True):
    """An instruction with the comments directly above it."""

    instruction: Instruction
    comments: tuple[str, ...] = ()

    @property
    def written(self) -> str:
        """Its name as it is written."""
        return self.instruction.source.split(maxsplit=1)[0]


def description(comments: Sequence[str], name: str) -> str:
    """What a comment says about a stage or an argument: `# NAME what it is`."""
    return next((line.removeprefix(f"{name} ") for line in comments if line.startswith(f"{name} ")), "") if name else ""


class Findings:
    """All findings so far."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings  # of the file
        self._all: list[Finding] = []

    def say(self, rule: str, detail: str, at: Position, comments: Sequence[str] = ()) -> None:
        """Take a finding, unless the file's directive or one in `comments` silences the rule."""
        settings = self.settings.above(comments) if comments else self.settings
        if settings.allow(RULES[rule]):
            self._all.append(Finding(rule, detail, at))

    def by_line(self) -> tuple[Finding, ...]:
        return tuple(sorted(self._all, key=lambda finding: finding.at.line))
