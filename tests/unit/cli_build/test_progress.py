"""How progress looks."""

import io
import json

import pytest

from builder.progress import (
    Event,
    Notice,
    Reporter,
    StepCanceled,
    StepDone,
    StepFailed,
    StepLog,
    StepStarted,
    StepStatus,
    Warned,
)
from pybuild.cli.progress import progress_to

EVENTS: list[Event] = [
    StepStarted(1, "[1/2] FROM debian"),
    StepDone(1, 0.0, cached=True),
    StepStarted(2, "[2/2] RUN make"),
    StepLog(2, "cc hello.c", 0.5123),
    Notice("UndefinedVar: x"),
    StepStarted(3, "[internal] pull debian"),
    StepStatus(3, "0123456789ab", "Downloading", 10, 100),
    StepStatus(3, "0123456789ab", "Downloading", 20, 100),
    StepFailed(3, 1.0, "no such image"),
    StepLog(2, "done", 0.7),
    StepDone(2, 0.75),
    StepStarted(4, "[3/3] RUN x"),
    StepCanceled(4, 0.1),
]


def shown(style: str, events: list[Event] | None = None) -> str:
    stream = io.StringIO()
    with progress_to(stream, style) as listener:
        for event in EVENTS if events is None else events:
            listener(event)
    return stream.getvalue()


def test_plain_numbers_each_line_and_parts_steps_with_a_blank_one() -> None:
    assert shown("plain") == (
        "#1 [1/2] FROM debian\n#1 CACHED\n\n"
        "#2 [2/2] RUN make\n#2 0.512 cc hello.c\n"
        "WARNING: UndefinedVar: x\n\n"
        "#3 [internal] pull debian\n#3 0123456789ab Downloading\n#3 ERROR: no such image\n\n"
        "#2 0.700 done\n#2 DONE 0.8s\n\n"
        "#4 [3/3] RUN x\n#4 CANCELED\n"
    )


def test_a_stream_that_is_no_terminal_gets_plain_lines() -> None:
    assert shown("auto") == shown("plain")


def test_raw_json_is_an_object_a_line() -> None:
    lines = [json.loads(line) for line in shown("rawjson").splitlines()]
    assert lines[1] == {"event": "StepDone", "step": 1, "seconds": 0.0, "cached": True}
    assert len(lines) == len(EVENTS)


def test_quiet_is_quiet() -> None:
    assert shown("quiet") == ""


def test_live_shows_steps_times_and_the_last_output() -> None:
    text = shown("tty", EVENTS)
    assert "(4/4)" in text
    assert "CACHED [1/2] FROM debian" in text
    assert "ERROR [internal] pull debian" in text
    assert "warning: UndefinedVar: x" in text


def test_live_survives_markup_in_what_is_printed() -> None:
    events: list[Event] = [StepStarted(1, "[/bold] RUN [red"), StepLog(1, "[/] text", 0.1), Notice("[/x]")]
    assert "[/x]" in shown("tty", events)


def test_a_reporter_numbers_steps_and_hands_on_in_order() -> None:
    events: list[Event] = []
    reporter = Reporter(events.append)
    one, two = reporter.start("one"), reporter.start("two")
    two.log("x")
    one.done()
    assert [type(event).__name__ for event in events] == ["StepStarted", "StepStarted", "StepLog", "StepDone"]
    assert [getattr(event, "step", 0) for event in events] == [1, 2, 2, 1]


@pytest.mark.parametrize("style", ["plain", "tty", "quiet", "rawjson"])
def test_an_error_passes_through(style: str) -> None:
    with pytest.raises(ValueError, match="broken"), progress_to(io.StringIO(), style):
        raise ValueError("broken")


class TestWarnings:
    """What the build checks found, told when the build is over."""

    TWO = (
        StepStarted(1, "x"),
        Warned("UndefinedVar: $x (line 2)", "Variables should be defined", "https://u.example/", "Dockerfile:2"),
        Warned("PybuildX: y\x1b[2J (line 3)", "Y", "", "Dockerfile:3"),
        StepDone(1, 0.0),
    )

    def test_are_counted_and_listed_at_the_end(self) -> None:
        assert shown("plain", list(self.TWO)) == (
            "#1 x\n#1 DONE 0.0s\n"
            "\n 2 warnings found (use --debug to expand):\n"
            " - UndefinedVar: $x (line 2)\n"
            " - PybuildX: y\ufffd[2J (line 3)\n"
        )
        assert "\n 1 warning found (use --debug to expand):\n" in shown("plain", list(self.TWO[:2]))

    def test_live_shows_them_below_the_steps(self) -> None:
        assert shown("tty", list(self.TWO)).endswith(" - PybuildX: y\ufffd[2J (line 3)\n")

    def test_debug_tells_all(self) -> None:
        stream = io.StringIO()
        with progress_to(stream, "plain", debug=True) as listener:
            listener(self.TWO[1])
        assert stream.getvalue() == (
            "\n 1 warning found:\n"
            " - UndefinedVar: $x (line 2)\n"
            "Variables should be defined\nMore info: https://u.example/\nDockerfile:2\n\n"
        )

    def test_programs_get_them_as_they_come(self) -> None:
        lines = [json.loads(line) for line in shown("rawjson", list(self.TWO)).splitlines()]
        assert [line["event"] for line in lines] == ["StepStarted", "Warned", "Warned", "StepDone"]
        assert lines[1]["url"] == "https://u.example/"

    def test_quiet_keeps_them(self) -> None:
        assert shown("quiet", list(self.TWO)) == ""

    def test_a_build_that_failed_has_them_too(self) -> None:
        stream = io.StringIO()

        def fail() -> None:
            with progress_to(stream, "plain") as listener:
                listener(self.TWO[1])
                raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            fail()
        assert "1 warning found" in stream.getvalue()
