"""Logs as docker's json-file driver writes them, with rotation from the start."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.container.jsonlog import PARTIAL, LogWriter, nanoseconds, read_log
from runner.container.state import timestamp


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "json.log"


def texts(path: Path, **options: int | None) -> list[str]:
    return [record.text for record in read_log(path, **options)]  # type: ignore[arg-type]  # only numbers are passed


def written(path: Path, *chunks: bytes) -> Path:
    log = LogWriter(path)
    for chunk in chunks:
        log.write("stdout", chunk)
    log.finish()
    return path


class TestWriting:
    def test_a_line_is_a_record_with_its_stream_and_time(self, path: Path) -> None:
        written(path, b"hello\n")
        found = json.loads(path.read_text())
        assert (found["log"], found["stream"], set(found)) == ("hello\n", "stdout", {"log", "stream", "time"})
        assert nanoseconds(found["time"]) > 0

    def test_a_line_that_comes_in_pieces_is_one_record(self, path: Path) -> None:
        assert texts(written(path, b"he", b"llo\nwor", b"ld\n")) == ["hello\n", "world\n"]

    def test_an_unfinished_last_line_is_kept_without_newline(self, path: Path) -> None:
        assert texts(written(path, b"a\nb")) == ["a\n", "b"]

    def test_the_streams_do_not_mix_their_pieces(self, path: Path) -> None:
        log = LogWriter(path)
        log.write("stdout", b"out")
        log.write("stderr", b"err\n")
        log.write("stdout", b"put\n")
        log.finish()
        assert [(record.stream, record.text) for record in read_log(path)] == [
            ("stderr", "err\n"),
            ("stdout", "output\n"),
        ]

    def test_a_long_line_becomes_partial_records_of_16_kib(self, path: Path) -> None:
        line = b"x" * (2 * PARTIAL + 5) + b"\n"
        assert [len(text) for text in texts(written(path, line))] == [PARTIAL, PARTIAL, 6]

    def test_a_partial_record_does_not_tear_a_character(self, path: Path) -> None:
        line = "a" + "ü" * PARTIAL + "\n"
        assert "".join(texts(written(path, line.encode()))) == line

    def test_bytes_that_are_no_text_are_marked_as_such(self, path: Path) -> None:
        assert texts(written(path, b"\xff\xfe\n")) == ["\ufffd\ufffd\n"]


class TestRotation:
    def test_keeps_the_youngest_files_and_no_more_than_told(self, path: Path) -> None:
        log = LogWriter(path, max_size=1000, max_files=3)
        for number in range(100):
            log.write("stdout", b"%03d\n" % number)
        log.finish()
        assert sorted(file.name for file in path.parent.iterdir()) == ["json.log", "json.log.1", "json.log.2"]
        assert all(file.stat().st_size <= 1000 for file in path.parent.iterdir())
        found = texts(path)
        assert found == [f"{number:03d}\n" for number in range(100 - len(found), 100)]

    def test_goes_on_in_the_file_of_an_earlier_writer(self, path: Path) -> None:
        written(path, b"before\n")
        assert texts(written(path, b"after\n")) == ["before\n", "after\n"]


class TestReading:
    @pytest.mark.parametrize(
        ("tail", "expected"), [(0, []), (1, ["3\n"]), (2, ["2\n", "3\n"]), (9, ["1\n", "2\n", "3\n"])]
    )
    def test_tail_gives_the_last_records(self, path: Path, tail: int, expected: list[str]) -> None:
        assert texts(written(path, b"1\n2\n3\n"), tail=tail) == expected

    def test_tail_reaches_into_rotated_files(self, path: Path) -> None:
        log = LogWriter(path, max_size=200, max_files=5)
        for number in range(9):
            log.write("stdout", b"%d\n" % number)
        log.finish()
        assert texts(path, tail=5) == ["4\n", "5\n", "6\n", "7\n", "8\n"]

    def test_since_and_until_choose_by_time(self, path: Path) -> None:
        records = [
            {"log": f"{second}\n", "stream": "stdout", "time": timestamp(second * 10**9)} for second in (1, 2, 3)
        ]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        assert texts(path, since=2 * 10**9) == ["2\n", "3\n"]
        assert texts(path, until=2 * 10**9) == ["1\n", "2\n"]

    def test_no_log_is_no_records(self, path: Path) -> None:
        assert texts(path) == []


class TestFollowing:
    """The writer works while the follower asks whether the container still runs: no clock decides."""

    def follow(self, path: Path, steps: list[Callable[[], None]], **options: int) -> list[str]:
        def running() -> bool:
            if steps:
                steps.pop(0)()
            return bool(steps)

        return [record.text for record in read_log(path, running=running, **options)]

    def test_gives_what_comes_later_until_the_container_ends(self, path: Path) -> None:
        log = LogWriter(path)
        log.write("stdout", b"old\n")
        steps = [lambda: log.write("stdout", b"new\n"), lambda: log.write("stdout", b"las"), log.finish]
        assert self.follow(path, steps) == ["old\n", "new\n", "las"]

    def test_goes_on_through_a_rotation(self, path: Path) -> None:
        log = LogWriter(path, max_size=300, max_files=5)
        lines = [b"%02d\n" % number for number in range(20)]
        steps = [lambda batch=batch: log.write("stdout", batch) for batch in lines]  # type: ignore[misc]  # mypy does not infer the default
        assert self.follow(path, [*steps, log.finish]) == [line.decode() for line in lines]

    def test_tail_then_follow(self, path: Path) -> None:
        log = LogWriter(path)
        log.write("stdout", b"1\n2\n")
        assert self.follow(path, [lambda: log.write("stdout", b"3\n"), log.finish], tail=1) == ["2\n", "3\n"]


def test_times_are_written_and_read_as_go_does() -> None:
    assert timestamp(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert nanoseconds("2023-11-14T22:13:20.12Z") == 1_700_000_000_120_000_000
    assert timestamp(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
