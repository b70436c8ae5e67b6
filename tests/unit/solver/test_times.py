"""Which times a step's changes get (docs/adr/0003)."""

import pytest

from builder.times import NANOSECONDS, clamp, nanoseconds, rfc3339


def test_what_a_step_made_is_as_new_as_the_newest_that_went_in() -> None:
    assert clamp(began=2000, newest=1000, epoch=None) == (2000, 1000)


def test_a_source_from_the_future_is_still_not_newer_than_what_was_made_from_it() -> None:
    assert clamp(began=2000, newest=9000, epoch=None) == (2000, 9000)


def test_with_an_epoch_nothing_is_newer_than_that() -> None:
    assert clamp(began=2000, newest=1000, epoch=1) == (NANOSECONDS, NANOSECONDS)


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2001-09-09T01:46:40Z", 1_000_000_000),
        ("2001-09-09T01:46:40.123456789Z", 1_000_000_000),
        ("2001-09-09T03:46:40+02:00", 1_000_000_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800),
        ("yesterday", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_reads_the_times_of_images(moment: str | None, seconds: int) -> None:
    assert nanoseconds(moment) == seconds * NANOSECONDS


def test_writes_no_zeros_at_the_end() -> None:
    assert rfc3339(1_000_000_000) == "2001-09-09T01:46:40Z"
    assert rfc3339(1_000_000_000.5) == "2001-09-09T01:46:40.5Z"
