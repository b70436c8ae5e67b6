"""The life of containers: create, start, exec, stop, remove; what `pybuild run` and its siblings are made of.

Gives:    Containers, for one state root. Any number of processes may use the same root at once.
Takes:    options as parsed (options.py); never a terminal or a command line.
Promises: what a crash leaves half done is finished or taken back by whoever comes next (`recover`); after a container
          is removed nothing of it remains: no mount, namespace, control group, interface, rule, directory or name.
Not here: the processes themselves (runner/container), the bridge (runner/network).
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pybuild.engine import restarting
from pybuild.engine.events import actor, tell_container
from pybuild.engine.names import check_name, is_id_prefix, new_id
from pybuild.engine.options import MountOption, RunOptions, parse_signal
from pybuild.engine.records import NetworkRecord, PublishedPort, Record, Records
from pybuild.engine.restarting import Restarts
from pybuild.engine.roots import runtime_dir
from pybuild.errors import Conflict, EngineError, NotFound, UsageError
from runner.container.client import Running, Supervisor
from runner.container.state import State, lost, read_state, start_time, timestamp, write_state
from runner.errors import NoSuchContainer, RunnerError

if TYPE_CHECKING:
    from builder.snapshots import Snapshots
    from registry.client import Progress
    from registry.storage import ContentStore, StoredImage
    from runner.network import Attachment, Networks

    Watching = Callable[[], AbstractContextManager[Progress]]

DEFAULT_CGROUP_PARENT = "/pybuild"  # as in runner/container/launch.py, which is too heavy to be asked
_KILL_WAIT = 10.0  # seconds for the kernel to end a process that was killed
_POLL = 0.02  # seconds between looks at a container whose supervisor is gone
_CLEAN_UP = (
    "import sys; sys.path[:] = sys.argv[3:]; from pybuild.engine.containers import clean_up; clean_up(*sys.argv[1:3])"
)


@dataclass(frozen=True, slots=True)
class Container:
    """A container and how it is at the moment."""

    record: Record
    state: State
    network: NetworkRecord | None = None
    restarts: Restarts = field(default_factory=Restarts)

    @property
    def word(self) -> str:
        """As docker calls its state: created, running, paused, restarting, exited."""
        return "restarting" if self.restarts.waiting and not self.running else self.state.word

    @property
    def running(self) -> bool:
        return self.state.status == "running"


class Containers:
    """See the module. Opens stores and networks when they are first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = Records(root)
        self.supervisor = Supervisor.shared(runtime_dir(root))
        self._open: dict[str, object] = {}
        self._closers: list[Callable[[], None]] = []

    def close(self) -> None:
        while self._closers:
            self._closers.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def tell(self, record: Record, action: str, **attributes: str) -> None:
        """Put it into the journal."""
        tell_container(self.root, record, action, **attributes)

    # --- looking ------------------------------------------------------------------------------------------------------

    def find(self, text: str) -> Container:
        """By name, id, or the beginning of an id. Raises NotFound."""
        return self.get(self.records.find(text))

    def get(self, container_id: str) -> Container:
        record = self.records.load(container_id)
        try:
            state = self._state(container_id)
        except FileNotFoundError:
            raise NotFound(f"No such container: {container_id}") from None
        restarts = Restarts()
        if record.options.restart.name != "no":
            restarts = restarting.read(self.records.of(container_id))
        return Container(record, state, self.records.network(container_id), restarts)

    def all(self) -> list[Container]:
        """Every container, the youngest first."""
        found = []
        for container_id in self.records.ids():
            with contextlib.suppress(NotFound):  # removed meanwhile
                found.append(self.get(container_id))
        return sorted(found, key=lambda container: container.record.created, reverse=True)

    def log_path(self, container_id: str) -> Path:
        return self.records.of(container_id) / "json.log"

    def is_running(self, container_id: str) -> bool:
        try:
            return self._state(container_id).status == "running"
        except FileNotFoundError:
            return False

    def _state(self, container_id: str) -> State:
        """The state on disk; if that says running of a process which is gone, what its supervisor says."""
        directory = self.records.of(container_id)
        state = read_state(directory)
        if state.status != "running" or state.alive:
            return state
        with contextlib.suppress(RunnerError, TimeoutError), self.supervisor.wait(container_id) as running:
            running.wait(_KILL_WAIT)  # it has seen the end, and is about to write it down
        state = read_state(directory)
        return state if state.status != "running" or state.alive else lost(state)

    # --- create -------------------------------------------------------------------------------------------------------

    def create(self, options: RunOptions, *, pull: str = "missing", progress: "Watching | None" = None) -> Record:
        """Make a container, not running yet.

        Args:
            options: what was asked for.
            pull: always, missing or never: when the image is fetched.
            progress: opened when the image is fetched, and told of it.

        Raises:
            Conflict: the name is taken.
            UsageError, RegistryError: the options or the image won't do.
        """
        from pybuild.engine.specs import make_record
        from pybuild.engine.volumes import Volumes

        if options.name:
            check_name(options.name)
        if options.publish:
            from runner.network import PortMapping

            for text in options.publish:  # also where no network will look at them
                PortMapping.parse(text)
        image = self.image(options.image, options.platform, pull, progress)
        record = make_record(
            options, image.config.config, container_id=new_id(), image_id=str(image.config_digest), created=timestamp(),
            platform=str(image.config.platform),
        )  # fmt: skip
        top = self._unpacked(image)
        volumes = Volumes(self.root)
        with contextlib.ExitStack() as undo:
            self.records.announce(record.id)
            undo.callback(self.records.withdraw, record.id)
            wanted = (*self._borrowed(options), *options.mounts)
            mounts = volumes.mount_points(wanted, image.config.config.volumes, self.snapshots.view(top))
            undo.callback(volumes.remove_anonymous, mounts)
            undo.callback(self.snapshots.remove, record.snapshot)
            self.snapshots.prepare(record.snapshot, top)
            record = self.records.add(replace(record, mounts=mounts))
            undo.pop_all()
        self.tell(record, "create")
        return record

    def _borrowed(self, options: RunOptions) -> list[MountOption]:
        """What --volumes-from gives: the mounts of other containers, in the same places."""
        found = []
        for text in options.volumes_from:
            name, _, mode = text.partition(":")
            if mode not in {"", "ro", "rw"}:
                raise UsageError(f"--volumes-from {text}: unknown mode", hint="write CONTAINER[:ro|:rw]")
            found += [
                MountOption(
                    type=mount.type, source=mount.name or mount.source, target=mount.destination,
                    read_only=mount.read_only or mode == "ro", options=mount.options, no_copy=True,
                )
                for mount in self.find(name).record.mounts
                if mount.type in {"bind", "volume"}
            ]  # fmt: skip
        return found

    def _unpacked(self, image: "StoredImage") -> str | None:
        """The snapshot of an image; the machinery that unpacks is loaded when there is something to unpack."""
        from registry.model.digest import chain_ids

        diff_ids = image.config.rootfs.diff_ids
        if not diff_ids:
            return None
        top = str(chain_ids(diff_ids)[-1])
        if self.snapshots.exists(top):
            return top
        from builder.layers import unpack_image

        return unpack_image(self.store, self.snapshots, image.manifest, image.config)

    def image(self, text: str, platform: str, pull: str, progress: "Watching | None" = None) -> "StoredImage":
        """The image called `text` (a name, or an id); fetched if `pull` says so."""
        from registry.errors import ManifestUnknown, NameInvalid, NameUnknown, RegistryError
        from registry.model import Platform, Reference
        from registry.storage.images import find_by_id, find_image

        wanted = Platform.parse(platform) if platform else None
        by_id = text.removeprefix("sha256:")
        try:
            reference = Reference.parse(text)
        except NameInvalid:
            if is_id_prefix(by_id):
                return find_by_id(self.store, by_id)
            raise
        if pull != "always":
            try:
                return find_image(self.store, reference, wanted)
            except (ManifestUnknown, NameUnknown):
                pass
            if is_id_prefix(by_id):
                with contextlib.suppress(RegistryError):
                    return find_by_id(self.store, by_id)
        if pull == "never":
            raise NotFound(f"No such image: {reference.tagged}", hint="pull it first, or leave out --pull=never")
        from registry.client import pull as fetch

        with progress() if progress else contextlib.nullcontext() as watcher:
            fetch(self.store, reference, platform=wanted, progress=watcher)
        return find_image(self.store, reference, wanted)

    # --- start --------------------------------------------------------------------------------------------------------

    def start(
        self,
        record: Record,
        *,
        attach: Sequence[str] = (),
        claim: bool = False,
        console_size: tuple[int, int] = (0, 0),
        again: bool = False,
    ) -> Running:
        """Start a container that does not run.

        Args:
            record: which one.
            attach: of stdin, stdout, stderr: what the returned conversation takes part in, from the first byte.
            claim: the caller cleans up after the end (`finish`), then says so (`Running.cleaned`).
            console_size: rows and columns of its terminal.
            again: its restart policy wants it, and not somebody who asks. With a policy nobody else cleans up.

        Raises:
            Conflict: it runs already.
            CommandNotFound, NotExecutable, RunnerError: it can't be started; it stays, with the error in its state.
        """
        with self.records.locked(record.id):
            state = self._state(record.id)
            if state.status == "running":
                raise Conflict(f"container {record.name} is running already")
            directory = self.records.of(record.id)
            if not state.detached:
                self._detach(record)
            if again and restarting.is_stopped(directory):
                raise Conflict(f"container {record.name} was asked to stop")
            write_state(directory, replace(state, detached=False))
            if record.options.restart.name != "no":
                claim = False
                if not again:
                    restarting.clear(directory)
            try:
                return self._start(record, attach, console_size, claim=claim)
            except BaseException as error:
                self._end_unseen(record)
                self._detach(record)
                code = error.exit_code if isinstance(error, RunnerError) else 128
                write_state(directory, replace(state, exit_code=code, error=str(error), detached=True))
                raise

    def _start(self, record: Record, attach: Sequence[str], console_size: tuple[int, int], *, claim: bool) -> Running:
        from pybuild.engine.specs import Placement, make_spec

        options, directory = record.options, self.records.of(record.id)
        snapshot = self.snapshots.get(record.snapshot)
        if snapshot is None:
            raise EngineError(f"the filesystem of container {record.name} is gone", hint="remove it, and run it again")
        with contextlib.ExitStack() as close:
            net, etc, attachment = self._network(record, close)
            placement = Placement(
                root=snapshot, directory=directory, net="fd:0", etc=etc,
                pid=self._joined(options.pid, "pid"), ipc=self._joined(options.ipc, "ipc"), console_size=console_size,
            )  # fmt: skip
            return self.supervisor.start(
                make_spec(record, placement), directory=directory, attach=attach, open_stdin=options.interactive,
                stdin_once=options.interactive and options.closes_stdin, hook=self._hook(record.id), claim=claim,
                fds=(net,), held=attachment.held if attachment else (),
                journal=(runtime_dir(self.root), actor(record)),
            )  # fmt: skip

    def _network(self, record: Record, close: contextlib.ExitStack) -> "tuple[int, Path | None, Attachment | None]":
        """The namespace's descriptor, and the owner of /etc/hosts and such if it is not this container."""
        options, mode = record.options, record.options.network
        if mode == "host":  # that of whoever asks; the supervisor may have been started in another one
            fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            close.callback(os.close, fd)
            self._write_etc(record, None)
            return fd, None, None
        if mode.startswith("container:"):
            other = self._other(mode)
            fd = os.open(f"/proc/{other.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            close.callback(os.close, fd)
            return fd, self.records.of(other.record.id), None
        if mode == "none":
            fd = self.networks.isolated()
            close.callback(os.close, fd)
            self._write_etc(record, NetworkRecord("none"))
            return fd, None, None
        if mode not in {"bridge", "default"}:
            raise UsageError(f"unknown network {mode!r}", hint="known: bridge, host, none, container:NAME")
        from runner.network import PortMapping

        ports = [mapping for text in options.publish for mapping in PortMapping.parse(text)]
        if options.publish_all:
            taken = {(mapping.container_port, mapping.protocol) for mapping in ports}
            exposed = [mapping for text in record.exposed_ports for mapping in PortMapping.parse(text)]
            ports += [mapping for mapping in exposed if (mapping.container_port, mapping.protocol) not in taken]
        attachment = self.networks.attach(record.id, ports=ports)
        for fd in (attachment.netns, *attachment.held):
            close.callback(os.close, fd)
        published = tuple(
            PublishedPort(mapping.container_port, mapping.protocol, mapping.host_ip, mapping.host_port)
            for mapping in attachment.ports
        )
        network = NetworkRecord(
            "bridge", attachment.address, attachment.prefix, attachment.gateway, attachment.mac, published
        )
        self.records.set_network(record.id, network)
        self._write_etc(record, network)
        return attachment.netns, None, attachment

    def _write_etc(self, record: Record, network: NetworkRecord | None) -> None:
        """The files that are mounted over the image's; None: on the host's network, which has its own truth."""
        from runner.network import hosts_file, resolv_conf

        options, directory = record.options, self.records.of(record.id)
        host_resolv = _read("/etc/resolv.conf")
        given = options.dns or options.dns_search or options.dns_option
        gateway = network.gateway if network and network.gateway else "127.0.0.1"
        extra = [(name, gateway if address == "host-gateway" else address) for name, address in options.add_host]
        if network is None:
            hosts = _read("/etc/hosts") + "".join(f"{address}\t{name}\n" for name, address in extra)
        else:
            hosts = hosts_file(record.hostname, network.address, extra)
        resolv = host_resolv
        if network is not None or given:
            resolv = resolv_conf(
                host_resolv, servers=options.dns, search=options.dns_search, options=options.dns_option
            )
        for name, text in (("hostname", f"{record.hostname}\n"), ("hosts", hosts), ("resolv.conf", resolv)):
            path = directory / name
            path.write_text(text)
            path.chmod(0o644)

    def _joined(self, mode: str, kind: str) -> str:
        """The namespace of another container, for `container:NAME`; else nothing."""
        return f"/proc/{self._other(mode).state.pid}/ns/{kind}" if mode.startswith("container:") else ""

    def _other(self, mode: str) -> Container:
        other = self.find(mode.removeprefix("container:"))
        if not other.running:
            raise Conflict(
                f"container {other.record.name} is not running", hint="start it first: its namespace is used"
            )
        return other

    def _hook(self, container_id: str) -> tuple[str, ...]:
        """What cleans up when nobody is there who would: this same code in a process of its own."""
        return (sys.executable, "-I", "-c", _CLEAN_UP, str(self.root), container_id, *filter(None, sys.path))

    # --- while it runs ------------------------------------------------------------------------------------------------

    def attach(self, container: Container, streams: Sequence[str]) -> Running:
        """Raises Conflict when it does not run."""
        try:
            return self.supervisor.attach(container.record.id, streams)
        except NoSuchContainer:
            raise self._not_running(container) from None

    def exec(
        self,
        container: Container,
        argv: Sequence[str],
        *,
        attach: Sequence[str] = (),
        env: Sequence[str] = (),
        user: str = "",
        working_dir: str = "",
        tty: bool = False,
        privileged: bool = False,
        console_size: tuple[int, int] = (0, 0),
    ) -> Running:
        """Run a program in a running container, beside its first process."""
        from pybuild.engine.specs import exec_process

        process = exec_process(
            container.record, argv, env=env, user=user, working_dir=working_dir, tty=tty, privileged=privileged,
            console_size=console_size,
        )  # fmt: skip
        try:
            return self.supervisor.exec(container.record.id, process, attach)
        except NoSuchContainer:
            raise self._not_running(container) from None

    def kill(self, container: Container, number: int) -> None:
        """Send a signal to the first process; the one that ends it thaws it. Raises Conflict when there is none."""
        self.mark_stopped(container.record, number)
        if number == signal.SIGKILL and container.state.paused:
            from pybuild.engine.changing import unpause

            with contextlib.suppress(Conflict):
                unpause(self, container)
        try:
            self.supervisor.kill(container.record.id, number)
        except NoSuchContainer:
            if not self._kill_directly(container.record.id, number):
                raise self._not_running(container) from None
        self.tell(container.record, "kill", signal=str(int(number)))

    def mark_stopped(self, record: Record, number: int = signal.SIGKILL) -> None:
        """If it is a signal that asks for the end: a restart policy must not undo it."""
        if record.options.restart.name != "no" and number in {signal.SIGKILL, parse_signal(record.stop_signal)}:
            restarting.mark_stopped(self.records.of(record.id))
            with contextlib.suppress(NotFound), self.records.locked(record.id):
                pass  # a start that had looked before has happened now

    def stop(self, container: Container, timeout: int | None = None, number: int | None = None) -> None:
        """Ask it to end, by signal `number` or its own stop signal; after `timeout` seconds (-1: never) kill it.

        A container that does not run is no error.
        """
        record = container.record
        self.mark_stopped(record)
        if not self.is_running(record.id):
            return
        patience = record.stop_timeout if timeout is None else timeout
        with contextlib.suppress(Conflict):
            self.kill(container, number or parse_signal(record.stop_signal))
            if not self._ended_within(record.id, None if patience < 0 else float(patience)):
                self.kill(container, signal.SIGKILL)
                self._ended_within(record.id, _KILL_WAIT)
        self.settle(record.id)
        self.tell(record, "stop")

    def wait(self, container: Container) -> int:
        """Wait until it does not run, and return its exit code."""
        record = container.record
        self._ended_within(record.id, None)
        try:
            return self._state(record.id).exit_code
        except FileNotFoundError:
            return container.state.exit_code

    def _ended_within(self, container_id: str, seconds: float | None) -> bool:
        """Wait for the end by the supervisor, or by looking if there is none; whether it came in time."""
        try:
            with self.supervisor.wait(container_id) as running:
                running.wait(seconds)
                return True
        except TimeoutError:
            return False
        except RunnerError:
            deadline = None if seconds is None else time.monotonic() + seconds
            while self.is_running(container_id):
                if deadline is not None and time.monotonic() > deadline:
                    return False
                time.sleep(_POLL)
            return True

    def _kill_directly(self, container_id: str, number: int) -> bool:
        """For a container whose supervisor was killed: it goes on without one."""
        try:
            state = read_state(self.records.of(container_id))
            pidfd = os.pidfd_open(state.pid) if state.alive else -1
        except OSError:
            return False
        if pidfd < 0:
            return False
        try:
            if start_time(state.pid) != state.start_time:
                return False
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def _not_running(self, container: Container) -> Conflict:
        return Conflict(
            f"Container {container.record.name} is not running",
            hint=f"`pybuild start {container.record.name}` starts it",
        )

    # --- the end ------------------------------------------------------------------------------------------------------

    def settle(self, container_id: str) -> None:
        """Put away what a run needed, if it is over; remove the container if it was to be removed. Idempotent."""
        with contextlib.suppress(NotFound), self.records.locked(container_id):
            self._settle(container_id)

    def _settle(self, container_id: str) -> None:
        state = self._state(container_id)
        if state.status == "running" or state.detached:
            return
        record = self.records.load(container_id)
        self._end_unseen(record)
        self._detach(record)
        write_state(self.records.of(container_id), replace(state, detached=True))
        if record.options.auto_remove:
            self._remove(record, volumes=True)

    def remove(self, container: Container, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container that does not run; by force also one that does. Raises Conflict."""
        record = container.record
        if self.is_running(record.id):
            if not force:
                raise Conflict(
                    f"container {record.name} is running", hint="stop it first, or remove it by force: pybuild rm -f"
                )
            with contextlib.suppress(Conflict):
                self.kill(container, signal.SIGKILL)
                self._ended_within(record.id, _KILL_WAIT)
        with contextlib.suppress(NotFound), self.records.locked(record.id):
            self._end_unseen(record)
            self._detach(record)
            self._remove(record, volumes=volumes)

    def _remove(self, record: Record, *, volumes: bool) -> None:
        from pybuild.engine.volumes import Volumes

        self.records.remove(record.id, record.name)
        self.snapshots.remove(record.snapshot)
        if volumes:
            Volumes(self.root).remove_anonymous(record.mounts)
        self.records.erase(record.id)
        self.tell(record, "destroy")

    def _end_unseen(self, record: Record) -> None:
        """The control group of a container whose supervisor was killed, with what is left in it; else there is none."""
        from runner.kernel.cgroups import Cgroup

        parent = "/" + (record.options.cgroup_parent or DEFAULT_CGROUP_PARENT).strip("/")
        cgroup = Cgroup.named(f"{parent}/{record.id}")
        cgroup.kill()
        cgroup.remove()

    def _detach(self, record: Record) -> None:
        if record.options.network in {"bridge", "default"}:
            self.networks.detach(record.id)
            self.records.set_network(record.id, None)

    def recover(self) -> None:
        """Finish what processes that were killed left half done. Cheap when there is nothing."""
        for container_id in self.records.leftovers():
            from pybuild.engine.volumes import Volumes

            record = self.records.removed(container_id)
            if record and record.options.auto_remove:
                Volumes(self.root).remove_anonymous(record.mounts)
            self.snapshots.remove(f"container-{container_id}")
            self.records.erase(container_id)
        for container_id in self.records.ids():
            with contextlib.suppress(FileNotFoundError, NotFound):
                state = read_state(self.records.of(container_id))
                if not state.detached and not state.alive:
                    with self.records.locked(container_id, wait=False) as ours:
                        if ours:
                            self._settle(container_id)

    # --- what is opened when it is needed -----------------------------------------------------------------------------

    @property
    def store(self) -> "ContentStore":
        from registry.storage import ContentStore

        found = self._open.get("store")
        if not isinstance(found, ContentStore):
            found = self._open["store"] = ContentStore.open(self.root)
            self._closers.append(found.close)
        return found

    @property
    def snapshots(self) -> "Snapshots":
        from builder.snapshots import Snapshots

        found = self._open.get("snapshots")
        if not isinstance(found, Snapshots):
            found = self._open["snapshots"] = Snapshots(self.root)
            self._closers.append(found.close)
        return found

    @property
    def networks(self) -> "Networks":
        from runner.network import Networks

        return Networks(self.root / "networks")


def list_containers(root: Path) -> list[Container]:
    """Every container of a state root, the youngest first."""
    with Containers(root) as containers:
        return containers.all()


def clean_up(root: str, container_id: str) -> None:
    """The hook: a container has ended, and whoever started it is not there to put things away."""
    with Containers(Path(root)) as containers:
        containers.settle(container_id)
        restarting.revive(containers, container_id)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
