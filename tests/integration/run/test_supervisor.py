"""Supervisors: a private one for build steps, and what no client may do to a shared one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.container.client import Exit, Supervisor
from runner.container.defaults import CAPABILITIES, MASKED_PATHS, READONLY_PATHS, default_mounts, default_namespaces
from runner.container.protocol import receive, send
from runner.container.spec import ContainerSpec, Process, RootFilesystem
from runner.errors import CommandNotFound, NoSuchContainer, NotExecutable, RunnerError
from tests.integration.run.conftest import Pybuild

pytestmark = pytest.mark.root


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor.private() as private:
        yield private


@pytest.fixture
def root(ram_path: Path) -> str:
    (ram_path / "bin").mkdir()
    (ram_path / "bin" / "sh").write_bytes(Path("/bin/busybox").read_bytes())
    (ram_path / "bin" / "sh").chmod(0o755)
    (ram_path / "text").write_text("no program")
    return str(ram_path)


def spec(root: str, *command: str, name: str = "step") -> ContainerSpec:
    return ContainerSpec(
        id=f"test-{os.getpid()}-{name}", root=RootFilesystem(upper=root),
        process=Process(args=command, env=("PATH=/bin",), capabilities=CAPABILITIES), mounts=default_mounts(),
        namespaces=default_namespaces(), masked_paths=MASKED_PATHS, readonly_paths=READONLY_PATHS,
    )  # fmt: skip


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def run(supervisor: Supervisor, root: str, script: str, name: str = "step") -> tuple[Exit, bytes]:
    reader, writer = os.pipe()
    with open(os.devnull) as nothing, open(reader, "rb") as output:
        running = supervisor.run(
            spec(root, "sh", "-c", script, name=name), stdin=nothing.fileno(), stdout=writer, stderr=writer
        )
        os.close(writer)
        found = running.wait()
        return found, output.read()


class TestPrivate:
    def test_runs_on_our_descriptors_and_tells_the_exit(self, supervisor: Supervisor, root: str) -> None:
        assert run(supervisor, root, "echo hello; exit 3") == (Exit(3), b"hello\n")

    def test_serves_many_threads_at_once(self, supervisor: Supervisor, root: str) -> None:
        found: dict[int, tuple[Exit, bytes]] = {}

        def one(number: int) -> None:
            found[number] = run(supervisor, root, f"echo {number}", f"thread{number}")

        threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: (Exit(0), f"{number}\n".encode()) for number in range(6)}

    def test_errors_keep_their_kind(self, supervisor: Supervisor, root: str) -> None:
        for command, kind in (("nosuch", CommandNotFound), ("/text", NotExecutable)):
            with pytest.raises(kind):
                supervisor.run(spec(root, command), stdin=0, stdout=1, stderr=2)

    def test_signals_and_time_outs(self, supervisor: Supervisor, root: str) -> None:
        running = supervisor.run(spec(root, "sh", "-c", "read x"), stdin=os.open("/dev/zero", 0), stdout=1, stderr=2)
        with pytest.raises(TimeoutError):
            running.wait(0.05)
        running.kill(signal.SIGKILL)
        assert running.wait() == Exit(137)

    def test_closing_the_conversation_kills_the_container(self, supervisor: Supervisor, root: str) -> None:
        running = supervisor.run(spec(root, "sh", "-c", "while :; do :; done"), stdin=0, stdout=1, stderr=2)
        pid = running.pid
        running.close()
        until(lambda: not Path(f"/proc/{pid}").exists())

    def test_ends_with_us_and_takes_its_containers_along(self, root: str) -> None:
        with Supervisor.private() as supervisor:
            running = supervisor.run(spec(root, "sh", "-c", "while :; do :; done"), stdin=0, stdout=1, stderr=2)
        assert not Path(f"/proc/{running.pid}").exists()
        with pytest.raises(RunnerError):
            running.wait()
        running.close()

    def test_dies_with_a_client_that_is_killed(self, root: str) -> None:
        script = (
            "import sys, tests.integration.run.test_supervisor as t\n"
            "s = t.Supervisor.private()\n"
            f"r = s.run(t.spec({root!r}, 'sh', '-c', 'while :; do :; done'), stdin=0, stdout=1, stderr=2)\n"
            "print(r.pid, flush=True); sys.stdin.read()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
        )
        assert process.stdout is not None
        assert process.stdin is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        until(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    """A zombie waits for somebody to take notice, and lives no more."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


class TestHostileClients:
    @pytest.fixture
    def conversation(self, pybuild: Pybuild) -> Iterator[socket.socket]:
        from pybuild.engine.roots import runtime_dir

        pybuild.ok("run", "-d", "--name", "victim", "--network", "none", "busybox", "sleep", "600")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(runtime_dir(pybuild.root) / "supervisor.sock"))
            receive(sock)
            yield sock

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"op": "nonsense"},
            {"op": "kill", "id": "victim"},
            {"op": "exec", "id": 5},
            {"op": "run", "spec": {}},
            {"op": "start", "spec": {"id": "../../x", "root": {"upper": "/"}, "process": {"args": ["sh"]}}, "fds": 0},
            {"op": "attach", "id": ["x"], "attach": 7},
        ],
    )
    def test_nonsense_is_answered_with_an_error_and_harms_nobody(
        self, conversation: socket.socket, pybuild: Pybuild, message: dict[str, object]
    ) -> None:
        before = pybuild.supervisor()
        send(conversation, message)
        answer = receive(conversation)
        assert answer is not None
        assert answer.message is not None
        assert "error" in answer.message
        assert pybuild.inspect("victim")["State"]["Running"] is True
        assert pybuild.supervisor() == before

    def test_garbage_closes_the_conversation_and_nothing_else(
        self, conversation: socket.socket, pybuild: Pybuild
    ) -> None:
        conversation.send(b"\xff" * 1000)
        assert receive(conversation) is None
        assert pybuild.ok("exec", "victim", "echo", "fine") == "fine\n"

    def test_one_that_reads_nothing_does_not_stop_the_others(
        self, conversation: socket.socket, pybuild: Pybuild
    ) -> None:
        victim = str(pybuild.inspect("victim")["Id"])
        send(
            conversation,
            {"op": "exec", "id": victim, "process": {"args": ["yes"], "env": ["PATH=/bin"]}, "attach": ["stdout"]},
        )
        assert pybuild.ok("exec", "victim", "echo", "fine") == "fine\n"

    def test_the_socket_is_for_its_owner_only(self, pybuild: Pybuild, conversation: socket.socket) -> None:
        from pybuild.engine.roots import runtime_dir

        directory = runtime_dir(pybuild.root)
        assert directory.stat().st_mode & 0o077 == 0
        assert (directory / "supervisor.sock").stat().st_mode & 0o077 == 0


def test_a_container_that_does_not_run_is_told_without_starting_a_supervisor(tmp_path: Path) -> None:
    with pytest.raises(NoSuchContainer):
        Supervisor.shared(tmp_path / "run").kill("a" * 64, 9)
    assert not (tmp_path / "run").exists()
