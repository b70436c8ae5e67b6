"""Make containers: fork a first process, lead it into its namespaces, stop it just before its program.

Gives:    create(), enter(), destroy(); Created with start() and discard().
Takes:    a ContainerSpec, the three streams, and descriptors that the specification names as "fd:N"; none is closed.
Promises: what can fail does so before the program runs and is told with its errno text; after a failure nothing is
          left: no process, mount, namespace or control group.
Not here: waiting for the program's end, logs, restarts (supervisor.py).

For single-threaded callers: they fork, and change for a moment the PID namespace of their children.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from runner.container import limits
from runner.container.channel import NOT_ROOT, ChildSide, ParentSide, pair
from runner.container.defaults import DEVICE_RULES
from runner.container.finish import Plan, make_directory, run_program
from runner.container.rootfs import Tree, handed_over, open_pty, open_sources, sysctl_path
from runner.container.spec import ContainerSpec, Mount, Process
from runner.errors import MissingPrivilege, NoSuchContainer, RunnerError
from runner.kernel import calls, capabilities, devices, namespaces
from runner.kernel.cgroups import Cgroup, Hierarchies
from runner.kernel.seccomp import compile_default

CGROUP_PARENT = "/pybuild"
INIT = "/sbin/docker-init"


@dataclass(frozen=True, slots=True)
class Stdio:
    """The descriptors that the program gets; not looked at when it gets a terminal."""

    stdin: int
    stdout: int
    stderr: int


@dataclass
class Created:
    """A process that stands just before its program. It is a child of the caller, who waits for it by `pidfd`."""

    pid: int
    pidfd: int
    console: int | None  # the terminal's master end
    cgroup: Cgroup
    stubs: tuple[str, ...]  # mount points that had to be made in the root filesystem, topmost first
    _channel: ParentSide
    _owns_cgroup: bool  # not so a later process in a container

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.cgroup.warnings, *self._channel.warnings)

    def start(self) -> None:
        """Run the program; returns when it does. Raises CommandNotFound, NotExecutable, RunnerError."""
        self._channel.go()

    def discard(self) -> None:
        """Take back what was created, or what start() failed to run."""
        self._channel.close()
        _end(self.pid, self.pidfd)
        os.close(self.pidfd)
        if self.console is not None:
            os.close(self.console)
            self.console = None
        if self._owns_cgroup:
            self.cgroup.kill()
            self.cgroup.remove()


def create(spec: ContainerSpec, stdio: Stdio, fds: Sequence[int] = (), *, die_with_parent: bool = False) -> Created:
    """A new container, all made but its program not yet run.

    Args:
        spec: what it is to be.
        stdio: its streams; copies are made.
        fds: what "fd:N" in `spec` stands for.
        die_with_parent: the kernel kills the program when the caller dies.

    Raises:
        MissingPrivilege, UnsafeRootfs, RunnerError.
    """
    _check(spec)
    ns = _Joined.open(spec, fds)
    try:
        plan = Plan(
            id=spec.id, process=spec.process, filter=_filter(spec, spec.process),
            streams=(stdio.stdin, stdio.stdout, stdio.stderr), terminal=None, die_with_parent=die_with_parent,
            init=INIT if spec.init else "",
        )  # fmt: skip

        def first_process(channel: ChildSide) -> None:
            _first_process(spec, plan, ns, channel, fds)

        keep = (*plan.streams, *fds, *ns.fds)
        created = _fork(first_process, lambda: _cgroup(spec), keep, pid_namespace=ns.pid, owns_cgroup=True)
        created.cgroup.warnings += _not_ours(spec.process)
        return created
    finally:
        ns.close()


def enter(container_pid: int, spec: ContainerSpec, process: Process, stdio: Stdio) -> Created:
    """Another process in a container that runs; `spec` is the container's own.

    Raises:
        NoSuchContainer, RunnerError.
    """
    _check_process(process)
    cgroup = Cgroup.named(cgroup_path(spec))
    try:
        pidfd = os.pidfd_open(container_pid)
    except ProcessLookupError:
        raise NoSuchContainer("the container is not running") from None
    try:
        if _lost_mknod(container_pid, spec):
            process = _without_mknod(process)
        plan = Plan(
            id=spec.id, process=process, filter=_filter(spec, process),
            streams=(stdio.stdin, stdio.stdout, stdio.stderr), terminal=None, die_with_parent=False,
        )  # fmt: skip

        def next_process(channel: ChildSide) -> None:
            _next_process(pidfd, plan, channel)

        keep = (*plan.streams, pidfd)
        return _fork(next_process, lambda: (cgroup, True), keep, pid_namespace=pidfd, owns_cgroup=False)
    finally:
        os.close(pidfd)


def destroy(created: Created | Cgroup) -> None:
    """Kill what is left in the container's control group and remove the group.

    Where there are no control groups, the end of the first process is the end of all that share its PID namespace.
    """
    cgroup = created if isinstance(created, Cgroup) else created.cgroup
    cgroup.kill()
    cgroup.remove()


def cgroup_path(spec: ContainerSpec) -> str:
    parent = "/" + spec.cgroup_parent.strip("/") if spec.cgroup_parent else CGROUP_PARENT
    return f"{parent}/{spec.id}"


# --- the caller's side ------------------------------------------------------------------------------------------------


def _fork(
    act: Callable[[ChildSide], None],
    make_cgroup: Callable[[], tuple[Cgroup, bool]],
    keep: Sequence[int],
    *,
    pid_namespace: int | str | None,
    owns_cgroup: bool,
) -> Created:
    """Fork the process; while it works, make the control group and move it there.

    `make_cgroup` also tells whether the group guards devices.
    """
    ours, theirs = pair()
    try:
        with _children_in(pid_namespace):
            pid = os.fork()
            if pid == 0:
                ours.close()
                _child(act, theirs, keep)
    except PermissionError:
        ours.close()
        raise MissingPrivilege("a container needs CAP_SYS_ADMIN", hint=NOT_ROOT) from None
    finally:
        theirs.close()
    channel = ParentSide(ours)
    created = Created(pid, os.pidfd_open(pid), None, Cgroup.none(), (), channel, owns_cgroup)
    try:
        created.cgroup, guarded = make_cgroup()
        channel.tell_made(guarded=guarded)
        # Moving a process takes the kernel some 10 ms when none has been moved lately; the child works meanwhile.
        created.cgroup.join(pid)
        channel.tell_joined()
        created.console = channel.wait_until_ready()
        created.stubs = channel.stubs
    except BaseException:
        created.discard()
        raise
    return created


def _children_in(pid_namespace: int | str | None) -> contextlib.AbstractContextManager[None]:
    if isinstance(pid_namespace, str):  # the host's own
        return contextlib.nullcontext()
    return namespaces.children_in_pid_namespace(pid_namespace)


def _end(pid: int, pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _cgroup(spec: ContainerSpec) -> tuple[Cgroup, bool]:
    hierarchies = Hierarchies.mounted()
    cgroup = Cgroup.create(cgroup_path(spec), hierarchies)
    if cgroup.exists:
        for setting in limits.settings(spec.resources, hierarchies.driver):
            cgroup.apply(setting)
    return cgroup, _guard_devices(spec, cgroup)


def _guard_devices(spec: ContainerSpec, cgroup: Cgroup) -> bool:
    """Deny all devices but the allowed ones; False when this machine offers no way to do it."""
    allowed = (*DEVICE_RULES, *spec.devices)
    if spec.all_devices:
        return True
    try:
        if cgroup.directory("devices"):
            wanted = limits.device_settings(allowed)
            walled = cgroup.apply(wanted[0])
            for setting in wanted[1:]:
                cgroup.apply(setting)
            return walled
        if directory := cgroup.directory("unified"):
            rules = [devices.DeviceRule(rule.type, rule.major, rule.minor, rule.access) for rule in allowed]
            devices.attach(directory, rules)
            return True
        reason = "there is no device controller"
    except OSError as error:
        reason = error.strerror or str(error)
    cgroup.warnings.append(
        f"device rules are not applied ({reason}): the container can't make or use device nodes instead"
    )
    return False


def _filter(spec: ContainerSpec, process: Process) -> bytes:
    if spec.seccomp == "unconfined":
        return b""
    if spec.seccomp != "default":
        raise RunnerError(f"unknown seccomp profile {spec.seccomp!r}", hint="default or unconfined")
    try:
        return compile_default(capabilities.parse(name) for name in process.capabilities)
    except ValueError as error:
        raise RunnerError(str(error), hint="run without it by --security-opt seccomp=unconfined") from None


def _not_ours(process: Process) -> list[str]:
    """We can't hand on what we do not have."""
    _, permitted, _ = capabilities.own()
    missing = capabilities.names(capabilities.mask(process.capabilities) & ~permitted)
    return [f"the container does not get {', '.join(missing)}: this process has not got it either"] if missing else []


