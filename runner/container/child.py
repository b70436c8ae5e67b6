"""What happens between fork and execve: a forked process builds the container around itself.

Takes:    what launch.py has prepared, and a channel to tell of failures.
Promises: every descriptor of the caller that is not the container's is closed first; nobody inside can look at this
          process while it still holds something of the host.
Not here: the caller's side (launch.py), mounts (rootfs.py), the very last steps (finish.py).
"""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from runner.container.channel import ChildSide
from runner.container.finish import Plan, make_directory, run_program
from runner.container.rootfs import Tree, handed_over, open_pty, open_sources
from runner.container.spec import ContainerSpec, Mount, Process
from runner.errors import NoSuchContainer, RunnerError
from runner.kernel import calls, capabilities, namespaces
from runner.kernel.cgroups import Cgroup

INIT = "/sbin/docker-init"


@dataclass(frozen=True)
class JoinedNamespaces:
    """Namespaces as descriptors: those to join, the kinds to make anew, and what becomes of the PID namespace."""

    joined: tuple[tuple[int, int], ...]  # flag, descriptor
    new: int
    pid: int | str | None  # descriptor, None for a new one, "host"
    opened: tuple[int, ...]

    @classmethod
    def open(cls, spec: ContainerSpec, fds: Sequence[int]) -> "JoinedNamespaces":
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


def run_child(act: Callable[[ChildSide], None], sock: socket.socket, keep: Sequence[int]) -> NoReturn:
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


def first_process(
    spec: ContainerSpec,
    plan: Plan,
    ns: JoinedNamespaces,
    channel: ChildSide,
    *,
    fds: Sequence[int],
    cgroup: Cgroup,
    born: bool,
) -> None:
    """Build the container around us and become its program."""
    channel.stage = "out-of-memory score"
    _oom_score(spec.process, channel)
    channel.stage = "mount sources"
    spec = _with_init(spec)
    sources = open_sources(spec, fds)
    channel.stage = "namespaces"
    for flag, fd in ns.joined:
        calls.setns(fd, flag)
    calls.unshare(ns.new & ~calls.CLONE_NEWCGROUP)
    if ns.new & calls.CLONE_NEWNET:
        namespaces.loopback_up()
    channel.stage = "mount propagation"
    calls.mount("none", "/", None, calls.MS_REC | calls.MS_PRIVATE)
    channel.stage = "root filesystem"
    tree = Tree(spec.root)
    tree.attach_to_host_tree()
    channel.stage = "control group"
    guarded = channel.wait_until_made()
    cgroup = Cgroup.named(cgroup.path, cgroup.hierarchies)
    _join(cgroup, channel, born=born)
    if ns.new & calls.CLONE_NEWCGROUP:
        calls.unshare(calls.CLONE_NEWCGROUP)  # the group that we are in now is the root of the namespace
    if not guarded:
        plan = replace(plan, process=without_mknod(plan.process))
        tree.forbid_devices(sources.values())
    channel.stage = "mounts"
    tree.mount_all(spec.mounts, sources, cgroup, own=bool(ns.new & calls.CLONE_NEWCGROUP))
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


def without_mknod(process: Process) -> Process:
    keep = tuple(name for name in process.capabilities if capabilities.parse(name) != "CAP_MKNOD")
    return replace(process, capabilities=keep)


def next_process(pidfd: int, plan: Plan, channel: ChildSide, *, cgroup: Cgroup, born: bool) -> None:
    """Step into a container that runs and become a program there."""
    channel.stage = "out-of-memory score"
    _oom_score(plan.process, channel)
    channel.stage = "control group"
    _join(cgroup, channel, born=born)  # whatever is opened inside is subject to the container's device rules
    channel.stage = "namespaces"
    flags = 0
    for flag in namespaces.FLAGS.values():
        flags |= flag
    try:
        calls.setns(pidfd, flags)
    except ProcessLookupError:
        raise NoSuchContainer("the container is not running") from None
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


def _join(cgroup: Cgroup, channel: ChildSide, *, born: bool) -> None:
    told = len(cgroup.warnings)
    cgroup.join(0, born=born)
    for warning in cgroup.warnings[told:]:
        channel.warn(warning)
