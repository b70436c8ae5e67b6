"""What the tests of all rules share."""

from collections.abc import Callable

import pytest

from builder.checks.facts import Facts
from builder.checks.findings import Finding
from builder.checks.walk import check
from builder.dockerfile import parse_dockerfile

Found = Callable[..., list[Finding]]


@pytest.fixture
def found() -> Found:
    """The findings of one text; nothing is known but the file unless facts are given."""

    def found(text: str, facts: Facts | None = None) -> list[Finding]:
        report = check(parse_dockerfile(text), facts or Facts(all_stages=True))
        assert report.error is None
        return list(report.findings)

    return found