def _lost_mknod(pid: int, spec: ContainerSpec) -> bool:
    """Did the first process start without the right to make devices, for want of a guard? Then later ones do too."""
    bit = capabilities.mask(("MKNOD",))
    try:
        with open(f"/proc/{pid}/status") as file:
            bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    except (OSError, StopIteration):
        return False
    return bool(capabilities.mask(spec.process.capabilities) & bit) and not bounding & bit


def _check(spec: ContainerSpec) -> None:
    if os.geteuid() != 0:
        raise MissingPrivilege("containers need root: namespaces and mounts take CAP_SYS_ADMIN", hint=NOT_ROOT)
    if spec.id in ("", ".", "..") or not all(part.isalnum() or part in "_.-" for part in spec.id):
        raise RunnerError(f"container id {spec.id!r} is not valid", hint="letters, digits, '_', '.' and '-'")
    if not spec.root.upper and not spec.root.lower:
        raise RunnerError("no root filesystem is given")
    if spec.namespaces.mount != "new":
        raise RunnerError("a container needs a mount namespace of its own")
    if spec.namespaces.user != "host":
        raise RunnerError("user namespaces are not supported yet", hint="leave the user namespace to be the host's")
    for name, _ in spec.sysctls:
        sysctl_path(name)
        if name.startswith("net.") and spec.namespaces.net == "host":
            raise RunnerError(f"sysctl {name} can't be set with the host's network")
    _check_process(spec.process)


