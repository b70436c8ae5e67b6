"""Findings that are remembered are those that would be found now."""

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.checks.facts import Facts
from builder.checks.findings import Report
from builder.checks.memo import remembered
from builder.checks.walk import check
from builder.dockerfile import parse_dockerfile

TEXT = b"""\
# check=error=true
ARG A=1
FROM scratch AS x
COPY --chmod=644 conf /etc/$A/
WORKDIR rel
FROM x AS y
ENV a b
"""


Answers = Callable[[str], bool]


def no(path: str) -> bool:
    del path
    return False


def yes(path: str) -> bool:
    return not no(path)


def checked(text: bytes, is_directory: Answers) -> Report:
    return check(parse_dockerfile(text), Facts(all_stages=True, is_directory=is_directory))


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Report]:
    def ask(known: object = "k", is_directory: Answers = no) -> Report:
        found = remembered(known, is_directory, lambda context: checked(TEXT, context), tmp_path)
        assert found == checked(TEXT, is_directory)
        return found

    return ask


def test_the_same_again_is_not_checked_again(ask: Callable[..., Report], tmp_path: Path) -> None:
    def never(context: Answers) -> Report:
        raise AssertionError(context)

    first = ask()
    assert remembered("k", no, never, tmp_path) == first
    assert first.findings
    assert first.error_wanted


def test_what_else_is_known_is_checked_anew(ask: Callable[..., Report], tmp_path: Path) -> None:
    ask("k")
    ask(("k", "another base image"))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_the_context_said_is_asked_again(ask: Callable[..., Report]) -> None:
    assert any('"conf" is one' in one.detail for one in ask(is_directory=yes).findings)
    ask(is_directory=no)
    ask(is_directory=yes)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"findings": [{}]}'])
def test_damage_costs_time_only(ask: Callable[..., Report], tmp_path: Path, damage: bytes) -> None:
    ask()
    for kept in tmp_path.iterdir():
        kept.write_bytes(damage)
    ask()


def test_what_can_not_be_built_is_not_kept(tmp_path: Path) -> None:
    text = b"FROM scratch\nENV x=\nWORKDIR ${x:?no}\n"
    report = remembered("k", no, lambda context: checked(text, context), tmp_path)
    assert report.error is not None
    assert list(tmp_path.iterdir()) == []


def test_a_memory_that_can_not_be_written_is_no_fault() -> None:
    assert remembered("k", no, lambda context: checked(TEXT, context), Path("/proc/nowhere")).findings
