"""A full disk, a root that can't be used, a root of another version, several processes on one root."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.bad_input.conftest import Contexts, Pybuild

pytestmark = pytest.mark.root


@pytest.fixture
def small(ram_path: Path, busybox_archive: Path) -> Iterator[Pybuild]:
    """A root on a file system of 6 MiB with busybox in it."""
    mounted = ram_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(mounted)], check=True)
    pybuild = Pybuild(mounted / "root")
    pybuild.ok("load", "-i", str(busybox_archive))
    pybuild.ok("run", "--rm", "--network", "none", "busybox", "true")
    yield pybuild
    (mounted / "taken").unlink(missing_ok=True)
    pybuild.end()
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def fill(pybuild: Pybuild, *, leave: int = 0) -> Path:
    """Take all the space but `leave` bytes."""
    taken = pybuild.root.parent / "taken"
    with taken.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(4096))
        except OSError:
            file.truncate(max(file.tell() - leave, 0))
    return taken


class TestAFullDisk:
    def test_fails_a_build_and_the_next_one_succeeds(self, small: Pybuild, contexts: Contexts) -> None:
        context = contexts("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=20\n")
        with small.unchanged():
            found = small.fails("build", "--network", "none", "-t", "big", str(context), code=4)
        assert "No space left on device" in found.err
        context = contexts("FROM busybox\nCOPY big /\n", {"big": os.urandom(9 << 20)})
        with small.unchanged():
            small.fails("build", "--network", "none", "-t", "big", str(context), code=4, says="space")
        small.ok("build", "--network", "none", "-t", "fine", str(contexts("FROM busybox\nRUN echo 1 > /file\n")))
        assert small.ok("run", "--rm", "--network", "none", "fine", "cat", "/file") == "1\n"

    def test_fails_a_load_whole(self, small: Pybuild, shared_root: Path, contexts: Contexts, ram_path: Path) -> None:
        big = Pybuild(ram_path / "elsewhere")
        context = contexts("FROM scratch\nCOPY big /\n", {"big": os.urandom(9 << 20)})
        big.ok("build", "-t", "big", str(context))
        big.ok("save", "-o", str(ram_path / "big.tar"), "big")
        with small.unchanged():
            small.fails("load", "-i", str(ram_path / "big.tar"), code=1, says="no space left", hint="room")
        assert small.ok("run", "--rm", "--network", "none", "busybox", "echo", "alive") == "alive\n"

    def test_is_told_by_every_command_and_nothing_is_lost(self, small: Pybuild, contexts: Contexts) -> None:
        small.ok("run", "-d", "--network", "none", "--name", "kept", "busybox", "sh", "-c", "echo kept; sleep 100")
        before = small.state()
        taken = fill(small)
        for words in (["run", "--rm", "--network", "none", "busybox", "true"], ["run", "-d", "busybox", "true"]):
            small.fails(*words, code=125, says="space")
        context = contexts("FROM busybox\nRUN echo hello\n")
        found = small("build", "--network", "none", "-t", "a", str(context))
        assert found.code in {1, 4}
        small.told(found.err, "space")
        small.fails("tag", "busybox", "other:1", code=1, says="no space left", hint="room")
        for words in (["ps"], ["logs", "kept"], ["inspect", "kept"], ["exec", "kept", "true"]):
            small.ok(*words)
        taken.unlink()
        after = small.state()
        assert {**after, "snapshots": 0} == {**before, "snapshots": 0}
        assert small.ok("run", "--rm", "--network", "none", "busybox", "echo", "alive") == "alive\n"

    def test_of_logs_neither_stops_the_container_nor_loses_its_exit_code(self, small: Pybuild) -> None:
        fill(small, leave=300_000)
        line = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; exit 7"
        found = small("run", "--network", "none", "--name", "talks", "busybox", "sh", "-c", line, timeout=60)
        assert found.code == 7
        assert found.out.splitlines()[-1] == "line 39999"
        assert small.ok("logs", "talks").startswith("line 0\n")
        (small.root.parent / "taken").unlink()
        assert small.ok("wait", "talks") == "7\n"

    def test_of_an_output_leaves_no_file(self, pybuild: Pybuild, small: Pybuild, contexts: Contexts) -> None:
        fill(small, leave=100_000)
        target = small.root.parent / "out.tar"
        pybuild.fails("save", "-o", str(target), "busybox", code=1, says="No space left on device")
        for kind in ("tar", "oci", "docker"):
            words = ["build", "--network", "none", "-o", f"type={kind},dest={target}", str(contexts("FROM busybox\n"))]
            pybuild.fails(*words, code=1, says=f"can't write to {target}: No space left on device")
        assert sorted(os.listdir(target.parent)) == ["root", "taken"]


COMMANDS = [
    ["images"], ["run", "--rm", "--network", "none", "busybox", "true"], ["build", "."], ["ps"],
    ["pull", "127.0.0.1:1/x"], ["load", "-i", "x"], ["registry", "serve", "--addr", "127.0.0.1:0"],
]  # fmt: skip
OPENING = [words for words in COMMANDS if words != ["ps"]]  # a list of containers needs no store


class TestARoot:
    @pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
    def test_that_is_a_file(self, tmp_path: Path, words: list[str]) -> None:
        (tmp_path / "root").write_text("precious")
        pybuild = Pybuild(tmp_path / "root")
        pybuild.fails(*words, code=2, says=f"{tmp_path}/root is not a directory", hint="--root", cwd=tmp_path)
        assert (tmp_path / "root").read_text() == "precious"

    @pytest.mark.parametrize("words", OPENING, ids=" ".join)
    def test_of_another_version(self, tmp_path: Path, words: list[str]) -> None:
        root = tmp_path / "root"
        root.mkdir()
        (root / "VERSION").write_text("99\n")
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        code = 125 if words[0] == "run" else 1
        Pybuild(root).fails(*words, code=code, says="version '99', this pybuild reads", hint="--root", cwd=tmp_path)
        assert set(os.listdir(root)) <= {"VERSION", "containers"}

    @pytest.mark.parametrize("words", OPENING, ids=" ".join)
    def test_that_can_not_be_made(self, tmp_path: Path, words: list[str]) -> None:
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        code = 125 if words[0] == "run" else 1
        Pybuild(Path("/proc/nosuch/root")).fails(*words, code=code, says="/proc/nosuch", hint="--root", cwd=tmp_path)

    def test_with_damaged_metadata(self, tmp_path: Path, busybox_archive: Path) -> None:
        pybuild = Pybuild(tmp_path / "root")
        pybuild.ok("load", "-i", str(busybox_archive))
        (pybuild.root / "meta.db").write_bytes(b"nonsense" * 4096)
        for path in pybuild.root.glob("meta.db-*"):
            path.unlink()
        pybuild.fails("images", code=1, says="meta.db")

    def test_with_a_container_of_another_version(self, tmp_path: Path) -> None:
        pybuild = Pybuild(tmp_path / "root")
        record = pybuild.root / "containers" / ("a" * 64) / "config.json"
        record.parent.mkdir(parents=True)
        record.write_text('{"format": 99}')
        for words in (["ps", "-a"], ["logs", "aaaa"], ["rm", "-f", "aaaa"]):
            found = pybuild(*words)
            assert found.code == 1
            pybuild.told(found.err, str(record), hint=f"remove {record.parent}")

    def test_with_a_damaged_index_of_snapshots(self, tmp_path: Path, busybox_archive: Path) -> None:
        pybuild = Pybuild(tmp_path / "root")
        pybuild.ok("load", "-i", str(busybox_archive))
        (pybuild.root / "snapshots").mkdir()
        (pybuild.root / "snapshots/index.db").write_bytes(b"nonsense" * 4096)
        words = ("run", "--rm", "--network", "none", "busybox", "true")
        pybuild.fails(*words, code=125, says=f"{pybuild.root}/snapshots", hint="disk")
        pybuild.end()


class TestManyAtOnce:
    def test_of_all_kinds_on_one_root_harm_nobody(
        self, ram_path: Path, busybox_archive: Path, contexts: Contexts
    ) -> None:
        pybuild = Pybuild(ram_path / "root")
        pybuild.ok("load", "-i", str(busybox_archive))
        contexts_ = [contexts(f"FROM busybox\nRUN echo {n % 2} > /file\nRUN echo {n} > /other\n") for n in range(4)]
        lines = []
        for n, context in enumerate(contexts_):
            lines.append(["build", "--network", "none", "-t", f"app{n}", str(context)])
            lines.append(["run", "--rm", "--network", "none", "busybox", "echo", str(n)])
            lines.append(["load", "-i", str(busybox_archive)])
            lines.append(["tag", "busybox", f"copy:{n}"])
            lines.append(["registry", "gc"])
        running = [(line, pybuild.popen(*line)) for line in lines]
        for line, process in running:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, (line, err)
            assert "Traceback" not in err
            if line[0] == "run":
                assert out == f"{line[-1]}\n"
        for n in range(4):
            text = pybuild.ok("run", "--rm", "--network", "none", f"app{n}", "cat", "/file", "/other")
            assert text == f"{n % 2}\n{n}\n"
        pybuild.end()

    def test_remove_what_others_use_without_harm(
        self, ram_path: Path, busybox_archive: Path, contexts: Contexts
    ) -> None:
        pybuild = Pybuild(ram_path / "root")
        pybuild.ok("load", "-i", str(busybox_archive))
        context = contexts("FROM busybox\nRUN sleep 1; echo done > /file\n")
        build = pybuild.popen("build", "--network", "none", "-t", "app", "--progress", "plain", str(context))
        assert build.stderr is not None
        while "RUN sleep" not in build.stderr.readline():
            pass
        pybuild("rmi", "-f", "busybox")
        pybuild.ok("image", "prune", "-f")
        pybuild.ok("builder", "prune", "--now")
        pybuild.ok("registry", "gc")
        _, err = build.communicate(timeout=30)
        assert build.returncode == 0, err
        assert pybuild.ok("run", "--rm", "--network", "none", "app", "cat", "/file") == "done\n"
        pybuild.end()
