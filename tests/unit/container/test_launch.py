"""Containers, made and run for real: what is inside, what comes back, what stays behind (nothing)."""

import ctypes
import os
import select
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner.container import launch
from runner.container.launch import Stdio
from runner.container.spec import Device, Mount, Namespaces, Process, Resources, Rlimit, RootFilesystem
from runner.errors import CommandNotFound, NoSuchContainer, NotExecutable, RunnerError
from runner.kernel import calls, capabilities
from runner.kernel.cgroups import Cgroup, Hierarchies
from tests.containers import Boxes

pytestmark = pytest.mark.root


class TestProgram:
    def test_runs_as_process_1_and_its_exit_code_comes_back(self, boxes: Boxes) -> None:
        ended = boxes.sh("echo I am $$; exit 7")
        assert (ended.output, ended.code) == ("I am 1\n", 7)

    def test_a_signal_that_ends_it_counts_from_128(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        signal.pidfd_send_signal(running[0].pidfd, signal.SIGKILL)
        assert boxes.end(running) == 137

    def test_waits_for_start(self, boxes: Boxes) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        created = launch.create(boxes.spec("echo", "ran"), Stdio(writing, writing, writing))
        os.close(writing)
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        os.set_blocking(reading, True)
        created.start()
        assert os.read(reading, 10) == b"ran\n"
        os.waitid(os.P_PIDFD, created.pidfd, os.WEXITED)
        launch.destroy(created)
        os.close(created.pidfd)
        os.close(reading)

    def test_streams_may_be_given_in_any_order(self, boxes: Boxes) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        spec = boxes.spec("sh", "-c", "echo out; echo err >&2; cat")
        with open(os.devnull, "rb") as nothing:
            low = [os.dup(writing), os.dup(nothing.fileno())]
            created = launch.create(spec, Stdio(low[1], low[0], writing))
        os.close(writing)
        created.start()
        for fd in low:
            os.close(fd)
        with os.fdopen(reading) as output:
            assert output.read() == "out\nerr\n"
        os.waitid(os.P_PIDFD, created.pidfd, os.WEXITED)
        launch.destroy(created)
        os.close(created.pidfd)

    def test_a_pipe_may_be_opened_again_by_its_user(self, boxes: Boxes) -> None:
        assert boxes.sh("echo again > /dev/stdout", process={"user": "bin"}).output == "again\n"


class TestNotFound:
    """Texts and exit codes are docker's."""

    def test_in_path(self, boxes: Boxes) -> None:
        with pytest.raises(CommandNotFound, match=r'^exec: "nope": executable file not found in \$PATH$') as raised:
            boxes.run("nope")
        assert raised.value.exit_code == 127

    def test_by_path(self, boxes: Boxes) -> None:
        with pytest.raises(CommandNotFound, match=r'^exec: "/no/pe": stat /no/pe: no such file or directory$'):
            boxes.run("/no/pe")

    def test_not_executable(self, boxes: Boxes) -> None:
        with pytest.raises(NotExecutable, match=r'^exec: "/etc/passwd": permission denied$') as raised:
            boxes.run("/etc/passwd")
        assert raised.value.exit_code == 126

    def test_a_directory(self, boxes: Boxes) -> None:
        with pytest.raises(NotExecutable, match=r'^exec: "/etc": is a directory$'):
            boxes.run("/etc")

    def test_no_program_at_all(self, boxes: Boxes) -> None:
        (boxes.image / "bin/data").write_text("no #! line")
        (boxes.image / "bin/data").chmod(0o755)
        with pytest.raises(NotExecutable, match=r'^exec: "data": exec format error$'):
            boxes.run("data")

    def test_an_interpreter_that_is_missing(self, boxes: Boxes) -> None:
        (boxes.image / "bin/script").write_text("#!/bin/perl\n")
        (boxes.image / "bin/script").chmod(0o755)
        with pytest.raises(CommandNotFound, match=r'^exec: "script": no such file or directory$') as raised:
            boxes.run("script")
        assert raised.value.hint

    def test_no_command(self, boxes: Boxes) -> None:
        with pytest.raises(RunnerError, match="no command specified"):
            boxes.run()


class TestInside:
    def test_host_name(self, boxes: Boxes) -> None:
        assert boxes.run("hostname", hostname="app", domainname="example").output == "app\n"
        assert boxes.run("cat", "/proc/sys/kernel/domainname", domainname="example").output == "example\n"

    def test_user_groups_and_home(self, boxes: Boxes) -> None:
        ended = boxes.sh("id; echo $HOME", process={"user": "bin"})
        assert ended.output == "uid=2(bin) gid=2(bin) groups=2(bin),77(extra)\n/home/bin\n"

    def test_environment_is_what_was_given_and_nothing_of_the_host(
        self, boxes: Boxes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET", "of the host")
        assert boxes.run("/bin/env", process={"env": ("B=2", "A=1")}).lines == ["B=2", "A=1", "HOME=/root"]

    def test_working_directory_is_made(self, boxes: Boxes) -> None:
        ended = boxes.sh("pwd; stat -c %a .", process={"cwd": "/srv/app"})
        assert ended.output == "/srv/app\n755\n"

    def test_umask(self, boxes: Boxes) -> None:
        assert boxes.sh("umask; touch f; stat -c %a f").output == "0022\n644\n"
        assert boxes.sh("umask", process={"umask": 0o077}).output == "0077\n"

    def test_signals_are_as_the_kernel_gives_them(self, boxes: Boxes) -> None:
        found = dict(line.split(":\t") for line in boxes.run("grep", "Sig[BIC]", "/proc/self/status").lines)
        assert set(found.values()) == {"0" * 16}

    @pytest.mark.parametrize("number", [10, 32, 33])  # the C library keeps 32 and 33 to itself
    def test_a_signal_that_we_ignore_is_not_ignored_inside(self, boxes: Boxes, number: int) -> None:
        set_action = ctypes.CDLL(None).syscall
        before = ctypes.create_string_buffer(32)
        rt_sigaction = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
        set_action(rt_sigaction, number, (1).to_bytes(8, sys.byteorder) + bytes(24), before, 8)
        try:
            assert boxes.run("grep", "SigIgn", "/proc/self/status").lines == ["SigIgn:\t" + "0" * 16]
        finally:
            set_action(rt_sigaction, number, before, None, 8)

    def test_own_loopback_interface_is_up(self, boxes: Boxes) -> None:
        assert "LOOPBACK,UP" in boxes.run("ip", "link").output

    def test_network_of_a_descriptor(self, boxes: Boxes) -> None:
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        ended = boxes.run("readlink", "/proc/self/ns/net", namespaces=Namespaces(net="fd:0"), sysctls=(), fds=(own,))
        os.close(own)
        assert ended.output.strip() == os.readlink("/proc/self/ns/net")

    def test_every_namespace_but_cgroup_and_user_is_its_own(self, boxes: Boxes) -> None:
        for kind in ("mnt", "pid", "net", "ipc", "uts"):
            assert boxes.run("readlink", f"/proc/self/ns/{kind}").output.strip() != os.readlink(f"/proc/self/ns/{kind}")

    def test_shared_namespaces(self, boxes: Boxes) -> None:
        first, _ = boxes.start("sleep", "60")
        wanted = Namespaces(
            net=f"/proc/{first.pid}/ns/net", ipc=f"/proc/{first.pid}/ns/ipc", pid=f"/proc/{first.pid}/ns/pid"
        )
        ended = boxes.sh("echo $$; cat /proc/1/comm", namespaces=wanted, sysctls=())
        assert ended.lines[0] != "1"
        assert ended.lines[1] == "sleep"

    def test_cgroup_namespace_of_its_own(self, boxes: Boxes) -> None:
        ended = boxes.sh("cat /proc/self/cgroup", namespaces=Namespaces(cgroup="new"))
        assert all(line.endswith(":/") for line in ended.lines)

    def test_oom_score(self, boxes: Boxes) -> None:
        assert boxes.run("cat", "/proc/self/oom_score_adj", process={"oom_score_adj": 500}).output == "500\n"

    def test_sysctls_that_belong_to_it(self, boxes: Boxes) -> None:
        ended = boxes.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni",
                         sysctls=(("net.ipv4.ip_forward", "1"), ("kernel.shmmni", "77")))  # fmt: skip
        assert ended.output == "1\n77\n"

    def test_a_sysctl_that_does_not_exist_is_named(self, boxes: Boxes) -> None:
        with pytest.raises(RunnerError, match=r"sysctl net\.ipv4\.none=1: No such file"):
            boxes.run("true", sysctls=(("net.ipv4.none", "1"),))

    def test_init_in_front(self, boxes: Boxes) -> None:
        (boxes.image / "bin/tini").write_text('#!/bin/sh\necho init "$@"\n')
        (boxes.image / "bin/tini").chmod(0o755)
        ended = boxes.run("echo", "x", init=str(boxes.image / "bin/tini"))
        assert ended.output == "init -- echo x\n"

    def test_init_does_not_hide_that_the_command_is_missing(self, boxes: Boxes) -> None:
        with pytest.raises(CommandNotFound, match='"nope"'):
            boxes.run("nope", init="/bin/busybox")


class TestRoot:
    def test_what_is_written_lands_in_the_upper_directory(self, boxes: Boxes) -> None:
        boxes.sh("echo new > /tmp/file")
        assert (boxes.upper() / "tmp/file").read_text() == "new\n"
        assert not (boxes.image / "tmp/file").exists()

    def test_read_only(self, boxes: Boxes) -> None:
        spec = boxes.spec("sh", "-c", "touch /x; touch /dev/shm/y && echo shm")
        ended = boxes.finish(replace(spec, root=replace(spec.root, read_only=True)))
        assert ended.output == "touch: /x: Read-only file system\nshm\n"

    def test_a_plain_directory(self, boxes: Boxes) -> None:
        ended = boxes.run("touch", "/file", root=RootFilesystem(upper=str(boxes.image)))
        assert ended.code == 0
        assert (boxes.image / "file").exists()

    def test_without_an_upper_directory_it_is_a_view(self, boxes: Boxes) -> None:
        ended = boxes.sh("touch /x", root=RootFilesystem(lower=(str(boxes.image),)))
        assert ended.output == "touch: /x: Read-only file system\n"

    def test_mount_points_that_had_to_be_made_are_told(self, boxes: Boxes) -> None:
        (boxes.image / "proc").rmdir()
        spec = boxes.spec("true")
        ended = boxes.finish(
            replace(
                spec,
                mounts=(*spec.mounts, Mount("/a/b", "tmpfs"), Mount("/dev/shm/c", "tmpfs"), Mount("/dev/d/e", "tmpfs")),
            )
        )
        assert ended.stubs == ("/proc", "/a", "/a/b")

    def test_nothing_of_the_host_is_mounted_inside(self, boxes: Boxes) -> None:
        """After pivot_root the host's tree is gone; only what was asked for is there."""
        points = [line.split()[4] for line in boxes.run("cat", "/proc/self/mountinfo").lines]
        assert points[:2] == ["/", "/proc"]
        assert all(point == "/" or point.startswith(("/proc", "/dev", "/sys")) for point in points)


class TestMounts:
    def run(self, boxes: Boxes, script: str, *extra: Mount, fds: tuple[int, ...] = ()) -> str:
        spec = boxes.spec("sh", "-c", script)
        return boxes.finish(replace(spec, mounts=(*spec.mounts, *extra)), fds).output

    def test_a_directory_of_the_host(self, boxes: Boxes, ram_path: Path) -> None:
        (ram_path / "data").mkdir()
        self.run(boxes, "echo inside > /data/file", Mount("/data", "bind", str(ram_path / "data")))
        assert (ram_path / "data/file").read_text() == "inside\n"

    def test_a_file_of_the_host(self, boxes: Boxes, ram_path: Path) -> None:
        (ram_path / "hosts").write_text("127.0.0.1 localhost\n")
        assert self.run(boxes, "cat /etc/hosts", Mount("/etc/hosts", "bind", str(ram_path / "hosts"))).startswith("127")

    def test_read_only_means_all_below_too(self, boxes: Boxes) -> None:
        """/dev of the host is a mount with mounts below it."""
        told = self.run(boxes, "touch /host/shm/x", Mount("/host", "bind", "/dev", ("rbind", "ro")))
        assert told == "touch: /host/shm/x: Read-only file system\n"

    def test_a_descriptor(self, boxes: Boxes, ram_path: Path) -> None:
        from runner.kernel.mounts import overlay_tree

        (ram_path / "seed").mkdir()
        (ram_path / "seed/file").write_text("seeded\n")
        tree = overlay_tree([str(ram_path / "seed")])
        assert self.run(boxes, "cat /seed/file", Mount("/seed", "bind", "fd:0"), fds=(tree,)) == "seeded\n"
        os.close(tree)

    def test_tmpfs_with_options(self, boxes: Boxes) -> None:
        told = self.run(boxes, "stat -c %a /scratch; grep /scratch /proc/mounts",
                        Mount("/scratch", "tmpfs", "tmpfs", ("noexec", "size=1m", "mode=1777")))  # fmt: skip
        assert told.startswith("1777\ntmpfs /scratch tmpfs rw,noexec,relatime,size=1024k")

    def test_a_missing_source_is_an_error(self, boxes: Boxes) -> None:
        with pytest.raises(RunnerError, match="mount of /data: /no/such: No such file") as raised:
            self.run(boxes, "true", Mount("/data", "bind", "/no/such"))
        assert raised.value.hint

    def test_a_bad_option_is_explained(self, boxes: Boxes) -> None:
        with pytest.raises(RunnerError, match=r"mount of /scratch \(tmpfs\): .*colour"):
            self.run(boxes, "true", Mount("/scratch", "tmpfs", "tmpfs", ("colour=red",)))

    @pytest.mark.parametrize("destination", ["/", "relative", "/a/.."])
    def test_a_destination_must_be_a_place(self, boxes: Boxes, destination: str) -> None:
        with pytest.raises(RunnerError, match="destination"):
            self.run(boxes, "true", Mount(destination, "tmpfs"))


class TestDevices:
    def test_the_usual_ones_and_no_others(self, boxes: Boxes) -> None:
        found = set(boxes.run("ls", "/dev").lines)
        found.discard("core")  # only where the kernel has /proc/kcore
        assert found == {
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
            "urandom", "zero",
        }  # fmt: skip

    def test_work(self, boxes: Boxes) -> None:
        assert boxes.sh("echo x > /dev/null; echo x > /dev/full").output == "sh: write error: No space left on device\n"

    def test_an_extra_one(self, boxes: Boxes) -> None:
        ended = boxes.run(
            "stat", "-c", "%t:%T %a", "/dev/net/mine", devices=(Device("/dev/net/mine", "c", 10, 229, 0o600),)
        )
        assert ended.output == "a:e5 600\n"

    def test_others_can_be_made_but_not_used(self, boxes: Boxes) -> None:
        ended = boxes.sh("mknod /tmp/kmsg c 1 11 && echo made; cat /tmp/kmsg")
        assert ended.output == "made\ncat: can't open '/tmp/kmsg': Operation not permitted\n"


class TestTerminal:
    def test_is_the_controlling_one_and_has_a_size(self, boxes: Boxes) -> None:
        ended = boxes.sh("tty; stty size; stat -c '%t:%T %u' /dev/console",
                         process={"terminal": True, "console_size": (40, 100)})  # fmt: skip
        assert ended.output == "/dev/pts/0\n40 100\n88:0 0\n"

    def test_belongs_to_the_user(self, boxes: Boxes) -> None:
        assert boxes.run("stat", "-c", "%u", "/dev/pts/0", process={"terminal": True, "user": "bin"}).output == "2\n"

    def test_of_an_exec(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        assert boxes.exec(running, "tty", terminal=True).output == "/dev/pts/0\n"


class TestLimits:
    def test_memory(self, boxes: Boxes) -> None:
        ended = boxes.sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes", resources=Resources(memory=64 << 20))
        assert ended.lines == [str(64 << 20)]

    def test_running_out_of_memory_is_told(self, boxes: Boxes) -> None:
        running = boxes.start(
            "sh", "-c", "x=0123456789; while true; do x=$x$x; done", resources=Resources(memory=8 << 20)
        )
        found = os.waitid(os.P_PIDFD, running[0].pidfd, os.WEXITED | os.WNOWAIT)
        assert found.si_status == signal.SIGKILL
        assert running[0].cgroup.oom_killed()

    def test_processes(self, boxes: Boxes) -> None:
        ended = boxes.sh("cat /sys/fs/cgroup/pids/pids.max", resources=Resources(pids=33))
        assert ended.output == "33\n"

    def test_a_process_limit_that_the_host_does_not_grant_is_lowered_with_a_warning(self, boxes: Boxes) -> None:
        ended = boxes.sh("ulimit -n; ulimit -Hn", process={"rlimits": (Rlimit("nofile", 512, 1 << 30),)})
        assert ended.lines[0] == "512"
        assert int(ended.lines[1]) < 1 << 30
        assert "limit nofile=512" in ended.warnings[0]

    def test_a_tight_limit_does_not_hinder_the_start(self, boxes: Boxes) -> None:
        assert boxes.sh("ulimit -n", process={"rlimits": (Rlimit("nofile", 8, 8),), "cwd": "/srv"}).output == "8\n"

    def test_an_unknown_process_limit(self, boxes: Boxes) -> None:
        with pytest.raises(RunnerError, match="unknown resource limit sofas"):
            boxes.run("true", process={"rlimits": (Rlimit("sofas", 1, 1),)})


class TestExec:
    def test_sees_the_container_and_shares_its_group(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        ended = boxes.exec(running, "sh", "-c", "ps; hostname; cat /proc/self/cgroup")
        assert "sleep 60" in ended.output
        assert "box" in ended.lines
        assert all(line.endswith(running[1].id) for line in ended.lines if "/pybuild/" in line)

    def test_errors_are_as_those_of_run(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        with pytest.raises(CommandNotFound, match='"nope"'):
            boxes.exec(running, "nope")
        with pytest.raises(RunnerError, match='working directory "/none": No such file'):
            boxes.exec(running, "true", cwd="/none")

    def test_in_a_paused_container_is_refused_and_does_not_hang(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        assert running[0].cgroup.freeze()
        with pytest.raises(RunnerError, match="paused"):
            boxes.exec(running, "true")
        running[0].cgroup.thaw()
        assert boxes.exec(running, "true").code == 0

    def test_in_a_container_that_is_gone(self, boxes: Boxes) -> None:
        spec = boxes.spec("true")
        with pytest.raises(NoSuchContainer):
            launch.enter(2**22 - 1, spec, Process(("true",)), Stdio(0, 1, 2))

    def test_in_one_that_has_just_ended(self, boxes: Boxes) -> None:
        running = boxes.start("true")
        os.waitid(os.P_PIDFD, running[0].pidfd, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NoSuchContainer):
            boxes.exec(running, "true")


class TestSharingWithTheHost:
    def test_network_and_processes(self, boxes: Boxes) -> None:
        wanted = Namespaces(net="host", pid="host", ipc="host", uts="host")
        ended = boxes.sh(
            "for kind in net pid; do readlink /proc/self/ns/$kind; done; hostname", namespaces=wanted, sysctls=()
        )
        own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid")]
        assert ended.lines == [*own, os.uname().nodename]

    def test_what_it_leaves_running_is_killed(self, boxes: Boxes) -> None:
        """Without a PID namespace of its own, nothing but the control group holds them together."""
        ended = boxes.sh("sleep 60 > /dev/null 2>&1 & echo $!", namespaces=Namespaces(pid="host"))
        assert not Path(f"/proc/{ended.output.strip()}/root").exists()

    @pytest.mark.parametrize(("option", "seen"), [("rslave", True), ("rprivate", False)])
    def test_mounts_that_come_later(self, boxes: Boxes, ram_path: Path, option: str, seen: bool) -> None:
        volume = ram_path / "volume"
        (volume / "later").mkdir(parents=True)
        flags = calls.MS_BIND
        calls.mount(str(volume), str(volume), None, flags)
        calls.mount("none", str(volume), None, calls.MS_SHARED)
        try:
            mounts = (*boxes.spec().mounts, Mount("/volume", "bind", str(volume), ("rbind", option)))
            running = boxes.start("sleep", "60", mounts=mounts)
            calls.mount("tmpfs", str(volume / "later"), "tmpfs")
            ended = boxes.exec(running, "grep", "-c", "/volume/later", "/proc/mounts")
            assert ended.output == ("1\n" if seen else "0\n")
        finally:
            calls.umount2(str(volume / "later"), calls.MNT_DETACH)
            calls.umount2(str(volume), calls.MNT_DETACH)


class TestOtherMachines:
    """As seen from here: a machine with control groups of version 2 only, and one with none."""

    def test_version_2_only(self, boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
        only = Hierarchies({}, Hierarchies.mounted().v2)
        monkeypatch.setattr(Hierarchies, "mounted", lambda: only)
        script = "grep /sys/fs/cgroup /proc/mounts; cat /proc/1/cgroup; mknod /tmp/kmsg c 1 11; cat /tmp/kmsg"
        ended = boxes.sh(script, namespaces=Namespaces(cgroup="new"))
        assert ended.lines[0].startswith("cgroup /sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec")
        assert "0::/" in ended.lines
        assert ended.lines[-1] == "cat: can't open '/tmp/kmsg': Operation not permitted"

    def test_no_control_groups_no_device_nodes(self, boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
        """What can't be guarded is not given: neither making nor using nodes."""
        monkeypatch.setattr(Hierarchies, "mounted", lambda: Hierarchies({}))
        os.mknod(boxes.image / "tmp/kmsg", stat.S_IFCHR | 0o666, os.makedev(1, 11))
        ended = boxes.sh("mknod /tmp/mem c 1 1; cat /tmp/kmsg; echo fine > /dev/null; echo $?")
        assert ended.lines[0].endswith("Operation not permitted")
        assert ended.lines[1].endswith("Permission denied")
        assert ended.lines[2] == "0"
        assert any("device rules" in warning for warning in ended.warnings)

    def test_nor_by_exec(self, boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Hierarchies, "mounted", lambda: Hierarchies({}))
        running = boxes.start("sleep", "60")
        assert boxes.exec(running, "mknod", "/tmp/mem", "c", "1", "1").code != 0
        signal.pidfd_send_signal(running[0].pidfd, signal.SIGKILL)


class TestCapabilitiesOfTheRunner:
    def test_what_it_has_not_got_is_told(self, boxes: Boxes) -> None:
        """The test machine's root has no CAP_SYS_RESOURCE; elsewhere nothing is missing and nothing told."""
        ended = boxes.run("true", process={"capabilities": ("CAP_SYS_RESOURCE",)})
        _, permitted, _ = capabilities.own()
        missing = not permitted & capabilities.mask(["SYS_RESOURCE"])
        assert any("CAP_SYS_RESOURCE" in warning for warning in ended.warnings) == missing


class TestNothingIsLeft:
    def state(self, boxes: Boxes) -> tuple[list[str], list[str], list[str]]:
        """Mounts, descriptors and control groups; others on this machine have theirs."""
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(boxes.path) in line]
        places = Hierarchies.mounted().places
        groups = [str(found) for place in places for found in Path(place).glob(f"pybuild/test-{os.getpid()}-*")]
        return mounts, os.listdir("/proc/self/fd"), groups

    def test_after_a_run(self, boxes: Boxes) -> None:
        before = self.state(boxes)
        boxes.run("true")
        assert self.state(boxes) == before

    @pytest.mark.parametrize(
        "broken",
        [
            {"process": {"user": "nobody-here"}},
            {"mounts": (Mount("/data", "bind", "/no/such"),)},
            {"sysctls": (("net.ipv4.none", "1"),)},
            {"root": RootFilesystem(lower=("/no/such",))},
            {"process": {"cwd": "/etc/passwd"}},
            {"namespaces": Namespaces(net="/no/such")},
            {"id": "../../escape"},
        ],
        ids=["user", "mount", "sysctl", "root", "directory", "namespace", "id"],
    )
    def test_after_a_failure(self, boxes: Boxes, broken: dict[str, object]) -> None:
        before = self.state(boxes)
        with pytest.raises(RunnerError):
            boxes.run("true", **broken)
        assert self.state(boxes) == before

    def test_when_the_program_is_never_started(self, boxes: Boxes) -> None:
        before = self.state(boxes)
        with open(os.devnull, "r+b") as nothing:
            launch.create(boxes.spec("true"), Stdio(*(nothing.fileno(),) * 3)).discard()
        assert self.state(boxes) == before

    @pytest.mark.parametrize("started", [False, True], ids=["created", "started, to die with its maker"])
    def test_when_the_maker_dies(self, boxes: Boxes, started: bool) -> None:
        spec = boxes.spec("sleep", "60")
        reading, writing = os.pipe2(os.O_CLOEXEC)
        maker = os.fork()
        if maker == 0:
            with open(os.devnull, "r+b") as nothing:
                streams = Stdio(*(nothing.fileno(),) * 3)
                created = launch.create(spec, streams, die_with_parent=started)
            if started:
                created.start()
            os.write(writing, str(created.pid).encode())
            os._exit(0)
        os.waitpid(maker, 0)
        pid = int(os.read(reading, 20))
        os.close(reading)
        os.close(writing)
        try:
            pidfd = os.pidfd_open(pid)
            assert select.select([pidfd], [], [], 10)[0]
            os.close(pidfd)
        except ProcessLookupError:
            pass  # ended already, and collected
        Cgroup.named(launch.cgroup_path(spec)).remove()
