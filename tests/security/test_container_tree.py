"""An image or a volume that tries to lead the runner out of the container's own tree; one class an advisory."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.container import launch
from runner.container.launch import Stdio
from runner.container.spec import Mount
from runner.errors import RunnerError, UnsafeRootfs
from tests.containers import Boxes

pytestmark = pytest.mark.root


class TestProcOnASymlink:
    """CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: /proc where the attacker's files are."""

    @pytest.mark.parametrize("place", ["proc", "sys", "dev"])
    @pytest.mark.parametrize("target", ["/tmp/fake", "tmp/fake", "/", "self"])
    def test_is_refused(self, boxes: Boxes, place: str, target: str) -> None:
        (boxes.image / "tmp/fake").mkdir()
        (boxes.image / place).rmdir()
        (boxes.image / place).symlink_to(target)
        with pytest.raises(UnsafeRootfs, match=f"/{place} must be mounted on an ordinary directory") as raised:
            boxes.run("true")
        assert raised.value.hint

    def test_a_file_in_its_place_is_refused(self, boxes: Boxes) -> None:
        (boxes.image / "proc").rmdir()
        (boxes.image / "proc").write_text("")
        with pytest.raises(UnsafeRootfs, match="ordinary directory"):
            boxes.run("true")


class TestDevOnASymlink:
    """CVE-2026-41579, CVE-2026-47766: devices made where /dev leads to."""

    def test_no_node_is_made_anywhere(self, boxes: Boxes, ram_path: Path) -> None:
        (ram_path / "host").mkdir()
        (boxes.image / "dev").rmdir()
        (boxes.image / "dev").symlink_to(ram_path / "host")
        with pytest.raises(UnsafeRootfs):
            boxes.run("true")
        assert os.listdir(ram_path / "host") == []
        assert sorted(os.listdir(boxes.upper())) == []


class TestMountsInsideProc:
    """A mount that covers part of /proc would let a program see, or the runner write, something else there."""

    @pytest.mark.parametrize(
        "place", ["/proc/self", "/proc/sys/kernel", "/proc/1/attr", "/proc/../proc/sys", "/way/sys"]
    )
    def test_are_refused(self, boxes: Boxes, ram_path: Path, place: str) -> None:
        (boxes.image / "way").symlink_to("proc")
        spec = boxes.spec("true")
        mounts = (*spec.mounts, Mount(place, "bind", str(ram_path)))
        with pytest.raises(UnsafeRootfs, match="lies inside /proc"):
            boxes.finish(replace(spec, mounts=mounts))

    def test_but_for_the_files_that_lxcfs_provides(self, boxes: Boxes, ram_path: Path) -> None:
        (ram_path / "uptime").write_text("1.00 1.00\n")
        spec = boxes.spec("cat", "/proc/uptime")
        mounts = (*spec.mounts, Mount("/proc/uptime", "bind", str(ram_path / "uptime")))
        assert boxes.finish(replace(spec, mounts=mounts)).output == "1.00 1.00\n"