def _check_process(process: Process) -> None:
    if not process.args or not process.args[0]:
        raise RunnerError("no command specified")
    if any("\0" in text for text in (*process.args, *process.env, process.cwd, process.user)):
        raise RunnerError("a NUL byte in the command, its environment or its directory")
    try:
        capabilities.mask(process.capabilities)
    except ValueError as error:
        raise RunnerError(str(error)) from None


@dataclass(frozen=True)
class _Joined:
    """Namespaces as descriptors: those to join, the kinds to make anew, and what becomes of the PID namespace."""

    joined: tuple[tuple[int, int], ...]  # flag, descriptor
    new: int
    pid: int | str | None  # descriptor, None for a new one, "host"
    opened: tuple[int, ...]

    @classmethod
    def open(cls, spec: ContainerSpec, fds: Sequence[int]) -> "_Joined":
        wanted = spec.namespaces
        joined: list[tuple[int, int]] = []
        opened: list[int] = []
        new = calls.CLONE_NEWNS
        pid: int | str | None = None
        kinds = {"pid": wanted.pid, "net": wanted.net, "ipc": wanted.ipc, "uts": wanted.uts, "cgroup": wanted.cgroup}
        for kind, choice in kinds.items():
            flag = namespaces.FLAGS[kind]
            if choice == "host":
                pid = "host" if kind == "pid" else pid
            elif choice == "new":
                new |= flag if kind != "pid" else 0
            else:
                fd = handed_over(choice, fds) if choice.startswith("fd:") else _opened(kind, choice, opened)
                if kind == "pid":
                    pid = fd
                else:
                    joined.append((flag, fd))
        return cls(tuple(joined), new, pid, tuple(opened))

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(fd for _, fd in self.joined)

    def close(self) -> None:
        for fd in self.opened:
            os.close(fd)


def _opened(kind: str, path: str, opened: list[int]) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RunnerError(f"{kind} namespace {path}: {error.strerror}") from None
    opened.append(fd)
    return fd


# --- the child's side -------------------------------------------------------------------------------------------------


def _child(act: Callable[[ChildSide], None], sock: socket.socket, keep: Sequence[int]) -> NoReturn:
    """Nothing but a report leaves this process: not an exception, not a byte of the caller's buffers."""
    channel = ChildSide(sock)
    try:
        calls.prctl(calls.PR_SET_DUMPABLE, 0)  # nobody inside may look at us or our descriptors (CVE-2016-9962)
        _close_all_but((*keep, channel.fileno()))
        os.setsid()
        os.umask(0)  # modes below are meant as they are written; the program's own mask comes last
        act(channel)
    except BaseException as error:  # noqa: BLE001 -- it is told to the parent, who raises it
        channel.fail(error)
    os._exit(1)


