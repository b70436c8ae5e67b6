"""What a container runs, from what its image says and what its user asks: docker's rules of precedence.

Gives:    make_record() when a container is created, make_spec() each time it starts, exec_process() for an exec.
Not here: where mounts come from on the host (volumes.py), and who does it all (containers.py).
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pybuild.engine.options import DeviceOption, RunOptions, parse_signal
from pybuild.engine.records import Record
from pybuild.errors import UsageError
from runner.container.defaults import (
    CAPABILITIES,
    DEVICES,
    MASKED_PATHS,
    READONLY_PATHS,
    SHM_SIZE,
    all_capabilities,
    default_env,
    default_mounts,
    default_namespaces,
    default_sysctls,
)
from runner.container.spec import ContainerSpec, Device, Mount, Namespaces, Process, RootFilesystem
from runner.kernel.capabilities import parse as parse_capability

if TYPE_CHECKING:
    from registry.model import RunConfig

DEFAULT_STOP_SIGNAL, DEFAULT_STOP_TIMEOUT = "SIGTERM", 10
_INITS = ("/usr/bin/tini-static", "/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/bin/tini")
_ETC = ("resolv.conf", "hostname", "hosts")
_PROPAGATION = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}


class Upper(Protocol):
    """The part of builder.snapshots.Snapshot that is used here."""

    @property
    def lower(self) -> tuple[str, ...]: ...
    @property
    def upper(self) -> str: ...
    @property
    def work(self) -> str: ...


def make_record(
    options: RunOptions, config: "RunConfig", *, container_id: str, image_id: str, created: str, platform: str
) -> Record:
    """Merge the image's configuration and the options. Raises UsageError: nothing to run, unknown values."""
    entrypoint, cmd = command_of(options, config)
    if not entrypoint and not cmd:
        raise UsageError("no command specified, and the image has none", hint="write one after the image's name")
    stop_signal = options.stop_signal or config.stop_signal or DEFAULT_STOP_SIGNAL
    parse_signal(stop_signal)
    capabilities_of(options)  # unknown names are refused now, not at the start
    for name, _ in options.sysctls:
        if name.startswith("net.") and options.network == "host":
            raise UsageError(f"--sysctl {name} goes with a network of its own", hint="leave out --network host")
    timeout = DEFAULT_STOP_TIMEOUT if options.stop_timeout is None else options.stop_timeout
    return Record(
        id=container_id,
        name=options.name,
        created=created,
        image=options.image,
        image_id=image_id,
        entrypoint=entrypoint,
        cmd=cmd,
        env=merge_env(config.env, options.env),
        working_dir=options.working_dir or config.working_dir or "/",
        user=options.user or config.user,
        labels={**config.labels, **options.labels},
        exposed_ports=tuple(sorted({*config.exposed_ports, *map(_exposed, options.expose)})),
        stop_signal=stop_signal,
        stop_timeout=timeout,
        options=options,
        platform=platform,
    )


def command_of(options: RunOptions, config: "RunConfig") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and command. An entrypoint that the user gives drops the image's command."""
    if options.entrypoint is not None:
        return tuple(filter(None, options.entrypoint)), options.command
    return config.entrypoint or (), options.command or config.cmd or ()


def merge_env(image: Sequence[str], user: Sequence[str]) -> tuple[str, ...]:
    """The user's variables win; a name without value takes the image's one out."""
    found = dict(entry.partition("=")[::2] for entry in image)
    for entry in user:
        name, equals, value = entry.partition("=")
        if equals:
            found[name] = value
        else:
            found.pop(name, None)
    return tuple(f"{name}={value}" for name, value in found.items())