class TestMountPointIsALink:
    """CVE-2021-30465, CVE-2024-45310: a destination that is, or becomes, a link to a place of the host."""

    @pytest.mark.parametrize("kind", ["absolute", "dots"])
    def test_it_is_followed_within_the_root(self, boxes: Boxes, ram_path: Path, kind: str) -> None:
        (ram_path / "host").mkdir()
        (boxes.image / "data").symlink_to(ram_path / "host" if kind == "absolute" else f"../../../..{ram_path}/host")
        (ram_path / "volume").mkdir()
        (ram_path / "volume/file").write_text("volume\n")
        spec = boxes.spec("sh", "-c", "cat /data/file; readlink /data")
        mounts = (*spec.mounts, Mount("/data", "bind", str(ram_path / "volume")), Mount("/data/made", "tmpfs"))
        assert boxes.finish(replace(spec, mounts=mounts)).lines[0] == "volume"
        assert os.listdir(ram_path / "host") == []

    def test_a_file_is_not_made_through_it(self, boxes: Boxes, ram_path: Path) -> None:
        (boxes.image / "etc/hosts").symlink_to(ram_path / "made")
        (ram_path / "hosts").write_text("x")
        spec = boxes.spec("true")
        with pytest.raises(RunnerError, match="/etc/hosts"):
            boxes.finish(replace(spec, mounts=(*spec.mounts, Mount("/etc/hosts", "bind", str(ram_path / "hosts")))))
        assert not (ram_path / "made").exists()

    @pytest.fixture
    def swapped(self, ram_path: Path) -> Iterator[Path]:
        """A volume in which `place` is a directory and a link to a directory of the host, in turns."""
        volume, outside = ram_path / "shared", ram_path / "host"
        volume.mkdir()
        outside.mkdir()
        (volume / "place").mkdir()
        (volume / "other").symlink_to(outside)
        turns = (
            "import ctypes\n"
            "swap = ctypes.CDLL(None).renameat2\n"
            f"while True: swap(-100, b'{volume}/place', -100, b'{volume}/other', 2)"
        )
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", turns]) as racer:
            yield volume
            racer.kill()

    def test_a_link_that_comes_and_goes_never_leads_out(self, boxes: Boxes, ram_path: Path, swapped: Path) -> None:
        for turn in range(20):
            spec = boxes.spec("true")
            mounts = (*spec.mounts, Mount("/v", "bind", str(swapped)), Mount(f"/v/place/{turn}/deep", "tmpfs"))
            try:
                boxes.finish(replace(spec, mounts=mounts))
            except RunnerError:
                continue  # refusing is as good
        assert os.listdir(ram_path / "host") == []


class TestWorkingDirectory:
    """CVE-2024-21626: a descriptor of the runner as working directory."""

    @pytest.mark.parametrize("number", [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 20])
    def test_of_run(self, boxes: Boxes, number: int) -> None:
        with pytest.raises(RunnerError, match="working directory"):
            boxes.run("pwd", process={"cwd": f"/proc/self/fd/{number}"})

    @pytest.mark.parametrize("path", ["/proc/self/fd/7", "/proc/self/fd/7/../../..", "/proc/1/root", "/proc/self/cwd"])
    def test_of_exec(self, boxes: Boxes, path: str) -> None:
        running = boxes.start("sleep", "60")
        with pytest.raises(RunnerError, match="working directory"):
            boxes.exec(running, "pwd", cwd=path)

    def test_through_a_link_of_the_image(self, boxes: Boxes) -> None:
        (boxes.image / "work").symlink_to("/proc/self/fd/7")
        with pytest.raises(RunnerError, match="working directory"):
            boxes.run("pwd", process={"cwd": "/work"})

    def test_it_is_not_made_outside(self, boxes: Boxes, ram_path: Path) -> None:
        (boxes.image / "work").symlink_to(ram_path / "made")
        boxes.run("pwd", process={"cwd": "/work/below"})
        assert not (ram_path / "made").exists()


