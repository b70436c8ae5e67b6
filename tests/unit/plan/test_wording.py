"""History lines are spelled as BuildKit spells them, byte for byte."""

import pytest

from builder.plan import wording
from registry.model import Healthcheck


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (100_000_000, "100ms"),
        (1_500_000_000, "1.5s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_a_duration_reads_as_go_writes_it(nanoseconds: int, text: str) -> None:
    assert wording.duration(nanoseconds) == text


def test_words_are_quoted_as_go_quotes_them() -> None:
    assert wording.quoted_list(["sh", 'say "hi"\n', "é\x01"]) == '["sh" "say \\"hi\\"\\n" "é\\x01"]'


def test_run_lists_each_declared_argument_once_with_its_value() -> None:
    line = wording.run(["/bin/sh", "-c", "make"], {"A": "0", "B": None}, {"A": "1"})
    assert line == "RUN |2 A=1 B= /bin/sh -c make # buildkit"


def test_run_without_arguments_has_no_count() -> None:
    assert wording.run(["/bin/sh", "-c", "make"], {}, {"A": "1"}) == "RUN /bin/sh -c make # buildkit"


def test_copy_tells_owner_and_mode_but_not_where_from() -> None:
    line = wording.copy("COPY", ["a", "b"], ["EOF"], "/dst/", chown="1:2", chmod="755")
    assert line == "COPY --chown=1:2 --chmod=755 a b <<EOF /dst/ # buildkit"


def test_healthcheck_shows_the_whole_structure() -> None:
    check = Healthcheck(("CMD-SHELL", "curl x"), interval=30_000_000_000, retries=3)
    assert wording.healthcheck(check) == (
        "HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}"
    )
