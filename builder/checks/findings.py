"""What a check says."""

from typing import TYPE_CHECKING

from msgspec import Struct

from builder.dockerfile.instructions import DockerfileError, Position

if TYPE_CHECKING:
    from builder.checks.rules import Rule


class Finding(Struct, frozen=True):
    """One warning. `at` has the first and last line of the instruction, and the column where it begins."""

    rule: str
    detail: str
    at: Position

    @property
    def about(self) -> "Rule":
        """What there is to know of its rule; loaded when there is a finding."""
        from builder.checks.rules import RULES

        return RULES[self.rule]

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail} (line {self.at.line})"


class Report(Struct, frozen=True):
    """All findings, by line; `error` if the Dockerfile can't be built at all and the check ended there."""

    findings: tuple[Finding, ...] = ()
    error: DockerfileError | None = None
    error_wanted: bool = False  # `# check=error=true`

    @property
    def violated(self) -> list[str]:
        """The rules for which `# check=error=true` ends the build.

        Only BuildKit's count: what builds there with that directive must not fail here for a rule that is ours.
        """
        if not self.error_wanted:
            return []
        return sorted({finding.rule for finding in self.findings if not finding.about.ours})
