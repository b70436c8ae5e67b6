"""Killed at any step, the store holds whole blobs only, no tag to nothing, every acknowledged tag, and can go on."""

import os
import re
import runpy
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import registry.storage
from registry.model import Digest, parse_manifest
from registry.storage import ContentStore

ROOM = Path(registry.storage.__file__).parent
WRITER = Path(__file__).with_name("store_writer.py")
POINTS = sorted(
    {name for module in ROOM.glob("*.py") for name in re.findall(r'crash_point\("([^"]+)"\)', module.read_text())}
)


@pytest.fixture
def root(ram_path: Path) -> Path:
    return ram_path / "root"


def run_writer(root: Path, crash_at: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYBUILD_CRASH_AT": crash_at, "PYTHONPATH": str(ROOM.parent.parent)}
    return subprocess.run(
        [sys.executable, str(WRITER), str(root)], env=environment, capture_output=True, text=True, check=False
    )


def tags_after(story: list[str]) -> dict[tuple[str, str], str]:
    """(repository, tag) → digest, when all that the lines say is done."""
    state: dict[tuple[str, str], str] = {}
    for verb, repo, tag, *digest in map(str.split, story):
        if verb == "tag":
            state[repo, tag] = digest[0]
        else:
            state.pop((repo, tag), None)
    return state


def blob_files(root: Path) -> dict[Digest, Path]:
    return {Digest(path.parent.parent.name, path.name): path for path in root.glob("blobs/*/*/*")}


def check_whole(root: Path) -> dict[tuple[str, str], str]:
    """Everything in the store is whole; returns its tags."""
    for digest, path in blob_files(root).items():
        assert Digest.of(path.read_bytes(), digest.algorithm) == digest, "half a blob"
    assert column(root, "PRAGMA integrity_check") == {"ok"}
    assert column(root, "SELECT 1 FROM pragma_foreign_key_check") == set()
    with ContentStore.open(root) as store:
        tags = store.images()
        for stored in [*tags, *store.untagged()]:
            manifest = store.manifest(stored.repository, stored.digest)
            assert Digest.of(manifest.content) == manifest.digest
            for child in parse_manifest(manifest.content, manifest.media_type).children:
                assert store.repo_has(stored.repository, child.digest), "a manifest without its content"
                assert len(store.read(child.digest)) == child.size
        return {(stored.repository, stored.tag): str(stored.digest) for stored in tags}


def column(root: Path, statement: str) -> set[str]:
    database = sqlite3.connect(root / "meta.db")
    found = {value for (value,) in database.execute(statement)}
    database.close()
    return found


@pytest.fixture(scope="module")
def whole_story(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a run that nobody kills says."""
    done = run_writer(tmp_path_factory.mktemp("whole") / "root", "")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_nothing_that_was_acknowledged(point: str, root: Path, whole_story: list[str]) -> None:
    killed = run_writer(root, point)
    assert killed.returncode == -signal.SIGKILL, f"never came to {point}: {killed.stderr}"

    tags = check_whole(root) if (root / "meta.db").exists() else {}
    said = killed.stdout.splitlines()
    assert said == whole_story[: len(said)]
    assert tags in (tags_after(said), tags_after(whole_story[: len(said) + 1])), "neither before nor after a change"

    runpy.run_path(str(WRITER))["scenario"](root)  # the same again must succeed on what was left
    assert check_whole(root) == tags_after(whole_story)

    with ContentStore.open(root) as store:
        store.collect(grace_seconds=0, untagged_seconds=0)
    assert {str(digest) for digest in blob_files(root)} == column(root, "SELECT digest FROM blob")
    resumable = column(root, "SELECT id FROM upload")
    assert {path.name for path in (root / "uploads").iterdir()} <= resumable, "garbage that nobody sweeps"


def test_without_a_crash_only_what_is_tagged_or_leased_remains(root: Path) -> None:
    run_writer(root, "")
    with ContentStore.open(root) as store:
        assert not store.has(Digest.of(bytes([5]) * 5000)), "nothing refers to it"
        assert store.has(Digest.of(bytes([4]) * 5000))


def test_a_store_whose_making_was_interrupted_is_made_by_the_next_process(root: Path) -> None:
    run_writer(root, "open-directories")
    assert not (root / "VERSION").exists()
    ContentStore.open(root).close()
    assert (root / "VERSION").read_text() == "1\n"
