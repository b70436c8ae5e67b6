"""RUN: a container of the runner on the step's own copy of the root file system (reference §1.6).

Promises: the container gets no variable, descriptor or file of the builder's that the Dockerfile and the user did not
          ask for; secrets are never on a disk; what the step's mounts needed is gone from its layer; nothing of the
          step outlives it, however it ends.
Not here: whether the step must run at all (solver/).
"""

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.ops.emulation import check_runnable
from builder.ops.files import Files
from builder.ops.mounts import MountMaker, Parts, memory_file
from builder.ops.output import OutputLog, StepFailed
from builder.ops.stubs import Stubs
from builder.ops.workshop import Workshop, closing
from builder.plan.vertices import RunOp
from builder.progress import Step
from builder.snapshots import Snapshot
from runner.container import defaults
from runner.container.client import Exit
from runner.container.spec import ContainerSpec, Mount, Process, RootFilesystem
from runner.kernel.mounts import overlay_tree
from runner.network import hosts_file, resolv_conf

_READ = 64 * 1024
_OWN = ("/proc", "/sys", "/dev")  # what lies below these is no part of the root file system


def run_command(
    op: RunOp, sources: Sequence[Files], snapshot: Snapshot, shop: Workshop, step: Step, *, epoch: int
) -> int:
    """Run the command in the snapshot; says 0, for a command has no input with a time but what it stands on.

    Args:
        op: the command.
        sources: what the vertex's further inputs gave.
        snapshot: the root file system, writable, not mounted.
        shop: the build's surroundings.
        step: gets the output.
        epoch: SOURCE_DATE_EPOCH for the command.

    Raises:
        StepFailed: it ended with another code than 0, or could not be started.
        BuilderError: it is for a processor that this machine can't run.
    """
    if op.platform:
        check_runnable(op.platform)
    with contextlib.ExitStack() as undo:
        parts = Parts(env=dict(op.env))
        parts.env.update(op.proxies)
        parts.env.setdefault("SOURCE_DATE_EPOCH", str(epoch))
        container = f"build-{os.getpid()}-{secrets.token_hex(8)}"
        net = _network(op, shop, parts, undo)
        MountMaker(op, sources, shop, step, parts, undo).add_all()
        with _stubs(snapshot, parts.mounts):
            _run(op, _spec(op, container, snapshot, net, parts), parts.fds, shop, step)
    return 0


def _run(op: RunOp, spec: ContainerSpec, fds: Sequence[int], shop: Workshop, step: Step) -> None:
    shop.cancellation.check()
    with OutputLog(shop.logs / f"{step.number}.log", step.log) as log, open(os.devnull, "rb") as nothing:
        for device in op.devices:
            log.write(f"warning: there is no device {device}: the step runs without it\n".encode())
        reading, writing = os.pipe()
        with closing(reading):
            with closing(writing):
                running = shop.supervisor.run(spec, stdin=nothing.fileno(), stdout=writing, stderr=writing, fds=fds)
            with running, shop.cancellation.stopping(running.kill):
                for warning in running.warnings:
                    log.write(f"warning: {warning}\n".encode())
                while data := os.read(reading, _READ):
                    log.write(data)
                ended = running.wait()
    shop.cancellation.check()
    if ended.code or ended.error:
        raise StepFailed(_how_it_ended(op, ended), log=log.path, tail=log.tail)


def _how_it_ended(op: RunOp, ended: Exit) -> str:
    text = f'process "{op.shown}" did not complete successfully: exit code: {ended.code}'
    if ended.oom_killed:
        text += " (killed: out of memory)"
    return f"{text}: {ended.error}" if ended.error else text


def _spec(op: RunOp, container: str, snapshot: Snapshot, net: str, parts: Parts) -> ContainerSpec:
    insecure = op.security == "insecure"
    return ContainerSpec(
        id=container,
        root=RootFilesystem(snapshot.lower, snapshot.upper, snapshot.work),
        process=Process(
            args=op.args,
            env=tuple(f"{name}={value}" for name, value in parts.env.items()),
            cwd=op.cwd,
            user=op.user,
            capabilities=defaults.all_capabilities() if insecure else defaults.CAPABILITIES,
        ),
        mounts=(*defaults.default_mounts(privileged=insecure), *parts.mounts),
        namespaces=defaults.default_namespaces(net=net, privileged=insecure),
        hostname=op.hostname,
        masked_paths=() if insecure else defaults.MASKED_PATHS,
        readonly_paths=() if insecure else defaults.READONLY_PATHS,
        sysctls=defaults.default_sysctls(own_net=net != "host"),
        seccomp="unconfined" if insecure else "default",
        all_devices=insecure,
    )


def _network(op: RunOp, shop: Workshop, parts: Parts, undo: contextlib.ExitStack) -> str:
    """The container's network namespace, and the files that name hosts and servers."""
    address, gateway = "", "127.0.0.1"
    host = _read("/etc/resolv.conf")
    if op.network == "host":
        net = "host"
    elif op.network == "none":
        net = "new"
    else:
        # A step that may change its network keeps it for itself.
        attachment = undo.enter_context(shop.networks.borrowed(again=op.security == "sandbox"))
        net, address, gateway = parts.add_fd(attachment.netns), attachment.address, attachment.gateway
        host = resolv_conf(host)
    hosts = [(name, gateway if where == "host-gateway" else where) for name, where in op.hosts]
    texts = {"/etc/resolv.conf": host, "/etc/hosts": hosts_file(op.hostname, address or "127.0.0.1", hosts)}
    for path, text in texts.items():
        source = parts.add_fd(undo.enter_context(memory_file(text.encode(), 0o644)))
        parts.mounts.append(Mount(path, "bind", source, ("ro", "nosuid", "nodev", "noexec"), "file"))
    return net


@contextlib.contextmanager
def _stubs(snapshot: Snapshot, mounts: Sequence[Mount]) -> Iterator[None]:
    """Mount points in the root file system while the body runs."""
    stubs = Stubs()
    inside = [Mount(path, "dir") for path in _OWN]
    inside += [
        mount
        for mount in mounts
        if not any(mount.destination == own or mount.destination.startswith(f"{own}/") for own in _OWN)
    ]
    with closing(overlay_tree(snapshot.lower, snapshot.upper, snapshot.work)) as root:
        for mount in inside:
            stubs.make(root, mount.destination, directory=mount.create != "file")
    try:
        yield
    finally:
        with closing(overlay_tree(snapshot.lower, snapshot.upper, snapshot.work)) as root:
            stubs.remove(root)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
