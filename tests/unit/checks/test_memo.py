"""Findings that are remembered are those that would be found now."""

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.checks import Facts, Report
from builder.checks.memo import check_remembered
from builder.checks.walk import check
from builder.dockerfile import parse_dockerfile
from builder.dockerfile.ignore import IgnoreRules

TEXT = b"""\
# check=error=true
ARG A=1
FROM scratch AS x
COPY --chmod=644 conf /etc/$A/
WORKDIR rel
FROM x AS y
ENV a b
"""


@pytest.fixture
def remembered(tmp_path: Path) -> Callable[..., Report]:
    def remembered(facts: Facts, bases: dict[str, str] | None = None) -> Report:
        found = check_remembered(parse_dockerfile(TEXT), TEXT, facts, bases or {}, tmp_path)
        assert found == check(parse_dockerfile(TEXT), facts)
        return found

    return remembered


def test_the_same_again(remembered: Callable[..., Report], tmp_path: Path) -> None:
    first = remembered(Facts())
    kept = list(tmp_path.iterdir())
    assert remembered(Facts()) == first
    assert list(tmp_path.iterdir()) == kept
    assert len(first.findings) == 4
    assert first.error_wanted


@pytest.mark.parametrize(
    "facts",
    [
        Facts(build_args={"A": "2"}),
        Facts(target="x"),
        Facts(all_stages=True),
        Facts(ignore=IgnoreRules.parse("conf\n")),
        Facts(contexts=frozenset({"x"})),
    ],
)
def test_other_facts_are_asked_anew(remembered: Callable[..., Report], facts: Facts) -> None:
    remembered(Facts())
    remembered(facts)


def test_another_base_image_too(remembered: Callable[..., Report], tmp_path: Path) -> None:
    remembered(Facts(), {"a": "sha256:1"})
    remembered(Facts(), {"a": "sha256:2"})
    assert len(list(tmp_path.iterdir())) == 2


def test_what_the_context_said_is_asked_again(remembered: Callable[..., Report]) -> None:
    assert any("directories" in one.detail for one in remembered(Facts(is_directory=lambda path: True)).findings)
    remembered(Facts(is_directory=lambda path: False))
    remembered(Facts())


@pytest.mark.parametrize("damage", [b"", b"{", b'{"findings": [{}]}'])
def test_damage_costs_time_only(remembered: Callable[..., Report], tmp_path: Path, damage: bytes) -> None:
    remembered(Facts())
    for kept in tmp_path.iterdir():
        kept.write_bytes(damage)
    remembered(Facts())


def test_what_can_not_be_built_is_not_kept(tmp_path: Path) -> None:
    text = b"FROM scratch\nENV x=\nWORKDIR ${x:?no}\n"
    report = check_remembered(parse_dockerfile(text), text, Facts(), {}, tmp_path)
    assert report.error is not None
    assert list(tmp_path.iterdir()) == []


def test_a_memory_that_can_not_be_written_is_no_fault() -> None:
    assert check_remembered(parse_dockerfile(TEXT), TEXT, Facts(), {}, Path("/proc/nowhere")).findings