class TestFakeNullDevice:
    """CVE-2025-31133: what masks a path must be the null device, not a link to /proc/sys/kernel/core_pattern."""

    def test_nothing_is_masked_with_something_else(self, boxes: Boxes, ram_path: Path) -> None:
        (ram_path / "dev").mkdir()
        (ram_path / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
        spec = boxes.spec("cat", "/proc/keys")
        mounts = tuple(mount for mount in spec.mounts if not mount.destination.startswith("/dev"))
        with pytest.raises(RunnerError):
            boxes.finish(replace(spec, mounts=(*mounts, Mount("/dev", "bind", str(ram_path / "dev")))))

    def test_nor_with_another_device(self, boxes: Boxes, ram_path: Path) -> None:
        (ram_path / "dev").mkdir()
        os.mknod(ram_path / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        spec = boxes.spec("true")
        mounts = tuple(mount for mount in spec.mounts if not mount.destination.startswith("/dev"))
        with pytest.raises(UnsafeRootfs, match="not the null device"):
            boxes.finish(replace(spec, mounts=(*mounts, Mount("/dev", "bind", str(ram_path / "dev")))))


class TestSysctls:
    """CVE-2025-52881 and its like: settings of the whole host."""

    @pytest.mark.parametrize(
        "name", ["kernel.core_pattern", "vm.swappiness", "fs.protected_symlinks", "net/../kernel/core_pattern",
                 "net...kernel.core_pattern", "kernel.shmmax/../core_pattern", ""],
    )  # fmt: skip
    def test_that_belong_to_the_host_are_refused(self, boxes: Boxes, name: str) -> None:
        before = Path("/proc/sys/kernel/core_pattern").read_text()
        with pytest.raises(RunnerError, match="can't be set"):
            boxes.run("true", sysctls=((name, "0"),))
        assert Path("/proc/sys/kernel/core_pattern").read_text() == before


class TestTerminalSwap:
    """CVE-2025-52565: the multiplexer, or the terminal, replaced by something else before it is opened."""

    @pytest.mark.parametrize(
        "fake", ["ln -s /dev/null /dev/pts/ptmx", "mkfifo /dev/pts/ptmx", "cp -a /dev/zero /dev/pts/ptmx"]
    )
    def test_an_exec_refuses_it(self, boxes: Boxes, fake: str) -> None:
        for name in ("cp", "mkfifo"):
            (boxes.image / "bin" / name).symlink_to("busybox")
        administrator = (*boxes.spec().process.capabilities, "CAP_SYS_ADMIN")
        running = boxes.start("sleep", "60", seccomp="unconfined", process={"capabilities": administrator})
        assert boxes.exec(running, "sh", "-c", f"umount /dev/pts && {fake}").output == ""
        with pytest.raises((UnsafeRootfs, RunnerError), match="terminal"):
            boxes.exec(running, "tty", terminal=True)


class TestImageWithDevices:
    """Nodes that came with an image give nothing that the device rules do not."""

    @pytest.mark.parametrize(("major", "minor"), [(1, 1), (1, 11), (10, 229)], ids=["mem", "kmsg", "fuse"])
    def test_can_not_be_opened(self, boxes: Boxes, major: int, minor: int) -> None:
        os.mknod(boxes.image / "tmp/node", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        assert boxes.run("cat", "/tmp/node").output == "cat: can't open '/tmp/node': Operation not permitted\n"


class TestPasswordFile:
    """CVE-2024-9676, CVE-2019-10152: a FIFO or a link where /etc/passwd is read."""

    def test_a_fifo_is_an_error_at_once(self, boxes: Boxes) -> None:
        (boxes.image / "etc/passwd").unlink()
        os.mkfifo(boxes.image / "etc/passwd")
        with pytest.raises(RunnerError, match="/etc/passwd of the image: not a regular file"):
            boxes.run("true")

    def test_an_endless_device_is_not_read(self, boxes: Boxes) -> None:
        (boxes.image / "etc/passwd").unlink()
        (boxes.image / "etc/passwd").symlink_to("/dev/zero")
        with pytest.raises(RunnerError, match="not a regular file"):
            boxes.run("true")

    def test_a_link_does_not_reach_the_hosts(self, boxes: Boxes, ram_path: Path) -> None:
        (ram_path / "passwd").write_text("mallory:x:0:0::/:\n")
        (boxes.image / "etc/passwd").unlink()
        (boxes.image / "etc/passwd").symlink_to(ram_path / "passwd")
        with pytest.raises(RunnerError, match="unable to find user mallory"):
            boxes.run("true", process={"user": "mallory"})

    def test_a_huge_one_is_refused(self, boxes: Boxes) -> None:
        with (boxes.image / "etc/passwd").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(RunnerError, match="larger than"):
            boxes.run("true")


def test_a_discarded_container_touched_nothing(boxes: Boxes, ram_path: Path) -> None:
    before = sorted(os.listdir(ram_path))
    with open(os.devnull, "r+b") as nothing:
        launch.create(boxes.spec("true"), Stdio(*(nothing.fileno(),) * 3)).discard()
    assert sorted(set(os.listdir(ram_path)) - set(before)) == ["upper1", "work1"]
