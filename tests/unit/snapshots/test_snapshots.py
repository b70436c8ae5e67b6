"""What builds and containers may rely on when they ask for root filesystems."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from builder.errors import SnapshotError
from builder.snapshots import Snapshots
from builder.snapshots.trees import remove_tree
from runner.kernel.calls import MNT_DETACH, MS_BIND, mount, umount2
from runner.kernel.mounts import attach, overlay_tree


@pytest.fixture(params=["/dev/shm", "/var/tmp"], ids=["tmpfs", "disk"])
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    with TemporaryDirectory(dir=request.param) as directory:
        yield Path(directory)


@pytest.fixture
def snapshots(root: Path) -> Iterator[Snapshots]:
    with Snapshots(root) as found:
        yield found


def commit(snapshots: Snapshots, name: str, parent: str | None, **files: str) -> None:
    active = snapshots.prepare(f"build-{name}", parent)
    for file, text in files.items():
        (Path(active.upper) / file).write_text(text)
    snapshots.commit(active.key, name)


class TestPrepare:
    def test_stands_on_all_layers_of_its_parent_topmost_first(self, snapshots: Snapshots) -> None:
        commit(snapshots, "sha256:a", None, a="1")
        commit(snapshots, "sha256:b", "sha256:a", b="2")
        active = snapshots.prepare("build-1", "sha256:b")
        assert [os.listdir(directory) for directory in active.lower] == [["b"], ["a"]]
        assert os.listdir(active.upper) == []
        assert active.parent == "sha256:b"

    def test_without_a_parent_stands_on_an_empty_directory(self, snapshots: Snapshots) -> None:
        assert [os.listdir(directory) for directory in snapshots.prepare("build-1", None).lower] == [[]]
        assert [os.listdir(directory) for directory in snapshots.view(None)] == [[]]

    def test_refuses_a_key_twice_and_an_unknown_parent(self, snapshots: Snapshots) -> None:
        snapshots.prepare("build-1", None)
        with pytest.raises(SnapshotError, match="already"):
            snapshots.prepare("build-1", None)
        with pytest.raises(SnapshotError, match="no snapshot sha256:x"):
            snapshots.prepare("build-2", "sha256:x")

    def test_an_active_snapshot_is_no_parent(self, snapshots: Snapshots) -> None:
        snapshots.prepare("build-1", None)
        with pytest.raises(SnapshotError):
            snapshots.prepare("build-2", "build-1")

    def test_refuses_more_layers_than_the_kernel_lays_over_each_other(
        self, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("builder.snapshots.snapshots._MOST_LOWER", 3)
        for name, parent in (("1", None), ("2", "1"), ("3", "2"), ("4", "3")):
            commit(snapshots, name, parent)
        with pytest.raises(SnapshotError, match="4 layers are more than overlayfs") as caught:
            snapshots.prepare("build-5", "4")
        assert "join instructions" in (caught.value.hint or "")
        assert snapshots.get("build-5") is None

    def test_shows_the_root_directory_as_the_parent_left_it(self, snapshots: Snapshots) -> None:
        active = snapshots.prepare("build-1", None)
        os.chmod(active.upper, 0o1700)
        os.chown(active.upper, 12, 34)
        snapshots.commit("build-1", "sha256:a")
        found = os.stat(snapshots.prepare("build-2", "sha256:a").upper)
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1700, 12, 34)

    def test_modes_do_not_depend_on_the_umask(self, snapshots: Snapshots) -> None:
        before = os.umask(0o077)
        try:
            active = snapshots.prepare("build-1", None)
        finally:
            os.umask(before)
        assert os.stat(active.upper).st_mode & 0o7777 == 0o755


class TestADiskWithoutOverlay:
    def test_is_refused_before_any_work_with_a_hint(self, root: Path) -> None:
        for name in ("lower", "upper", "work", "mounted"):
            (root / name).mkdir()
        overlay = overlay_tree([str(root / "lower")], str(root / "upper"), str(root / "work"))
        place = os.open(root / "mounted", os.O_PATH)
        attach(overlay, place)
        try:
            with Snapshots(root / "mounted") as snapshots:
                with pytest.raises(SnapshotError, match="refuses an overlay there") as caught:
                    snapshots.prepare("build-1", None)
                assert "put --root on ext4" in (caught.value.hint or "")
                assert snapshots.get("build-1") is None
        finally:
            os.close(overlay)
            os.close(place)
            umount2(str(root / "mounted"), MNT_DETACH)


class TestCommit:
    def test_makes_it_visible_under_its_name_only(self, snapshots: Snapshots) -> None:
        active = snapshots.prepare("build-1", None)
        assert not snapshots.exists("sha256:a")
        snapshots.commit("build-1", "sha256:a")
        assert snapshots.exists("sha256:a")
        assert snapshots.get("build-1") is None
        assert snapshots.view("sha256:a") == (active.upper,)

    def test_of_a_name_that_exists_drops_the_newcomer(self, snapshots: Snapshots) -> None:
        commit(snapshots, "sha256:a", None, first="")
        second = snapshots.prepare("build-2", None)
        snapshots.commit("build-2", "sha256:a")
        assert os.listdir(snapshots.view("sha256:a")[0]) == ["first"]
        assert not Path(second.upper).exists()

    def test_needs_an_active_snapshot(self, snapshots: Snapshots) -> None:
        with pytest.raises(SnapshotError, match="no active snapshot"):
            snapshots.commit("build-1", "sha256:a")

    def test_onto_another_one_shows_its_files_there_and_that_ones_root(self, snapshots: Snapshots) -> None:
        draft = snapshots.prepare("build-draft", None)
        (Path(draft.upper) / "b").write_text("2")
        commit(snapshots, "sha256:a", None, a="1")
        os.chmod(snapshots.view("sha256:a")[0], 0o711)
        snapshots.commit(draft.key, "sha256:ab", onto="sha256:a")
        lower = snapshots.view("sha256:ab")
        assert [os.listdir(directory) for directory in lower] == [["b"], ["a"]]
        assert os.stat(lower[0]).st_mode & 0o7777 == 0o711
        assert [each.key for each in snapshots.stored()] == ["sha256:a", "sha256:ab"]
        with pytest.raises(SnapshotError, match="in use"):
            snapshots.remove("sha256:a")

    def test_onto_one_that_is_not_there_is_refused(self, snapshots: Snapshots) -> None:
        draft = snapshots.prepare("build-draft", None)
        with pytest.raises(SnapshotError, match="no snapshot sha256:x"):
            snapshots.commit(draft.key, "sha256:ab", onto="sha256:x")
        assert not snapshots.exists("sha256:ab")

    def test_is_seen_by_another_process(self, snapshots: Snapshots, root: Path) -> None:
        commit(snapshots, "sha256:a", None, a="1")
        with Snapshots(root) as other:
            assert other.view("sha256:a") == snapshots.view("sha256:a")


class TestRemove:
    def test_of_a_parent_is_refused_until_its_children_are_gone(self, snapshots: Snapshots) -> None:
        commit(snapshots, "sha256:a", None)
        snapshots.prepare("container-1", "sha256:a")
        with pytest.raises(SnapshotError, match="in use"):
            snapshots.remove("sha256:a")
        snapshots.remove("container-1")
        snapshots.remove("sha256:a")
        assert not snapshots.exists("sha256:a")
        assert not [entry for entry in os.listdir(snapshots.root) if entry.isdecimal()]

    def test_of_what_is_not_there_is_fine(self, snapshots: Snapshots) -> None:
        snapshots.remove("sha256:a")


class TestSweep:
    def test_removes_what_dead_processes_left_but_never_containers(self, snapshots: Snapshots, root: Path) -> None:
        script = (
            "import sys; from builder.snapshots import Snapshots; s = Snapshots(sys.argv[1]);"
            "s.prepare('build-dead', None); s.prepare('container-1', None)"
        )
        subprocess.run([sys.executable, "-c", script, root], check=True)
        snapshots.prepare("build-alive", None)
        assert snapshots.sweep() == ("build-dead",)
        assert snapshots.get("container-1") is not None
        assert snapshots.get("build-alive") is not None
        assert len([entry for entry in os.listdir(snapshots.root) if entry.isdecimal()]) == 2

    def test_removes_unwanted_chains_from_the_top_down(self, snapshots: Snapshots) -> None:
        commit(snapshots, "sha256:a", None)
        commit(snapshots, "sha256:b", "sha256:a")
        commit(snapshots, "sha256:c", "sha256:b")
        snapshots.sweep(lambda name: name == "sha256:a", idle_seconds=0)
        assert [snapshots.exists(f"sha256:{name}") for name in "abc"] == [True, False, False]

    def test_spares_what_was_used_a_moment_ago(self, snapshots: Snapshots) -> None:
        commit(snapshots, "sha256:a", None)
        assert snapshots.sweep(lambda _: False) == ()

    def test_removes_directories_without_a_row(self, snapshots: Snapshots) -> None:
        (snapshots.root / "999" / "fs").mkdir(parents=True)
        snapshots.sweep()
        assert not (snapshots.root / "999").exists()


class TestOpen:
    def test_by_many_processes_at_once_is_fine(self, root: Path) -> None:
        script = (
            "import sys; from builder.snapshots import Snapshots; s = Snapshots(sys.argv[1]);"
            "[s.prepare(f'container-{sys.argv[2]}-{i}', None) for i in range(5)]"
        )
        running = [subprocess.Popen([sys.executable, "-c", script, root, str(number)]) for number in range(4)]
        assert [process.wait() for process in running] == [0, 0, 0, 0]
        with Snapshots(root) as snapshots:
            assert len(set(os.listdir(snapshots.root)) - {"empty", "index.db", "index.db-wal", "index.db-shm"}) == 20

    def test_refuses_another_layout(self, root: Path) -> None:
        Snapshots(root).close()
        with sqlite3.connect(root / "snapshots" / "index.db") as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(SnapshotError, match="layout 99"):
            Snapshots(root)


class TestAfterTheMachineWentDown:
    """What was committed a moment before may not have reached the disk."""

    @staticmethod
    def restart(root: Path, *, old: bool = False) -> None:
        with sqlite3.connect(root / "snapshots" / "index.db") as db:
            db.execute("UPDATE fresh SET since = since - 1000") if old else db.execute(
                "UPDATE fresh SET boot = 'before'"
            )
        db.close()

    def test_fresh_snapshots_are_not_trusted(self, root: Path) -> None:
        with Snapshots(root) as snapshots:
            commit(snapshots, "sha256:a", None, a="1")
            commit(snapshots, "sha256:b", "sha256:a", b="2")
        self.restart(root)
        with Snapshots(root) as snapshots:
            assert not snapshots.exists("sha256:a")
            assert not snapshots.exists("sha256:b")
            snapshots.sweep()
            assert not [entry for entry in os.listdir(snapshots.root) if entry.isdecimal()]

    def test_those_that_had_time_to_settle_are(self, root: Path) -> None:
        with Snapshots(root) as snapshots:
            commit(snapshots, "sha256:a", None, a="1")
        self.restart(root, old=True)
        Snapshots(root).close()
        self.restart(root)
        with Snapshots(root) as snapshots:
            assert snapshots.exists("sha256:a")

    def test_those_below_containers_stay(self, root: Path) -> None:
        with Snapshots(root) as snapshots:
            commit(snapshots, "sha256:a", None, a="1")
            snapshots.prepare("container-1", "sha256:a")
        self.restart(root)
        with Snapshots(root) as snapshots:
            assert snapshots.exists("sha256:a")


class TestRemoveTree:
    def test_never_follows_a_link(self, root: Path) -> None:
        (root / "outside").mkdir()
        (root / "outside" / "precious").write_text("x")
        (root / "tree").mkdir()
        (root / "tree" / "link").symlink_to(root / "outside")
        remove_tree(str(root / "tree"))
        assert (root / "outside" / "precious").exists()
        assert not (root / "tree").exists()

    def test_goes_deeper_than_a_path_may_be_long(self, root: Path) -> None:
        (root / "tree").mkdir()
        here = os.open(root / "tree", os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("deep", dir_fd=here)
            below = os.open("deep", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        remove_tree(str(root / "tree"))
        assert not (root / "tree").exists()

    def test_spares_what_is_mounted_in_it(self, root: Path) -> None:
        (root / "precious").mkdir()
        (root / "precious" / "file").touch()
        (root / "tree" / "mounted").mkdir(parents=True)
        mount(str(root / "precious"), str(root / "tree" / "mounted"), "", MS_BIND, "")
        try:
            with pytest.raises(OSError, match="cross-device"):
                remove_tree(str(root / "tree"))
        finally:
            umount2(str(root / "tree" / "mounted"), MNT_DETACH)
        assert (root / "precious" / "file").exists()
        remove_tree(str(root / "tree"))
        assert not (root / "tree").exists()

    def test_opens_directories_without_any_permission(self, root: Path) -> None:
        (root / "tree" / "work").mkdir(parents=True)
        (root / "tree" / "work" / "index").mkdir(mode=0)
        remove_tree(str(root / "tree"))
        assert not (root / "tree").exists()