def _close_all_but(keep: Sequence[int]) -> None:
    last = -1
    for fd in sorted({0, 1, 2, *keep}):
        if fd > last + 1:
            calls.close_range(last + 1, fd - 1, cloexec=False)
        last = fd
    calls.close_range(last + 1, 0x7FFFFFFF, cloexec=False)


def _first_process(spec: ContainerSpec, plan: Plan, ns: _Joined, channel: ChildSide, fds: Sequence[int]) -> None:
    channel.stage = "out-of-memory score"
    _oom_score(spec.process, channel)
    channel.stage = "mount sources"
    spec = _with_init(spec)
    sources = open_sources(spec, fds)
    channel.stage = "namespaces"
    for flag, fd in ns.joined:
        calls.setns(fd, flag)
    if ns.new & calls.CLONE_NEWCGROUP:
        channel.wait_until_joined()  # the group at this moment becomes the root of the namespace
    calls.unshare(ns.new)
    if ns.new & calls.CLONE_NEWNET:
        namespaces.loopback_up()
    channel.stage = "mount propagation"
    calls.mount("none", "/", None, calls.MS_REC | calls.MS_PRIVATE)
    channel.stage = "root filesystem"
    tree = Tree(spec.root)
    tree.attach_to_host_tree()
    guarded = channel.wait_until_made()
    if not guarded:
        plan = replace(plan, process=_without_mknod(plan.process))
        tree.forbid_devices(sources.values())
    channel.stage = "mounts"
    tree.mount_all(spec.mounts, sources, Cgroup.named(cgroup_path(spec)), own=bool(ns.new & calls.CLONE_NEWCGROUP))
    console = None
    if _brings_own_dev(spec.mounts):
        channel.stage = "devices"
        tree.make_devices(spec.devices)
    if spec.process.terminal:
        channel.stage = "terminal"
        console, terminal = tree.open_terminal()
        plan = replace(plan, terminal=terminal)
    channel.stage = "host name"
    if spec.hostname and spec.namespaces.uts != "host":
        calls.sethostname(spec.hostname)
    if spec.domainname and spec.namespaces.uts != "host":
        calls.setdomainname(spec.domainname)
    channel.stage = "sysctls"
    tree.write_sysctls(spec.sysctls)
    channel.stage = "read-only paths"
    tree.make_readonly(spec.readonly_paths)
    channel.stage = "masked paths"
    tree.mask(spec.masked_paths)
    channel.stage = "pivot_root"
    tree.enter()
    channel.stage = "working directory"
    make_directory(plan.process.cwd)
    if spec.root.read_only:
        tree.make_root_readonly()
    stay = [fd for fd in (*plan.streams, channel.fileno(), plan.terminal, console) if fd is not None]
    _close_all_but(stay)
    run_program(plan, channel, console, tree.stubs)


def _without_mknod(process: Process) -> Process:
    keep = tuple(name for name in process.capabilities if capabilities.parse(name) != "CAP_MKNOD")
    return replace(process, capabilities=keep)


def _next_process(pidfd: int, plan: Plan, channel: ChildSide) -> None:
    channel.stage = "out-of-memory score"
    _oom_score(plan.process, channel)
    channel.wait_until_joined()  # whatever is opened inside is subject to the container's device rules
    channel.stage = "namespaces"
    flags = 0
    for flag in namespaces.FLAGS.values():
        flags |= flag
    calls.setns(pidfd, flags)
    os.close(pidfd)
    console = None
    if plan.process.terminal:
        channel.stage = "terminal"
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        console, terminal = open_pty(root)
        os.close(root)
        plan = replace(plan, terminal=terminal)
    run_program(plan, channel, console, [])


def _with_init(spec: ContainerSpec) -> ContainerSpec:
    if not spec.init:
        return spec
    init = Mount(INIT, "bind", spec.init, ("ro",), create="file")
    return replace(spec, mounts=(*spec.mounts, init))


def _brings_own_dev(mounts: Sequence[Mount]) -> bool:
    """Nodes are made in a /dev of ours only, never in the host's that was bound there, nor in the image."""
    return any(os.path.normpath(mount.destination) == "/dev" and mount.type == "tmpfs" for mount in mounts)


def _oom_score(process: Process, channel: ChildSide) -> None:
    if process.oom_score_adj is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(process.oom_score_adj))
    except OSError as error:
        channel.warn(f"out-of-memory score {process.oom_score_adj} is not applied: {error.strerror}")
