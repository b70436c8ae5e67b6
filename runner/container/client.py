"""The client of a supervisor: starts one when there is none, and speaks its protocol.

Gives:    Supervisor.private() for build steps, Supervisor.shared() for containers that outlive us; both may be used
          from many threads at once.
Promises: errors of the other side come back as the same kinds of RunnerError; when a private supervisor dies, its
          containers are killed from here.
Not here: terminals and standard streams of the user (pybuild/cli).
"""

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from runner import errors
from runner.container.privileges import check_privileges
from runner.container.protocol import STDIN, Message, Packet, receive, send, send_data, to_json
from runner.container.spec import ContainerSpec, Process
from runner.errors import NoSuchContainer, RunnerError
from runner.kernel.locks import locked

SOCKET, LOCK, LOG = "supervisor.sock", "supervisor.lock", "supervisor.log"
_LIBRARY = str(Path(__file__).resolve().parents[2])
_START = "import sys; sys.path.append(sys.argv[1]); from runner.container.supervisor import main; main(sys.argv[2:])"
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container or a process in one ended; `code` as a shell says it, 128+n for signal n."""

    code: int
    oom_killed: bool = False
    error: str = ""


class Running:
    """A process at the other end of a conversation. Not for several threads at once, except `kill`."""

    def __init__(self, conversation: socket.socket, answer: Message, *, ours: bool = False) -> None:
        self._socket = conversation
        self.pid: int = answer["pid"]
        self.warnings: tuple[str, ...] = tuple(answer.get("warnings", ()))
        self._exit: Exit | None = None
        self._pidfd = -1
        if ours:
            with contextlib.suppress(ProcessLookupError):  # over already; the exit is on its way
                self._pidfd = os.pidfd_open(self.pid)

    def fileno(self) -> int:
        """For poll(2): readable when `receive` has something."""
        return self._socket.fileno()

    def receive(self) -> Packet | Exit:
        """Wait for the next piece of output, or the exit. Raises RunnerError when the supervisor is gone."""
        while self._exit is None:
            packet = receive(self._socket)
            if packet is None:
                self._kill_ours()
                raise RunnerError(
                    "the supervisor ended before the container did", hint="see `pybuild ps -a` for what became of it"
                )
            if packet.message is None:
                return packet
            if found := packet.message.get("exit"):
                self._exit = Exit(**found)
        return self._exit

    def wait(self, timeout: float | None = None) -> Exit:
        """Wait for the end; output is thrown away. TimeoutError after `timeout` seconds."""
        while True:
            if self._exit is None and timeout is not None and not select.select([self._socket], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            found = self.receive()
            if isinstance(found, Exit):
                self.close()
                return found

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process started by `Supervisor.run`."""
        self._say({"op": "kill", "signal": number})

    def resize(self, rows: int, columns: int) -> None:
        self._say({"op": "resize", "rows": rows, "columns": columns})

    def detach(self) -> None:
        """Leave without ending the container's input."""
        self._say({"op": "detach"})

    def cleaned(self) -> None:
        """After the exit: what the container needed has been put away, no hook is needed."""
        self._say({"op": "cleaned"})

    def type(self, data: bytes) -> None:
        """Send input, at most protocol.CHUNK bytes; none ends it. Blocks while the container reads nothing."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # ended meanwhile; `receive` tells
            send_data(self._socket, STDIN, data)

    def close(self) -> None:
        self._socket.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _say(self, message: Message) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # ended meanwhile
            send(self._socket, message)

    def _kill_ours(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


class Supervisor:
    """A way to the supervisor. Made by `private` or `shared`; a context manager."""

    def __init__(self, *, runtime_dir: Path | None = None, control: socket.socket | None = None, pid: int = 0) -> None:
        self._runtime_dir, self._control, self._pid = runtime_dir, control, pid

    @classmethod
    def private(cls) -> "Supervisor":
        """One of our own, that ends with us, as do its containers."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = _spawn("private", theirs.fileno(), log=2)
        return cls(control=ours, pid=pid)

    @classmethod
    def shared(cls, runtime_dir: Path) -> "Supervisor":
        """The one whose socket lies in `runtime_dir`; it is started when it is first needed."""
        return cls(runtime_dir=runtime_dir)

    def wake(self) -> None:
        """Start a shared supervisor if there is none, and do not wait for it: it gets ready while we do."""
        if self._runtime_dir and not _listens(self._runtime_dir):
            with _lock(self._runtime_dir):
                if not _listens(self._runtime_dir):
                    _start_shared(self._runtime_dir)

    def close(self) -> None:
        """End a private supervisor and all its containers; let go of a shared one."""
        if self._control:
            self._control.close()
            self._control = None
            os.waitpid(self._pid, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def run(self, spec: ContainerSpec, *, stdin: int, stdout: int, stderr: int, fds: Sequence[int] = ()) -> Running:
        """Run a container on these descriptors; it is killed when `Running` is closed before its end.

        Raises:
            CommandNotFound, NotExecutable, RunnerError: it could not be started.
        """
        return self._ask(
            {"op": "run", "spec": to_json(spec)}, [stdin, stdout, stderr, *fds], ours=self._control is not None
        )

    def start(
        self,
        spec: ContainerSpec,
        *,
        directory: Path,
        attach: Sequence[str] = (),
        open_stdin: bool = False,
        stdin_once: bool = False,
        log: bool = True,
        hook: Sequence[str] = (),
        claim: bool = False,
        fds: Sequence[int] = (),
        held: Sequence[int] = (),
        journal: tuple[Path, Mapping[str, str]] | None = None,
    ) -> Running:
        """Start a container that the supervisor keeps.

        Args:
            spec: what to run; `fd:N` in it counts in `fds`.
            directory: where its state and log are.
            attach: of stdin, stdout, stderr: those which this conversation takes part in, from the first byte.
            open_stdin: it has an input that stays open, for whoever attaches.
            stdin_once: that input ends when the first who attached ends it, or leaves.
            log: keep the output in a log.
            hook: the program to run after the end, unless claimed.
            claim: we clean up after the end, and say so (`Running.cleaned`); if we die before, the hook is run.
            fds: descriptors for the container.
            held: descriptors to keep open while it runs.
            journal: the directory of the journal in which its end is told, and how it is described there.
        """
        message = {
            "op": "start", "spec": to_json(spec), "directory": str(directory), "attach": list(attach),
            "open_stdin": open_stdin, "stdin_once": stdin_once, "log": log, "hook": list(hook), "claim": claim,
            "fds": len(fds),
            "journal": {"directory": str(journal[0]), "attributes": dict(journal[1])} if journal else {},
        }  # fmt: skip
        return self._ask(message, [*fds, *held])

    def attach(self, container_id: str, streams: Sequence[str]) -> Running:
        """Take part in the streams of a running container. Raises NoSuchContainer when it does not run."""
        return self._ask({"op": "attach", "id": container_id, "attach": list(streams)})

    def exec(self, container_id: str, process: Process, attach: Sequence[str] = ()) -> Running:
        """Run another process in a running container."""
        message = {"op": "exec", "id": container_id, "process": to_json(process), "attach": list(attach)}
        return self._ask(message)

    def kill(self, container_id: str, number: int) -> None:
        """Send a signal to the first process of a running container."""
        self._ask({"op": "kill", "id": container_id, "signal": number}).close()

    def wait(self, container_id: str) -> Running:
        """A running container, to wait for. Raises NoSuchContainer when it does not run."""
        return self._ask({"op": "wait", "id": container_id})

    def _ask(self, message: Message, fds: Sequence[int] = (), *, ours: bool = False) -> Running:
        conversation = self._converse(start=bool(message.get("spec")))
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # then no answer comes, either
                send(conversation, message, fds)
            packet = receive(conversation)
            if packet is None or packet.message is None:
                raise RunnerError("the supervisor ended", hint="its log lies beside its socket; try again")
            if error := packet.message.get("error"):
                kind = getattr(errors, error["kind"], RunnerError)
                raise kind(error["message"], hint=error["hint"])
            return Running(conversation, {"pid": 0} | packet.message["ok"], ours=ours)
        except BaseException:
            conversation.close()
            raise

    def _converse(self, *, start: bool) -> socket.socket:
        """A new conversation, greeted by the supervisor; NoSuchContainer: there is none, and it need not be started."""
        if self._control:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    socket.send_fds(self._control, [b"c"], [theirs.fileno()])
                except (BrokenPipeError, ConnectionResetError):
                    pass  # then the greeting does not come either
            if _greeted(ours):
                return ours
            raise RunnerError("the supervisor has ended", hint="start the command again")
        assert self._runtime_dir is not None, "closed"
        if found := _connect(self._runtime_dir):
            return found
        if not start:
            raise NoSuchContainer("no container is running")
        for _ in range(5):
            with _lock(self._runtime_dir):
                if found := _connect(self._runtime_dir):
                    return found
                _start_shared(self._runtime_dir)
            if found := _connect(self._runtime_dir):
                return found
        raise RunnerError("the supervisor does not start", hint=f"see {self._runtime_dir / LOG} for the reason")


def _listens(runtime_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        return sock.connect_ex(str(runtime_dir / SOCKET)) == 0


def _connect(runtime_dir: Path) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(str(runtime_dir / SOCKET))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    return sock if _greeted(sock) else None


def _greeted(sock: socket.socket) -> bool:
    """Wait for the first words; without them the other side ended before it took notice of us. Closes `sock` then."""
    if receive(sock) is not None:
        return True
    sock.close()
    return False


@contextlib.contextmanager
def _lock(runtime_dir: Path) -> Iterator[None]:
    check_privileges()  # whoever starts a supervisor lends it their rights; without enough it would fail all others
    runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if runtime_dir.stat().st_uid != os.geteuid():
        raise RunnerError(f"{runtime_dir} belongs to somebody else", hint="remove it, or use another --root")
    with locked(runtime_dir / LOCK):
        yield


def _start_shared(runtime_dir: Path) -> None:
    """Make the socket and a process that listens to it; who connects before it is ready waits a moment."""
    path = runtime_dir / SOCKET
    path.unlink(missing_ok=True)
    log = os.open(runtime_dir / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        _spawn("shared", listener.fileno(), log=log)
    os.close(log)


def _spawn(kind: str, fd: int, *, log: int) -> int:
    """Start `supervisor.main` with `fd` as its descriptor 3, and next to nothing of our environment."""
    command = [sys.executable, "-I", "-S", "-c", _START, _LIBRARY, kind, "3"]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    actions = [
        (os.POSIX_SPAWN_DUP2, log, 2),
        (os.POSIX_SPAWN_DUP2, fd, 3),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    return os.posix_spawn(
        command[0], command, environment, file_actions=actions, setsid=True, setsigmask=[],
        setsigdef=signal.valid_signals(),
    )  # fmt: skip
