"""The listing that tells whether a context changed, and memos that are not whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.dockerfile.ignore import IgnoreRules
from pybuild.cli import again
from pybuild.cli.remember import pruned_by


def listed(context: Path, *pruned: str) -> bytes:
    return again.packed(again.listing(str(context), frozenset(pruned)))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    top = tmp_path / "context"
    (top / "src/deep").mkdir(parents=True)
    (top / "src/deep/file").write_text("1")
    (top / "src/other").write_text("2")
    (top / "src/link").symlink_to("other")
    (top / "ignored").mkdir()
    return top


def _rewritten_with_its_old_times(context: Path) -> None:
    file = context / "src/deep/file"
    before = file.stat()
    file.write_text("3")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _relinked(context: Path) -> None:
    (context / "src/link").unlink()
    (context / "src/link").symlink_to("third")


CHANGES: list[Callable[[Path], object]] = [
    _rewritten_with_its_old_times,
    _relinked,
    lambda context: (context / "src/deep/file").write_text("longer"),
    lambda context: (context / "src/deep/file").chmod(0o600),
    lambda context: (context / "src/deep/file").unlink(),
    lambda context: (context / "src/deep/file").rename(context / "src/deep/elsewhere"),
    lambda context: (context / "src/deep").chmod(0o700),
    lambda context: (context / "src/deep/new").write_text(""),
    lambda context: (context / "new").mkdir(),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_every_change_shows(context: Path, change: Callable[[Path], object]) -> None:
    before = listed(context)
    assert listed(context) == before
    change(context)
    assert listed(context) != before


def test_what_is_ignored_as_a_whole_is_not_looked_into(context: Path) -> None:
    rules = IgnoreRules.of(("ignored", "src", "!src/deep"))
    pruned = pruned_by(str(context), rules)
    assert pruned == {"ignored"}
    before = listed(context, *pruned)
    (context / "src/deep/file").write_text("changed")
    changed = listed(context, *pruned)
    assert changed != before
    below = context / "ignored/below"
    stamp = (context / "ignored").stat()
    below.mkdir()
    (below / "file").write_text("")
    assert (context / "ignored").stat().st_ctime_ns != stamp.st_ctime_ns  # the directory itself is looked at …
    changed = listed(context, *pruned)
    (below / "file").write_text("changed")
    assert listed(context, *pruned) == changed  # … and nothing in it


def test_too_many_names_are_no_listing(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "MOST", 3)
    assert again.listing(str(context)) is None


MEMO = again.Memo(
    key="a", until=1.0, context="/c", pruned=["x"], files=b"f", watched=[("/w", None)], blobs=[("/b", 1)],
    facts=[("SELECT 1", (), (1,))], report=None, output=("out", ""),
)  # fmt: skip


def test_a_memo_is_read_as_it_was_written() -> None:
    found = again.Memo.parse(MEMO.to_bytes())
    assert found is not None
    assert found.__dict__ == MEMO.__dict__


@pytest.mark.parametrize("cut", [0, 1, 20, 60, -1])
def test_a_memo_that_is_not_whole_is_none(cut: int) -> None:
    assert again.Memo.parse(MEMO.to_bytes()[:cut]) is None


def test_a_memo_of_zeros_is_none() -> None:
    assert again.Memo.parse(bytes(len(MEMO.to_bytes()))) is None


def test_neither_words_nor_variables_are_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hidden-variable")
    words = ["build", "--build-arg", "PASSWORD=hidden-word", "."]
    kept = again.key(words) + again.place("/root", words)
    assert "hidden" not in kept
    monkeypatch.setenv("TOKEN", "another")
    assert again.key(words) not in kept
    assert again.place("/root", words) in kept
