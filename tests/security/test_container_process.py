"""What a process in a container must not have, see or reach; one class an advisory."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.container import launch
from runner.container.defaults import CAPABILITIES
from runner.container.launch import Stdio
from runner.errors import MissingPrivilege, NotExecutable, RunnerError
from runner.kernel import calls, capabilities, mounts
from tests.containers import Boxes, Ended

pytestmark = pytest.mark.root

STATUS = ("grep", "-E", "^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|Seccomp|NoNewPrivs):", "/proc/self/status")
DEFAULT = f"{0xA80425FB:016x}"


def status(ended: Ended) -> dict[str, str]:
    return dict(line.split(":\t") for line in ended.lines)


class TestRights:
    """CVE-2022-29162, CVE-2022-24769, CVE-2022-27649, -27650, -27651: inheritable capabilities."""

    def test_of_run(self, boxes: Boxes) -> None:
        found = status(boxes.run(*STATUS))
        assert found == {
            "CapInh": "0" * 16, "CapPrm": DEFAULT, "CapEff": DEFAULT, "CapBnd": DEFAULT, "CapAmb": "0" * 16,
            "NoNewPrivs": "0", "Seccomp": "2",
        }  # fmt: skip

    def test_of_exec(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        assert status(boxes.exec(running, *STATUS)) == status(boxes.run(*STATUS))

    def test_of_a_privileged_exec(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        found = status(boxes.exec(running, *STATUS, capabilities=(*CAPABILITIES, "CAP_SYS_ADMIN")))
        assert found["CapInh"] == found["CapAmb"] == "0" * 16
        assert int(found["CapEff"], 16) >> 21 & 1

    def test_another_user_has_none(self, boxes: Boxes) -> None:
        found = status(boxes.run(*STATUS, process={"user": "bin"}))
        assert found["CapEff"] == found["CapPrm"] == "0" * 16
        assert found["CapBnd"] == DEFAULT

    def test_another_user_can_not_execute_what_only_root_may(self, boxes: Boxes) -> None:
        (boxes.image / "bin/secret").write_bytes((boxes.image / "bin/busybox").read_bytes())
        (boxes.image / "bin/secret").chmod(0o700)
        with pytest.raises(NotExecutable, match="permission denied"):
            boxes.run("/bin/secret", process={"user": "bin"})

    def test_dropping_all(self, boxes: Boxes) -> None:
        found = status(boxes.run(*STATUS, process={"capabilities": ()}))
        assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}

    def test_no_new_privileges_holds_and_the_filter_with_it(self, boxes: Boxes) -> None:
        found = status(boxes.run(*STATUS, process={"no_new_privileges": True}))
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


class TestGroups:
    """CVE-2022-36109: without the primary group among the others, setgid could shake off a denial."""

    def test_the_primary_group_is_among_them(self, boxes: Boxes) -> None:
        assert boxes.run("id", "-G", process={"user": "bin"}).output == "2 77\n"
        assert boxes.run("id", "-G", process={"user": "1000:1000"}).output == "1000\n"

    def test_of_exec_too(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        assert boxes.exec(running, "id", "-G", user="bin", additional_groups=("last",)).output == "2 77 78\n"

    def test_none_of_the_runners_own_is_left(self, boxes: Boxes) -> None:
        before = os.getgroups()
        os.setgroups([4242])
        try:
            assert "4242" not in boxes.run("id", "-G").output
        finally:
            os.setgroups(before)


class TestUserOfExec:
    """CVE-2026-30892: text that is not a user must not become root."""

    @pytest.mark.parametrize(
        "user", ["1000:", ":100", ":", "1000x", "0x3e8", "-1", "4294967296", "root ", "1000:1000:0"]
    )
    def test_is_refused(self, boxes: Boxes, user: str) -> None:
        running = boxes.start("sleep", "60")
        with pytest.raises(RunnerError, match=r"user|group"):
            boxes.exec(running, "id", user=user)


class TestDescriptors:
    """CVE-2024-21626, CVE-2016-9962: descriptors of the runner in the container's hands."""

    def test_only_the_three_streams_are_there(self, boxes: Boxes) -> None:
        leaked = os.open("/", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        numbers = " ".join(str(number) for number in range(30))
        look = f"for n in {numbers}; do [ -L /proc/$$/fd/$n ] && echo $n; done; true"
        try:
            assert boxes.sh(look).lines == ["0", "1", "2"]
            assert boxes.exec(boxes.start("sleep", "60"), "sh", "-c", look).lines == ["0", "1", "2"]
        finally:
            os.close(leaked)

    def test_those_of_a_process_that_is_being_made_can_not_be_taken(self, boxes: Boxes) -> None:
        """It stands inside, before execve, with a socket to the runner."""
        running = boxes.start("sleep", "60")
        with open(os.devnull, "r+b") as nothing:
            waiting = launch.enter(running[0].pid, running[1], running[1].process, Stdio(*(nothing.fileno(),) * 3))
        try:
            told = boxes.exec(
                running, "sh", "-c", "cd /proc; for p in [0-9]*; do readlink $p/exe >/dev/null || echo $p; done"
            )
            (number,) = told.lines
            links = (
                f"cd /proc/{number}; for link in exe cwd root fd/0 fd/1 fd/2 fd/3 fd/4 fd/5; do readlink $link; done"
            )
            assert boxes.exec(running, "sh", "-c", links).output == ""
            assert boxes.exec(running, "cat", f"/proc/{number}/fd/0").output.endswith("Permission denied\n")
        finally:
            waiting.discard()


class TestOwnProgramOverwritten:
    """CVE-2019-5736: /proc/self/exe of the process that enters is the host's Python until execve."""

    @pytest.mark.parametrize("how", ["direct", "link", "script", "script of a script", "path"])
    def test_it_is_never_run_inside(self, boxes: Boxes, how: str) -> None:
        app = boxes.image / "bin/app"
        command = "/proc/self/exe" if how == "direct" else "/bin/app"
        if how in ("link", "path"):
            app.symlink_to("/proc/self/exe")
        if how == "path":
            command = "app"
        if how.startswith("script"):
            app.write_text("#!/proc/self/exe\n")
            app.chmod(0o755)
        if how == "script of a script":
            (boxes.image / "bin/outer").write_text("#!/bin/app -x\n")
            (boxes.image / "bin/outer").chmod(0o755)
            command = "/bin/outer"
        with pytest.raises(RunnerError, match="exec"):
            boxes.run(command)
        running = boxes.start("sleep", "60")
        with pytest.raises(RunnerError, match="exec"):
            boxes.exec(running, command)

    def test_a_program_that_was_executed_read_only_can_not_be_overwritten(self, ram_path: Path) -> None:
        """Should it be run inside all the same: through the mount it came from, nobody writes to it."""
        original = Path(shutil.copy("/bin/busybox", ram_path / "supervisor"))
        program = mounts.read_only(str(original))
        attack = "exec 9< /proc/self/exe; exec /bin/busybox sh -c 'echo x >> /proc/self/fd/9'"
        done = subprocess.run(
            ["sh", "-c", attack], executable=f"/proc/self/fd/{program}", pass_fds=[program], capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        os.close(program)
        assert "Read-only file system" in done.stderr
        assert original.read_bytes() == Path("/bin/busybox").read_bytes()


class TestEnvironment:
    """CVE-2020-14370: variables of one container in the next; CVE-2021-3602: those of the host."""

    def test_does_not_leak(self, boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOST_SECRET", "1")
        boxes.run("true", process={"env": ("PATH=/bin", "FIRST_SECRET=1")})
        assert "SECRET" not in boxes.run("env").output
        running = boxes.start("sleep", "60", process={"env": ("PATH=/bin", "RUN_SECRET=1")})
        assert "SECRET" not in boxes.exec(running, "env", env=("PATH=/bin",)).output


CALL = """
import ctypes, os
call = ctypes.CDLL(None, use_errno=True).syscall
def told(*arguments):
    result = call(*(ctypes.c_long(value) for value in arguments))
    return "ok" if result >= 0 else os.strerror(ctypes.get_errno())
"""
REFUSED, MISSING = "Operation not permitted", "Function not implemented"


class TestKernelSurface:
    """CVE-2026-31431 (AF_ALG), CVE-2022-0185 (user namespaces), io_uring, vsock, keyrings."""

    @pytest.mark.parametrize(
        ("call", "answer"),
        [
            ("41, 38, 5, 0", REFUSED), ("41, (1 << 32) + 38, 5, 0", REFUSED), ("41, 40, 1, 0", REFUSED),
            ("425, 8, 0", REFUSED), ("272, 0x10000000", REFUSED), ("56, 0x10000011, 0, 0, 0, 0", REFUSED),
            ("435, 0, 0", MISSING), ("308, 0, 0", REFUSED), ("250, 0, -3, 0", REFUSED), ("323, 0", REFUSED),
            ("321, 0, 0, 0", REFUSED), ("165, 0, 0, 0, 0, 0", REFUSED), ("304, 0, 0, 0", REFUSED),
            ("135, 0x40000", REFUSED), ("41, 1, 1, 0", "ok"), ("41, 2, 1, 0", "ok"),
        ],
        ids=[
            "AF_ALG", "AF_ALG in disguise", "AF_VSOCK", "io_uring_setup", "unshare user", "clone user", "clone3",
            "setns", "keyctl", "userfaultfd", "bpf", "mount", "open_by_handle_at", "personality", "AF_UNIX", "AF_INET",
        ],
    )  # fmt: skip
    def test_is_small(self, boxes: Boxes, call: str, answer: str) -> None:
        assert boxes.probe(f"{CALL}print(told({call}))").output == f"{answer}\n"

    def test_also_for_an_exec_and_another_user(self, boxes: Boxes) -> None:
        assert boxes.probe(f"{CALL}print(told(272, 0x10000000))", process={"user": "bin"}).output == f"{REFUSED}\n"
        running = boxes.start("sleep", "60")
        (boxes.image / "bin/unshare").symlink_to("busybox")
        assert boxes.exec(running, "unshare", "-r", "true").code != 0

    def test_the_session_keyring_is_its_own(self, boxes: Boxes) -> None:
        """Looked at without filter, for the filter allows no keyctl."""
        describe = CALL + (
            "text = ctypes.create_string_buffer(200)\n"
            "call(ctypes.c_long(250), ctypes.c_long(6), ctypes.c_long(-3), text, ctypes.c_long(200))\n"
            "print(text.value.decode())"
        )
        assert boxes.probe(describe, seccomp="unconfined").output.strip().endswith(f";_ses.test-{os.getpid()}-1")


class TestHostInformation:
    """GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p: what the host does shows in these files."""

    @pytest.mark.parametrize("path", ["/proc/interrupts", "/proc/keys", "/proc/timer_list"])
    def test_masked_files_are_empty(self, boxes: Boxes, path: str) -> None:
        assert boxes.sh(f"[ ! -e {path} ] || cat {path}").output == ""

    @pytest.mark.parametrize("path", ["/proc/acpi", "/sys/firmware", "/sys/devices/virtual/powercap"])
    def test_masked_directories_are_empty_and_stay_so(self, boxes: Boxes, path: str) -> None:
        assert (
            boxes.sh(f"[ ! -e {path} ] || {{ ls -A {path}; ! touch {path}/x 2>/dev/null || echo made; }}").output == ""
        )

    def test_each_cpu_is_masked(self, boxes: Boxes) -> None:
        """The pattern in the path is expanded to the CPUs of this machine."""
        masked = ("/sys/devices/system/cpu/cpu*/topology",)
        listed = boxes.sh("cat /sys/devices/system/cpu/cpu[0-9]*/topology/* 2>/dev/null | wc -c", masked_paths=masked)
        assert listed.output.strip() == "0"

    @pytest.mark.parametrize("path", ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"])
    def test_settings_of_the_kernel_can_not_be_written(self, boxes: Boxes, path: str) -> None:
        assert (
            boxes.sh(f"[ ! -e {path} ] || {{ echo x > {path}; }} 2>&1 | grep -v 'Read-only\\|nonexistent'").output == ""
        )


class TestControlGroups:
    """CVE-2022-0492: release_agent runs a program on the host."""

    def test_none_can_be_mounted(self, boxes: Boxes) -> None:
        ended = boxes.sh("mkdir /tmp/g; mount -t cgroup -o memory cgroup /tmp/g")
        assert ended.code != 0

    def test_what_is_shown_is_read_only_and_just_its_own(self, boxes: Boxes) -> None:
        attack = "mkdir $g/below && echo made; echo 1 > $g/notify_on_release && echo set; ls $g/release_agent"
        ended = boxes.sh(f"cd /sys/fs/cgroup; for g in *; do {attack}; done 2>/dev/null; true")
        assert ended.output == ""

    def test_by_exec_neither(self, boxes: Boxes) -> None:
        running = boxes.start("sleep", "60")
        assert boxes.exec(running, "sh", "-c", "echo 0 > /sys/fs/cgroup/memory/cgroup.procs").code != 0


class TestOtherProcesses:
    def test_those_of_the_host_are_neither_seen_nor_signalled(self, boxes: Boxes) -> None:
        seen = boxes.sh("cd /proc; for p in [0-9]*; do echo $p; done").lines
        assert len(seen) == 1
        assert boxes.sh(f"kill -0 {os.getpid() + (1 << 20)} 2>/dev/null; kill -0 {os.getpid()}").code != 0

    def test_it_has_no_controlling_terminal_of_the_host(self, boxes: Boxes) -> None:
        assert boxes.sh("cat < /dev/tty").output.endswith("No such device or address\n")

    def test_killing_process_1_kills_all(self, boxes: Boxes) -> None:
        running = boxes.start("sh", "-c", "sleep 60 & sleep 60 & wait")
        boxes.exec(running, "true")
        signal.pidfd_send_signal(running[0].pidfd, signal.SIGKILL)
        assert boxes.end(running) == 137
        assert running[0].cgroup.pids() == []


def refusal(boxes: Boxes, give_up: Callable[[], None]) -> tuple[str, str]:
    """Problem and hint that a process hears which has given up some of its rights."""
    spec = boxes.spec("true")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        give_up()
        try:
            launch.create(spec, Stdio(0, 1, 2))
        except MissingPrivilege as error:
            os.write(writing, f"{error}\n{error.hint}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        problem, hint = told.read().split("\n")
    os.waitpid(pid, 0)
    return problem, hint


class TestWithoutPrivilege:
    def test_another_user_is_told_to_become_root(self, boxes: Boxes) -> None:
        problem, hint = refusal(boxes, lambda: os.setresuid(1000, 1000, 1000))
        assert problem == "containers need root: namespaces and mounts take CAP_SYS_ADMIN"
        assert hint == "containers need root: run as root, or with sudo"

    @pytest.mark.parametrize("missing", ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_MKNOD"])
    def test_a_curtailed_root_is_told_what_is_missing(self, boxes: Boxes, missing: str) -> None:
        def give_up() -> None:
            effective, permitted, _ = capabilities.own()
            without = ~capabilities.mask([missing])
            calls.capset(effective & without, permitted & without, 0)

        problem, hint = refusal(boxes, give_up)
        assert problem == f"containers need {missing}, which this process has not got"
        assert "--privileged" in hint
