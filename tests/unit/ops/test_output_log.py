"""A step's output: whole in its file, line by line on the screen."""

from pathlib import Path

from builder.ops.output import OutputLog, log_directory


def test_lines_are_shown_when_they_end_and_the_file_has_every_byte(tmp_path: Path) -> None:
    shown: list[str] = []
    with OutputLog(tmp_path / "log", shown.append) as log:
        log.write(b"on")
        assert shown == []
        log.write(b"e\ntwo\nthr")
        assert shown == ["one", "two"]
        log.write(b"ee")
    assert shown == ["one", "two", "three"]
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree"


def test_a_progress_bar_is_shown_as_it_ends(tmp_path: Path) -> None:
    shown: list[str] = []
    with OutputLog(tmp_path / "log", shown.append) as log:
        log.write(b"10%\r50%\r100%\r\nnext\n")
    assert shown == ["100%", "next"]


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    shown: list[str] = []
    with OutputLog(tmp_path / "log", shown.append) as log:
        log.write(b"\xff\xfe\n")
    assert shown == ["\N{REPLACEMENT CHARACTER}" * 2]


def test_a_line_without_end_is_shown_in_pieces_of_bounded_size(tmp_path: Path) -> None:
    shown: list[str] = []
    with OutputLog(tmp_path / "log", shown.append) as log:
        for _ in range(200):
            log.write(b"x" * 1024)
    assert sum(map(len, shown)) == 200 * 1024
    assert max(map(len, shown)) < 70 * 1024


def test_the_end_is_kept_for_an_error_message(tmp_path: Path) -> None:
    with OutputLog(tmp_path / "log", lambda line: None) as log:
        log.write(b"".join(b"%d\n" % number for number in range(1000)))
    assert log.tail[-1] == "999"
    assert len(log.tail) == 20


def test_logs_of_long_ago_go_but_those_of_a_build_that_runs_stay(tmp_path: Path) -> None:
    with log_directory(tmp_path) as running:
        for _ in range(55):
            with log_directory(tmp_path) as made:
                assert made.is_dir()
        assert running.is_dir()
    with log_directory(tmp_path):
        assert not running.exists()
    assert len(list((tmp_path / "builds").iterdir())) == 50
