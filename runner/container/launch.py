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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.container import limits
from runner.container.channel import ChildSide, ParentSide, pair
from runner.container.child import INIT, JoinedNamespaces, first_process, next_process, run_child, without_mknod
from runner.container.defaults import DEVICE_RULES
from runner.container.finish import Plan
from runner.container.privileges import NOT_ROOT, check_privileges
from runner.container.rootfs import sysctl_path
from runner.container.spec import ContainerSpec, Process
from runner.errors import MissingPrivilege, NoSuchContainer, RunnerError
from runner.kernel import capabilities, devices, namespaces
from runner.kernel.cgroups import Cgroup, Hierarchies
from runner.kernel.seccomp import compile_default

CGROUP_PARENT = "/pybuild"


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
    ns = JoinedNamespaces.open(spec, fds)
    try:
        plan = Plan(
            id=spec.id, process=spec.process, filter=_filter(spec, spec.process),
            streams=(stdio.stdin, stdio.stdout, stdio.stderr), terminal=None, die_with_parent=die_with_parent,
            init=INIT if spec.init else "",
        )  # fmt: skip

        cgroup = Cgroup(cgroup_path(spec), Hierarchies.mounted())
        created = _fork(
            lambda channel, born: first_process(spec, plan, ns, channel, fds=fds, cgroup=cgroup, born=born),
            cgroup, lambda: _furnish(spec, cgroup), (*plan.streams, *fds, *ns.fds), pid_namespace=ns.pid,
        )  # fmt: skip
        cgroup.warnings += _not_ours(spec.process)
        return created
    finally:
        ns.close()


def enter(container_pid: int, spec: ContainerSpec, process: Process, stdio: Stdio) -> Created:
    """Another process in a container that runs; `spec` is the container's own.

    Raises:
        NoSuchContainer, RunnerError.
    """
    check_privileges()
    _check_process(process)
    cgroup = Cgroup.named(cgroup_path(spec))
    if cgroup.frozen:  # the new process would be too, before it has done anything
        raise RunnerError("the container is paused", hint="unpause it first")
    try:
        pidfd = os.pidfd_open(container_pid)
    except ProcessLookupError:
        raise NoSuchContainer("the container is not running") from None
    try:
        if _lost_mknod(container_pid, spec):
            process = without_mknod(process)
        plan = Plan(
            id=spec.id, process=process, filter=_filter(spec, process),
            streams=(stdio.stdin, stdio.stdout, stdio.stderr), terminal=None, die_with_parent=False,
        )  # fmt: skip

        return _fork(
            lambda channel, born: next_process(pidfd, plan, channel, cgroup=cgroup, born=born),
            cgroup, None, (*plan.streams, pidfd), pid_namespace=pidfd,
        )  # fmt: skip
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
    act: Callable[[ChildSide, bool], None],
    cgroup: Cgroup,
    furnish: Callable[[], bool] | None,
    keep: Sequence[int],
    *,
    pid_namespace: int | str | None,
) -> Created:
    """Fork a process that runs `act`; while it works, `furnish` the group that it is born in.

    `furnish` tells whether devices are guarded; None: the group is another process's, and ready.
    """
    ours, theirs = pair()
    pid = -1
    try:
        cradle = cgroup.make_cradle() if furnish else cgroup.directory("unified")
        joined = pid_namespace if isinstance(pid_namespace, int) else None
        pid, born = namespaces.fork_into(pid_namespace=joined, new_pid_namespace=pid_namespace is None, group=cradle)
        if pid == 0:
            ours.close()
            run_child(lambda channel: act(channel, born), theirs, keep)
    except OSError as error:
        raise _explained(error) from None
    finally:
        theirs.close()
        if pid < 0:
            ours.close()
            if furnish:
                cgroup.remove()
    channel = ParentSide(ours)
    created = Created(pid, os.pidfd_open(pid), None, cgroup, (), channel, furnish is not None)
    try:
        if furnish:
            channel.tell_made(guarded=furnish())
        created.console = channel.wait_until_ready()
        created.stubs = channel.stubs
    except BaseException:
        created.discard()
        raise
    return created


def _explained(error: OSError) -> RunnerError:
    if isinstance(error, PermissionError):
        return MissingPrivilege("a container needs CAP_SYS_ADMIN", hint=NOT_ROOT)
    if isinstance(error, ProcessLookupError):
        return NoSuchContainer("the container is not running")
    return RunnerError(f"can't start a process: {error.strerror}")


def _end(pid: int, pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _furnish(spec: ContainerSpec, cgroup: Cgroup) -> bool:
    """Make the whole group and set its limits; tells whether devices are guarded."""
    cgroup.make_rest()
    if cgroup.exists:
        for setting in limits.settings(spec.resources, cgroup.hierarchies.driver):
            cgroup.apply(setting)
    return _guard_devices(spec, cgroup)


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
    check_privileges()
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
