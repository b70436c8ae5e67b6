"""Sizes, ages, and lines of progress, in docker's words."""

import io
from datetime import UTC, datetime

import pytest

from pybuild.cli import human
from pybuild.cli.transfers import Lines, transfer_progress


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234, "1.23kB"), (999_999, "1MB"), (77_800_000, "77.8MB"), (1e9, "1GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert human.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
        (3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"), (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"), (60 * 86400, "2 months"), (800 * 86400, "2 years"), (-5, "Less than a second"),
    ],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert human.duration(seconds) == text


@pytest.mark.parametrize(
    ("created", "text"),
    [
        ("2026-01-01T00:00:00Z", "2 days ago"),
        ("2026-01-01T01:00:00.123456789+01:00", "2 days ago"),
        ("0001-01-01T00:00:00Z", "N/A"),
        (None, "N/A"),
        ("yesterday", "N/A"),
    ],
)
def test_when(created: str | None, text: str) -> None:
    assert human.ago(created, datetime(2026, 1, 3, tzinfo=UTC)) == text


def test_lines_tell_changes_not_amounts() -> None:
    out = io.StringIO()
    lines = Lines(out)
    for done in range(5):
        lines.update("0123456789ab", "Downloading", done, 5)
    lines.update("0123456789ab", "Pull complete", 5, 5)
    lines.update("", "Digest: x")
    assert out.getvalue() == "0123456789ab: Downloading\n0123456789ab: Pull complete\nDigest: x\n"


def test_a_terminal_shows_bars() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with transfer_progress(out) as progress:
        progress.update("", "1: Pulling from app")
        progress.update("0123456789ab", "Downloading [red]", 50_000, 100_000)
    assert "Downloading [red]" in out.getvalue()
    assert "50kB/100kB" in out.getvalue()
    assert "1: Pulling from app\n" in out.getvalue()


def test_quiet_says_nothing() -> None:
    out = io.StringIO()
    with transfer_progress(out, quiet=True) as progress:
        progress.update("0123456789ab", "Downloading", 1, 2)
    assert out.getvalue() == ""
