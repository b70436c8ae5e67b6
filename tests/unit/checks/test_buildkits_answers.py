"""Dockerfiles made at random, and what BuildKit v0.34.2 (dockerfile2llb.DockerfileLint) said of each.

The base images were one for linux/amd64 that sets PATH and nothing else; all stages were checked.
"""

import json
from pathlib import Path

import pytest

from builder.checks.facts import BaseFacts, Facts
from builder.checks.walk import check
from builder.dockerfile import parse_dockerfile
from registry.model import Platform

RECORDED = json.loads((Path(__file__).parent / "buildkits_answers.json").read_text(encoding="utf-8"))
BASE = BaseFacts({"PATH": "/bin"}, Platform("linux", "amd64"))
FACTS = Facts(platform=Platform("linux", "amd64"), all_stages=True, base=lambda name: BASE)


@pytest.mark.parametrize("recorded", RECORDED, ids=[str(number) for number in range(len(RECORDED))])
def test_the_answer_is_the_same(recorded: dict[str, object]) -> None:
    report = check(parse_dockerfile(str(recorded["dockerfile"])), FACTS)
    found = [
        [one.rule, one.detail, list(range(one.at.line, max(one.at.line, one.at.end_line) + 1))]
        for one in report.findings
        if not one.about.ours
    ]
    assert sorted(found) == recorded["findings"]
    assert bool(report.error or report.violated) == recorded["ends in an error"]


def test_most_rules_are_in_it() -> None:
    """The others need an ignore file or an image for another platform."""
    assert len({finding[0] for recorded in RECORDED for finding in recorded["findings"]}) >= 19