def _exposed(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def capabilities_of(options: RunOptions) -> tuple[str, ...]:
    """ALL in both lists, then single names: what is dropped goes, what is added comes."""
    everything = all_capabilities()
    if options.privileged:
        return everything
    added = [_capability(name) for name in options.cap_add]
    dropped = {_capability(name) for name in options.cap_drop}
    chosen = list(everything) if "CAP_ALL" in added else [] if "CAP_ALL" in dropped else list(CAPABILITIES)
    chosen = [name for name in chosen if name not in dropped]
    return tuple(dict.fromkeys([*chosen, *(name for name in added if name != "CAP_ALL")]))


def _capability(text: str) -> str:
    if text.upper().removeprefix("CAP_") == "ALL":
        return "CAP_ALL"
    try:
        return parse_capability(text)
    except ValueError:
        raise UsageError(
            f"unknown capability: {text!r}", hint="write a name of capabilities(7), like NET_ADMIN, or ALL"
        ) from None


@dataclass(frozen=True, slots=True)
class Placement:
    """What the engine has made ready for one start."""

    root: Upper
    directory: Path  # of the container; holds resolv.conf, hostname and hosts unless `etc` says otherwise
    net: str  # as in Namespaces.net
    etc: Path | None = None  # of the container whose network this one joins
    pid: str = ""
    ipc: str = ""
    console_size: tuple[int, int] = (0, 0)


def make_spec(record: Record, placement: Placement) -> ContainerSpec:
    options = record.options
    unmasked = options.privileged or options.unmasked
    namespaces = _namespaces(options, placement)
    return ContainerSpec(
        id=record.id,
        root=RootFilesystem(placement.root.lower, placement.root.upper, placement.root.work, options.read_only),
        process=Process(
            args=record.argv,
            env=_process_env(record, options.tty),
            cwd=record.working_dir,
            user=record.user,
            additional_groups=options.group_add,
            capabilities=capabilities_of(options),
            rlimits=options.ulimits,
            no_new_privileges=options.no_new_privileges,
            terminal=options.tty,
            console_size=placement.console_size,
            oom_score_adj=options.oom_score_adj,
        ),
        mounts=tuple(_mounts(record, placement)),
        namespaces=namespaces,
        hostname="" if options.uts == "host" else record.hostname,
        domainname=options.domainname,
        resources=options.resources,
        cgroup_parent=options.cgroup_parent,
        devices=tuple(_devices(options)),
        all_devices=options.privileged,
        masked_paths=() if unmasked else MASKED_PATHS,
        readonly_paths=() if unmasked else READONLY_PATHS,
        sysctls=tuple({**dict(default_sysctls(own_net=options.network != "host")), **dict(options.sysctls)}.items()),
        seccomp="unconfined" if options.privileged else options.seccomp,
        init=_init() if options.init else "",
    )


def exec_process(
    record: Record,
    argv: Sequence[str],
    *,
    env: Sequence[str] = (),
    user: str = "",
    working_dir: str = "",
    tty: bool = False,
    privileged: bool = False,
    console_size: tuple[int, int] = (0, 0),
) -> Process:
    """Another process beside the container's first, as whom and with what that one runs, unless told otherwise."""
    options = record.options
    environment = dict(entry.partition("=")[::2] for entry in _process_env(record, tty))
    environment |= dict(entry.partition("=")[::2] for entry in env if "=" in entry)
    return Process(
        args=tuple(argv),
        env=tuple(f"{name}={value}" for name, value in environment.items()),
        cwd=working_dir or record.working_dir,
        user=user or record.user,
        additional_groups=() if user else options.group_add,
        capabilities=all_capabilities() if privileged else capabilities_of(options),
        rlimits=options.ulimits,
        no_new_privileges=options.no_new_privileges,
        terminal=tty,
        console_size=console_size,
    )


def _process_env(record: Record, tty: bool) -> tuple[str, ...]:
    found = dict(entry.partition("=")[::2] for entry in default_env(hostname=record.hostname, terminal=tty))
    found |= dict(entry.partition("=")[::2] for entry in record.env)
    return tuple(f"{name}={value}" for name, value in found.items())


def _namespaces(options: RunOptions, placement: Placement) -> Namespaces:
    standard = default_namespaces(net=placement.net, privileged=options.privileged)
    choices: Mapping[str, str] = {"host": "host", "private": "new"}
    return Namespaces(
        pid=placement.pid or choices.get(options.pid, "new"),
        net=placement.net,
        ipc=placement.ipc or choices.get(options.ipc, "new"),
        uts=choices.get(options.uts, "new"),
        cgroup=choices.get(options.cgroupns, standard.cgroup),
    )


def _mounts(record: Record, placement: Placement) -> Iterable[Mount]:
    options = record.options
    chosen = {mount.destination for mount in record.mounts}
    host_ipc = options.ipc == "host"
    for mount in default_mounts(shm_size=options.shm_size or SHM_SIZE, privileged=options.privileged):
        if mount.destination in chosen:
            continue
        if host_ipc and mount.destination in {"/dev/shm", "/dev/mqueue"} and os.path.isdir(mount.destination):
            mount = Mount(mount.destination, "bind", mount.destination, ("rbind", "rprivate"))
        yield mount
    etc_access = ("ro",) if record.options.read_only else ()  # as docker does: read-only means these too
    for name in _ETC:
        if f"/etc/{name}" not in chosen:
            source = (placement.etc or placement.directory) / name
            if source.exists():
                yield Mount(f"/etc/{name}", "bind", str(source), ("rbind", "rprivate", *etc_access), create="file")
    for point in sorted(record.mounts, key=lambda point: point.destination.count("/")):
        access = ("ro",) if point.read_only else ()
        if point.type == "tmpfs":
            yield Mount(point.destination, "tmpfs", "tmpfs", (*point.options, *access))
        else:
            propagation = () if _PROPAGATION & set(point.options) else ("rprivate",)
            yield Mount(point.destination, "bind", point.source, ("rbind", *propagation, *point.options, *access))


def _devices(options: RunOptions) -> Iterable[Device]:
    for wanted in options.devices:
        yield _device(wanted)
    if options.privileged:
        yield from _host_devices()


def _device(wanted: DeviceOption) -> Device:
    try:
        found = os.stat(wanted.source)
    except OSError as error:
        raise UsageError(f"device {wanted.source}: {error.strerror}", hint="it must be there on the host") from None
    if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        raise UsageError(f"{wanted.source} is not a device", hint="to show a file in a container use -v")
    return _node(wanted.target, found, wanted.access)


def _host_devices() -> Iterable[Device]:
    """All the nodes of the host's /dev, for a privileged container; terminals and shared memory have their own."""
    ours = {"/dev/console", "/dev/ptmx", *(device.path for device in DEVICES)}
    for directory, below, names in os.walk("/dev"):
        below[:] = [name for name in below if name not in {"pts", "shm", "mqueue", "fd"}]
        for name in names:
            path = f"{directory}/{name}"
            try:
                found = os.lstat(path)
            except OSError:
                continue
            if (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)) and path not in ours:
                yield _node(path, found, "rwm")


def _node(path: str, found: os.stat_result, access: str) -> Device:
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c"
    return Device(
        path, kind, os.major(found.st_rdev), os.minor(found.st_rdev), stat.S_IMODE(found.st_mode), access=access
    )


def _init() -> str:
    for path in _INITS:
        if os.access(path, os.X_OK):
            return path
    raise UsageError("--init: no init program on this machine", hint="install tini (Debian: apt install tini)")
