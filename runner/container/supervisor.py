"""The supervisor: parent of the containers' first processes, holder of their terminals, pipes and exit statuses.

Gives:    a process that serves conversations (protocol.py): run, start, attach, exec, kill, wait; see client.py.
Takes:    specifications and descriptors; never an image, a name or a network.
Promises: output is written and forwarded before the exit is told; a client that stops, dies or lies disturbs nobody
          else; a container that nobody cleans up has its hook run. When this process dies, its keeper (keeper.py)
          starts another one that goes on with the same pipes and terminals.
Not here: how a container is made (launch.py), what is kept of it on disk afterwards (pybuild/engine).

One thread, one epoll. Standard library, runner/kernel and runner/container only: this process is forked for each
container, so every megabyte and every import is paid again and again.
"""

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.container import journal, launch
from runner.container.events import Conversation, Loop
from runner.container.jsonlog import LogWriter
from runner.container.keeper import Inheritance, Keeper, KeeperLink, Kept
from runner.container.launch import Created, Stdio
from runner.container.protocol import (
    STDERR,
    STDOUT,
    Message,
    Packet,
    close_all,
    process_from_json,
    receive,
    spec_from_json,
)
from runner.container.session import STREAM_NAMES, Session, complain
from runner.container.spec import ContainerSpec, Process, Rlimit
from runner.container.state import boot_id, read_state, start_time, timestamp, write_state
from runner.errors import NoSuchContainer, RunnerError
from runner.kernel import calls
from runner.kernel.cgroups import Cgroup

LINGER = 20.0  # seconds that a supervisor with nothing to do waits for the next container
MAX_FD = (1 << 31) - 1
SOCKET, LOCK = "supervisor.sock", "supervisor.lock"


@dataclass(eq=False)
class Container:
    """One that runs now."""

    spec: ContainerSpec
    cgroup: Cgroup
    session: Session
    held: tuple[int, ...] = ()
    directory: Path | None = None  # of its state file and log; None: the client keeps what is to be kept
    hook: tuple[str, ...] = ()  # run at the end, unless the client that started it cleans up
    journal: Mapping[str, Any] = field(default_factory=dict)  # where its end is told, and how it is described there
    claimant: Conversation | None = None
    execs: list[Session] = field(default_factory=list)


