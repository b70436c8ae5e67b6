"""The journal of what happened."""

from pathlib import Path

from runner.container.journal import LIMIT, Happened, Journal, write


def actions(found: list[Happened]) -> list[str]:
    return [happened.action for happened in found]


def test_a_listener_sees_each_line_once(tmp_path: Path) -> None:
    write(tmp_path, Happened("container", "before", "x"))
    journal = Journal(tmp_path)
    assert actions(journal.past()) == ["before"]
    assert journal.more() == []
    write(tmp_path, Happened("container", "after", "x", {"name": "n"}))
    (found,) = journal.more()
    assert (found.kind, found.action, found.id, found.attributes) == ("container", "after", "x", {"name": "n"})
    assert found.time > 0
    journal.close()


def test_a_listener_keeps_up_with_rotation_and_the_disk_is_not_filled(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    seen = []
    for number in range(4000):
        write(tmp_path, Happened("container", str(number), "x" * 64, {"label": "y" * 200}))
        if number % 100 == 0:
            seen += actions(journal.more())
    seen += actions(journal.more())
    assert seen == [str(number) for number in range(4000)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * LIMIT + 1024
    late = Journal(tmp_path)
    assert actions(late.past())[-1] == "3999"
    late.close()
    journal.close()


def test_what_is_no_event_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('nonsense\n{"kind": 7}\n[]\n')
    write(tmp_path, Happened("image", "pull", "x"))
    journal = Journal(tmp_path)
    assert actions(journal.past()) == ["pull"]
    journal.close()


def test_no_directory_is_no_failure(tmp_path: Path) -> None:
    write(tmp_path / "gone", Happened("image", "pull", "x"))
    assert Journal(tmp_path / "gone").past() == []