class Supervisor:
    """Serves conversations until told to stop."""

    def __init__(
        self,
        *,
        listener: socket.socket | None = None,
        control: socket.socket | None = None,
        keeper: KeeperLink | None = None,
        inheritance: Inheritance | None = None,
        open_files: tuple[int, int] | None = None,
    ) -> None:
        self.loop = Loop()
        self._keeper = keeper or KeeperLink(None)
        self._open_files = open_files or resource.getrlimit(resource.RLIMIT_NOFILE)
        self._containers: dict[str, Container] = {}
        self._conversations: set[Conversation] = set()
        self._hooks: set[int] = set()
        self._listener, self._control = listener, control
        self._stopping = False
        self._served = 0  # conversations since the start
        if listener:
            listener.setblocking(False)
            self.loop.watch(listener.fileno(), self._accept)
        if self._keeper.socket:
            self.loop.watch(self._keeper.socket.fileno(), self._keeper_packet)
        self._adopt_all(inheritance or Inheritance())
        self._rest()
        if control:
            self.loop.watch(control.fileno(), self._control_packet)
            self.loop.watch(os.pidfd_open(os.getppid()), self._stop)

    def serve(self) -> None:
        while not self._stopping:
            self.loop.turn()

    # --- conversations ------------------------------------------------------------------------------------------------

    def _accept(self, events: int) -> None:
        del events
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()):
            sock.close()
            return
        self._converse(sock)

    def _control_packet(self, events: int) -> None:
        """A private supervisor gets each conversation's socket over the one it was born with."""
        del events
        assert self._control is not None
        data, fds, _, _ = socket.recv_fds(self._control, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            self._stop(0)
        for fd in fds:
            self._converse(socket.socket(fileno=fd))

    def _converse(self, sock: socket.socket) -> None:
        conversation = Conversation(self.loop, sock, lambda packet: self._request(conversation, packet))
        self._conversations.add(conversation)
        self._served += 1

        def forget() -> None:
            self._conversations.discard(conversation)
            self._rest()

        conversation.on_close.append(forget)
        conversation.send({"hello": os.getpid()})

    def _request(self, conversation: Conversation, packet: Packet) -> None:
        conversation.on_packet = lambda late: close_all(late.fds)
        message, fds = packet.message or {}, packet.fds
        try:
            operation = self._operations().get(str(message.get("op")))
            if operation is None:
                raise RunnerError(f"the supervisor does not know the request {message.get('op')!r}")
            operation(conversation, message, fds)
        except RunnerError as error:
            conversation.fail(error)
            conversation.finish()
        except Exception as error:  # noqa: BLE001  one container's fault must not end all the others
            complain(traceback.format_exc())
            conversation.fail(RunnerError(f"{type(error).__name__}: {error}"))
            conversation.finish()
        finally:
            close_all(fds)

    def _operations(self) -> dict[str, Callable[[Conversation, Message, tuple[int, ...]], None]]:
        return {
            "run": self._run, "start": self._start, "attach": self._attach, "exec": self._exec, "kill": self._kill,
            "wait": self._wait,
        }  # fmt: skip

    # --- requests; the descriptors that came are closed afterwards ----------------------------------------------------

    def _run(self, conversation: Conversation, message: Message, fds: tuple[int, ...]) -> None:
        """A container on the client's own descriptors, that ends with the conversation."""
        spec = spec_from_json(message["spec"])
        container, created = self._launch(spec, Stdio(*fds[:3]), fds[3:])
        container.session.watchers.append(conversation)

        def control(packet: Packet) -> None:
            close_all(packet.fds)
            if packet.message and packet.message.get("op") == "kill" and not container.session.ended:
                container.session.signal(int(packet.message["signal"]))

        def gone() -> None:
            if not container.session.ended:
                container.session.watchers.clear()
                with contextlib.suppress(NoSuchContainer):
                    container.session.signal(signal.SIGKILL)

        conversation.on_packet = control
        conversation.on_close.append(gone)
        conversation.send({"ok": _told(created)})

    def _start(self, conversation: Conversation, message: Message, fds: tuple[int, ...]) -> None:
        """A container whose streams and state we keep; `attach` names the streams that the client takes part in."""
        spec = spec_from_json(message["spec"])
        if spec.id in self._containers:
            raise RunnerError(f"container {spec.id[:12]} is running already")
        directory = Path(message["directory"])
        given, held = fds[: message["fds"]], fds[message["fds"] :]
        log = LogWriter(directory / "json.log") if message["log"] else None
        streams = _Streams.open(terminal=spec.process.terminal, stdin=bool(message["open_stdin"]))
        try:
            container, created = self._launch(spec, streams.stdio, given)
        except BaseException:
            streams.close()
            if log:
                log.finish()
            raise
        session = container.session
        session.log = log
        container.directory, container.hook = directory, tuple(message["hook"])
        container.journal = message.get("journal", {})
        container.held = tuple(os.dup(fd) for fd in held)
        session.stdin_once = bool(message["stdin_once"])
        streams.hand_to(session)
        self._have_kept(container, message)
        try:
            self._record_start(directory, session)
        except BaseException:  # its directory is gone: nobody will ever ask for it
            session.signal(signal.SIGKILL)
            raise
        _tell(container, "start")
        conversation.send({"ok": _told(created)})
        if message.get("claim"):
            container.claimant = conversation
        if message["attach"]:
            session.attach(conversation, message["attach"])
        elif message.get("claim"):
            session.watchers.append(conversation)
        else:
            conversation.finish()

    @staticmethod
    def _record_start(directory: Path, session: Session) -> None:
        started = replace(
            read_state(directory), status="running", pid=session.pid, start_time=start_time(session.pid),
            boot_id=boot_id(), exit_code=0, oom_killed=False, error="", started_at=timestamp(), detached=False,
            paused=False,
        )  # fmt: skip
        write_state(directory, started)

    def _attach(self, conversation: Conversation, message: Message, fds: tuple[int, ...]) -> None:
        del fds
        container = self._find(message["id"])
        conversation.send({"ok": {"pid": container.session.pid}})
        container.session.attach(conversation, message["attach"])

    def _exec(self, conversation: Conversation, message: Message, fds: tuple[int, ...]) -> None:
        del fds
        container = self._find(message["id"])
        process = self._with_given_limits(process_from_json(message["process"]))
        streams = _Streams.open(terminal=process.terminal, stdin="stdin" in message["attach"])
        try:
            created = launch.enter(container.session.pid, container.spec, process, streams.stdio)
            session = self._begin(created)
        except BaseException:
            streams.close()
            raise
        container.execs.append(session)
        session.stdin_once = True
        streams.hand_to(session)

        def ended(code: int) -> None:
            container.execs.remove(session)
            session.tell_exit({"code": code, "oom_killed": False, "error": ""})

        session.on_exit = ended
        conversation.send({"ok": _told(created)})
        if message["attach"]:
            session.attach(conversation, message["attach"])
        else:
            conversation.finish()

    def _kill(self, conversation: Conversation, message: Message, fds: tuple[int, ...]) -> None:
        del fds
        self._find(message["id"]).session.signal(int(message["signal"]))
        conversation.send({"ok": {}})
        conversation.finish()

    def _wait(self, conversation: Conversation, message: Message, fds: tuple[int, ...]) -> None:
        del fds
        session = self._find(message["id"]).session
        session.watchers.append(conversation)
        conversation.on_close.append(lambda: _discard(session.watchers, conversation))
        conversation.send({"ok": {"pid": session.pid}})

    def _find(self, container_id: str) -> Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NoSuchContainer(f"container {container_id[:12]} is not running") from None

    # --- beginning and end of containers ------------------------------------------------------------------------------

    def _launch(self, spec: ContainerSpec, stdio: Stdio, fds: Sequence[int]) -> tuple[Container, Created]:
        spec = replace(spec, process=self._with_given_limits(spec.process))
        created = launch.create(spec, stdio, fds, die_with_parent=self._control is not None)
        session = self._begin(created)
        return self._take(Container(spec, created.cgroup, session)), created

    def _take(self, container: Container) -> Container:
        self._containers[container.spec.id] = container
        container.session.on_exit = lambda code: self._ended(container, code)
        return container

    def _with_given_limits(self, process: Process) -> Process:
        """We may open as many files as the kernel grants; a container has the limit that we were started with."""
        if any(limit.name == "nofile" for limit in process.rlimits):
            return process
        return replace(process, rlimits=(*process.rlimits, Rlimit("nofile", *self._open_files)))

    def _begin(self, created: Created) -> Session:
        try:
            created.start()
        except BaseException:
            created.discard()
            raise
        session = Session(self.loop, created.pid, created.pidfd, created.console)
        session.watch_exit()
        return session

    def _ended(self, container: Container, code: int) -> None:
        self._containers.pop(container.spec.id, None)
        outcome = {"code": code, "oom_killed": container.cgroup.oom_killed(), "error": ""}
        launch.destroy(container.cgroup)
        close_all(container.held)
        if container.directory:
            _record_exit(container.directory, outcome)
            _tell_exit(container, outcome)
            self._keeper.drop(container.spec.id)
        claimant = container.claimant
        if claimant and not claimant.closed and container.hook:
            self._leave_to(claimant, container.hook)
        elif container.hook:
            self._run_hook(container.hook)
        container.session.tell_exit(outcome)
        self._reap_strangers()
        self._rest()

    def _leave_to(self, claimant: Conversation, hook: tuple[str, ...]) -> None:
        """Keep the conversation open until the client says that it has cleaned up; clean up if it dies first."""
        cleaned = False

        def answer(packet: Packet) -> None:
            nonlocal cleaned
            close_all(packet.fds)
            if packet.message and packet.message.get("op") == "cleaned":
                cleaned = True
                claimant.close()

        claimant.stays_open = True
        claimant.on_packet = answer
        claimant.on_close.append(lambda: None if cleaned else self._run_hook(hook))

    def _run_hook(self, hook: Sequence[str]) -> None:
        try:
            pid = os.posix_spawn(
                hook[0], list(hook), dict(os.environ), setsid=True, setsigdef=signal.valid_signals(),
                file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)],
            )  # fmt: skip
        except OSError as error:
            complain(f"hook {hook}: {error}")
            return
        self._hooks.add(pid)
        pidfd = os.pidfd_open(pid)

        def ended(events: int) -> None:
            del events
            self.loop.forget(pidfd)
            os.close(pidfd)
            os.waitpid(pid, 0)
            self._hooks.discard(pid)
            self._rest()

        self.loop.watch(pidfd, ended)

    def _reap_strangers(self) -> None:
        """Collect orphans that were left to us (a subreaper): without a parent of their own nobody else does."""
        ours = self._hooks | {
            session.pid for container in self._containers.values() for session in (container.session, *container.execs)
        }
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                return
            os.waitpid(found.si_pid, 0)

    # --- what outlives this process -----------------------------------------------------------------------------------

    def _have_kept(self, container: Container, message: Message) -> None:
        """Give the keeper what another supervisor would need."""
        session = container.session
        fds = {f"held{number}": fd for number, fd in enumerate(container.held)}
        if session.console is not None:
            fds["console"] = session.console
        else:
            fds |= {STREAM_NAMES[kind]: fd for kind, fd in session.sources.items()}
            if session.stdin_fd is not None:
                fds["stdin"] = session.stdin_fd
        names = ("spec", "directory", "hook", "open_stdin", "stdin_once", "log", "journal")
        record = {name: message[name] for name in names if name in message} | {"pid": session.pid}
        self._keeper.keep(container.spec.id, record, fds)
        session.on_input_end = lambda: self._keeper.drop(container.spec.id, "stdin")

    def _adopt_all(self, inheritance: Inheritance) -> None:
        for container_id, kept in inheritance.kept.items():
            try:
                self._adopt(kept, inheritance.exits)
            except Exception:  # noqa: BLE001  what can't be taken over must not keep the others from it
                complain(f"container {container_id[:12]} is lost:\n{traceback.format_exc()}")

    def _adopt(self, kept: Kept, exits: dict[int, int]) -> None:
        """Go on with a container of the supervisor that died. Its exit is told by the keeper, now its parent."""
        record, fds = kept.record, kept.fds
        spec = spec_from_json(record["spec"])
        pid, directory, console = int(record["pid"]), Path(record["directory"]), fds.get("console")
        pidfd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if pid in exits else os.pidfd_open(pid)
        session = Session(self.loop, pid, pidfd, console)
        session.stdin_once = bool(record["stdin_once"])
        session.log = LogWriter(directory / "json.log") if record["log"] else None
        held = tuple(fd for name, fd in fds.items() if name.startswith("held"))
        container = self._take(
            Container(
                spec, Cgroup.named(launch.cgroup_path(spec)), session, held, directory, tuple(record["hook"]),
                record.get("journal", {}),
            )
        )  # fmt: skip
        session.on_input_end = lambda: self._keeper.drop(spec.id, "stdin")
        if console is not None:
            session.open_streams({STDOUT: console}, os.dup(console) if record["open_stdin"] else None)
        else:
            sources = {kind: fds[name] for kind, name in STREAM_NAMES.items() if name in fds}
            session.open_streams(sources, fds.get("stdin"))
        complain(f"container {container.spec.id[:12]} is taken over")
        if pid in exits:
            session.finish(exits[pid])

    def _keeper_packet(self, events: int) -> None:
        """An adopted container has ended; or the keeper is gone."""
        del events
        assert self._keeper.socket is not None
        try:
            packet = receive(self._keeper.socket)
        except OSError:
            packet = None
        if packet is None:
            self.loop.forget(self._keeper.socket.fileno())
            self._keeper.socket = None
            return
        message = packet.message or {}
        for container in list(self._containers.values()):
            if message.get("op") == "died" and container.session.pid == message["pid"]:
                container.session.finish(int(message["code"]))

    # --- end of the supervisor ----------------------------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        return not (self._containers or self._conversations or self._hooks)

    def _rest(self) -> None:
        """If nothing is left, leave after a while."""
        if self._listener and self._idle:
            served = self._served
            self.loop.after(LINGER, lambda: self._leave(served))

    def _leave(self, served: int) -> None:
        """Leave if nobody came meanwhile; under the lock that clients hold when they look for us or start another."""
        if self._listener is None or served != self._served or not self._idle:
            return
        address = Path(self._listener.getsockname())
        lock = os.open(address.with_name(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not select.select([self._listener], [], [], 0)[0]:
                address.unlink(missing_ok=True)
                self._stopping = True
        except BlockingIOError:
            pass  # somebody is about to connect
        finally:
            os.close(lock)

    def _stop(self, events: int) -> None:
        """The client of a private supervisor is gone: so are its containers."""
        del events
        for container in list(self._containers.values()):
            with contextlib.suppress(NoSuchContainer):
                container.session.signal(signal.SIGKILL)
            launch.destroy(container.cgroup)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, container.session.pidfd, os.WEXITED)
        self._stopping = True


@dataclass
class _Streams:
    """Pipes for a process without terminal; for one with, the terminal takes their place."""

    stdio: Stdio
    sources: dict[bytes, int]
    stdin: int | None
    wants_input: bool

    @classmethod
    def open(cls, *, terminal: bool, stdin: bool) -> "_Streams":
        if terminal:
            return cls(Stdio(-1, -1, -1), {}, None, stdin)
        out, err = os.pipe(), os.pipe()
        if stdin:
            input_theirs, input_ours = os.pipe()
            return cls(Stdio(input_theirs, out[1], err[1]), {STDOUT: out[0], STDERR: err[0]}, input_ours, True)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return cls(Stdio(nothing, out[1], err[1]), {STDOUT: out[0], STDERR: err[0]}, None, False)

    def hand_to(self, session: Session) -> None:
        """Our ends go to the session, which closes them; the process's ends are closed here."""
        self._close_theirs()
        if session.console is not None:
            stdin = os.dup(session.console) if self.wants_input else None
            session.open_streams({STDOUT: session.console}, stdin)
        else:
            session.open_streams(self.sources, self.stdin)

    def close(self) -> None:
        self._close_theirs()
        close_all([*self.sources.values(), *([] if self.stdin is None else [self.stdin])])

    def _close_theirs(self) -> None:
        close_all([fd for fd in (self.stdio.stdin, self.stdio.stdout, self.stdio.stderr) if fd >= 0])


def _raise_open_files() -> tuple[int, int]:
    """Let us open as many files as we may, a few for each container; gives the limits of before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def _told(created: Created) -> Message:
    """What a client hears of a process that was started."""
    return {"pid": created.pid, "warnings": list(created.warnings)}


def _record_exit(directory: Path, outcome: Message) -> None:
    try:
        state = replace(
            read_state(directory), status="exited", pid=0, exit_code=outcome["code"], error=outcome["error"],
            oom_killed=outcome["oom_killed"], finished_at=timestamp(), paused=False,
        )  # fmt: skip
        write_state(directory, state)
    except FileNotFoundError:
        pass  # removed by force while it ran
    except OSError as error:
        complain(f"state of {directory.name}: {error}")


def _tell_exit(container: Container, outcome: Message) -> None:
    """In the journal, for listeners that hold no conversation with us."""
    if outcome["oom_killed"]:
        _tell(container, "oom")
    _tell(container, "die", exitCode=str(outcome["code"]))


def _tell(container: Container, action: str, **attributes: str) -> None:
    if not container.journal:
        return
    about = {**container.journal["attributes"], **attributes}
    journal.write(Path(container.journal["directory"]), journal.Happened("container", action, container.spec.id, about))


def _discard(items: list[Conversation], item: Conversation) -> None:
    if item in items:
        items.remove(item)


def main(arguments: Sequence[str]) -> None:
    """`private FD`: serve the process at the other end of socket FD. `shared FD`: serve all who connect to it."""
    kind, fd = arguments[0], int(arguments[1])
    calls.close_range(fd + 1, MAX_FD, cloexec=False)  # what our starter had open is none of our business
    os.chdir("/")
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(
            number, signal.SIG_IGN
        )  # those who send them to a whole terminal or session don't mean containers
    calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
    open_files = _raise_open_files()
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    if kind == "private":
        Supervisor(control=sock, open_files=open_files).serve()
        return

    def supervise(keeper: KeeperLink, inheritance: Inheritance) -> None:
        Supervisor(listener=sock, keeper=keeper, inheritance=inheritance, open_files=open_files).serve()

    Keeper(supervise).run()
