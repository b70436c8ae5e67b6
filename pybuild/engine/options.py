"""What a user may ask of a container, in the words of docker's command line: parsed and checked. Pure.

Gives:    RunOptions, and one function for each form of value (sizes, volumes, limits, …).
Not here: what an image says (specs.py merges both), and where things lie on disk.
"""

import posixpath
import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pybuild.engine.names import check_name
from pybuild.errors import UsageError
from runner.container.spec import Resources, Rlimit

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_CPU_PERIOD = 100_000  # µs
_MODES = {
    "pid": ("host", "container:NAME"),
    "ipc": ("host", "private", "shareable", "container:NAME"),
    "uts": ("host",),
    "cgroupns": ("host", "private"),
}
_RLIMITS = {
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
}  # fmt: skip
_VOLUME_FLAGS = {
    "ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", "rprivate", "private", "rshared", "shared",
    "rslave", "slave", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "rbind", "bind",
}  # fmt: skip
_TMPFS_FLAGS = {"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"}
_TMPFS_DEFAULT = ("nosuid", "nodev", "noexec")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOption:
    """One of -v, --mount, --tmpfs. `source`: a host path for bind; a volume's name or "" (anonymous) for volume."""

    type: str  # bind, volume, tmpfs
    source: str = ""
    target: str
    read_only: bool = False
    options: tuple[str, ...] = ()
    create_source: bool = False  # -v makes a missing directory of the host, --mount refuses
    no_copy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOption:
    source: str
    target: str
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class Restart:
    """When a container that has ended is started again. `retries`: of on-failure; 0: no limit."""

    name: str = "no"  # no, always, unless-stopped, on-failure
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """A container as asked for. What is empty or None is left to the image or to the defaults."""

    image: str
    command: tuple[str, ...] = ()
    name: str = ""
    platform: str = ""
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()  # NAME=value, or NAME alone: taken out of the image's
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    group_add: tuple[str, ...] = ()
    working_dir: str = ""
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    interactive: bool = False
    attached: bool = True  # not --detach
    stdin_once: bool | None = None  # its input ends with the first who typed; None: if it is attached
    auto_remove: bool = False
    restart: Restart = field(default_factory=Restart)
    volumes_from: tuple[str, ...] = ()  # containers whose mounts it has too, each with :ro or :rw
    mounts: tuple[MountOption, ...] = ()
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    network: str = "bridge"
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    add_host: tuple[tuple[str, str], ...] = ()
    resources: Resources = field(default_factory=Resources)
    ulimits: tuple[Rlimit, ...] = ()
    shm_size: int = 0
    oom_score_adj: int | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    seccomp: str = "default"
    no_new_privileges: bool = False
    unmasked: bool = False
    devices: tuple[DeviceOption, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    cgroup_parent: str = ""
    read_only: bool = False
    init: bool = False
    stop_signal: str = ""
    stop_timeout: int | None = None

    @property
    def closes_stdin(self) -> bool:
        """Whether the input ends when the first who attached to it ends it, or leaves."""
        return self.attached if self.stdin_once is None else self.stdin_once


def parse_restart(text: str) -> Restart:
    """`no`, `always`, `unless-stopped`, `on-failure[:TRIES]`."""
    name, colon, tries = text.partition(":")
    known = ("no", "always", "unless-stopped", "on-failure")
    if name not in known or (colon and (name != "on-failure" or not tries.isdigit())):
        raise UsageError(f"unknown restart policy {text!r}", hint=f"known: {', '.join(known)}, on-failure:TRIES")
    return Restart(name, int(tries or 0))


def parse_size(text: str) -> int:
    """Bytes of `512m`, `1.5g`, `64k`, `1024`, `2GiB`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not a size: {text!r}", hint="write a number of bytes, or one with k, m or g, like 512m")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_resources(
    *,
    memory: str = "",
    memory_swap: str = "",
    memory_reservation: str = "",
    cpus: str = "",
    cpu_shares: int = 0,
    cpu_quota: int = 0,
    cpu_period: int = 0,
    cpuset_cpus: str = "",
    cpuset_mems: str = "",
    pids_limit: int = 0,
    blkio_weight: int = 0,
) -> Resources:
    """The limits, checked against each other as docker does."""
    limit = parse_size(memory) if memory else 0
    if 0 < limit < 6 << 20:
        raise UsageError("--memory is below 6m", hint="no container can live with less")
    swap = -1 if memory_swap == "-1" else parse_size(memory_swap) if memory_swap else 0
    if swap > 0 and not limit:
        raise UsageError("--memory-swap needs --memory", hint="give both; the first is memory and swap together")
    if 0 < swap < limit:
        raise UsageError("--memory-swap is less than --memory", hint="it counts memory and swap together")
    if cpus and (cpu_quota or cpu_period):
        raise UsageError("--cpus goes without --cpu-quota and --cpu-period", hint="--cpus sets both")
    if cpus:
        cpu_quota, cpu_period = _cpu_quota(cpus), _CPU_PERIOD
    return Resources(
        memory=limit, memory_swap=swap, memory_reservation=parse_size(memory_reservation) if memory_reservation else 0,
        cpu_shares=cpu_shares, cpu_quota=cpu_quota, cpu_period=cpu_period, cpuset_cpus=cpuset_cpus,
        cpuset_mems=cpuset_mems, pids=max(pids_limit, 0), blkio_weight=blkio_weight,
    )  # fmt: skip


def _cpu_quota(cpus: str) -> int:
    try:
        quota = int(float(cpus) * _CPU_PERIOD)
    except (ValueError, OverflowError):
        quota = 0
    if quota < 1000:  # the kernel's least: 1 ms in a period
        raise UsageError(f"not a number of CPUs: {cpus!r}", hint="write one of at least 0.01, like 1.5")
    return quota


def parse_volume(text: str, cwd: str = "/") -> MountOption:
    """`-v`: `/host:/in[:options]`, `./relative:/in`, `name:/in`, `/in` (anonymous)."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"not a volume: {text!r}", hint="write host-path-or-name:container-path[:ro]")
    source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
    flags = parts[2].split(",") if len(parts) == 3 else []
    if unknown := [flag for flag in flags if flag not in _VOLUME_FLAGS]:
        raise UsageError(f"unknown volume option {unknown[0]!r} in {text!r}", hint="known: ro, rw, nocopy, rshared, …")
    is_path = source.startswith((".", "/", "~"))
    if source and not is_path:
        check_name(source)
    kept = tuple(
        flag for flag in flags if flag not in {"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"}
    )
    return MountOption(
        type="bind" if is_path else "volume",
        source=posixpath.normpath(posixpath.join(cwd, source)) if is_path else source,
        target=_target(target),
        read_only="ro" in flags,
        options=kept,
        create_source=True,
        no_copy="nocopy" in flags,
    )


def parse_mount(text: str, cwd: str = "/") -> MountOption:
    """`--mount type=bind|volume|tmpfs,source=…,target=…[,readonly][,…]`."""
    found: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        found[_MOUNT_KEYS.get(key.strip().lower(), key.strip().lower())] = value if equals else "true"
    kind, target = found.pop("type", "volume"), found.pop("target", "")
    source = found.pop("source", "")
    read_only = _flag(found.pop("readonly", "false"))
    options: tuple[str, ...] = ()
    if kind == "bind":
        if not source:
            raise UsageError(f"--mount {text!r} has no source", hint="write type=bind,source=/host/path,target=/path")
        source = posixpath.normpath(posixpath.join(cwd, source))
        options = tuple(filter(None, [found.pop("bind-propagation", "")]))
    elif kind == "tmpfs":
        options = tuple(_tmpfs_of_mount(found))
    elif kind == "volume":
        source = check_name(source) if source else ""
    else:
        raise UsageError(f"--mount of unknown type {kind!r}", hint="known: bind, volume, tmpfs")
    no_copy = _flag(found.pop("volume-nocopy", "false"))
    if found:
        raise UsageError(f"--mount does not know {next(iter(found))!r}", hint="see `pybuild run --help`")
    if not target:
        raise UsageError(f"--mount {text!r} has no target", hint="write target=/path/in/the/container")
    return MountOption(
        type=kind, source=source, target=_target(target), read_only=read_only, options=options, no_copy=no_copy
    )


_MOUNT_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}


def _flag(text: str) -> bool:
    return text.lower() in {"true", "1", ""}


def _tmpfs_of_mount(found: dict[str, str]) -> Iterable[str]:
    yield from _TMPFS_DEFAULT
    if size := found.pop("tmpfs-size", ""):
        yield f"size={parse_size(size)}"
    if mode := found.pop("tmpfs-mode", ""):
        yield f"mode={mode}"


def parse_tmpfs(text: str) -> MountOption:
    """`--tmpfs /run[:size=64m,mode=1777,exec]`; noexec, nosuid and nodev unless told otherwise."""
    target, _, rest = text.partition(":")
    chosen = list(_TMPFS_DEFAULT)
    for flag in filter(None, rest.split(",")):
        key = flag.partition("=")[0]
        if flag in _TMPFS_FLAGS:
            opposite = flag.removeprefix("no") if flag.startswith("no") else f"no{flag}"
            chosen = [kept for kept in chosen if kept not in {opposite, flag}]
            chosen.append(flag)
        elif key in {"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"}:
            chosen.append(flag)
        else:
            raise UsageError(f"unknown tmpfs option {flag!r}", hint="known: size, mode, uid, gid, exec, suid, dev, ro")
    return MountOption(
        type="tmpfs", target=_target(target), read_only="ro" in chosen,
        options=tuple(flag for flag in chosen if flag not in {"ro", "rw", "exec", "suid", "dev"}),
    )  # fmt: skip


def _target(path: str) -> str:
    if not path.startswith("/"):
        raise UsageError(f"mount path must be absolute: {path!r}", hint=f"write /{path}")
    normal = posixpath.normpath(path)
    if normal in {"/", "//"}:
        raise UsageError("nothing can be mounted over / of a container", hint="choose a directory below it")
    return normal


def parse_mode(text: str, option: str) -> str:
    """Whose namespace `--pid`, `--ipc`, `--uts` or `--cgroupns` asks for; empty: the default."""
    known = _MODES[option]
    if text and text not in known and not ("container:NAME" in known and text.startswith("container:")):
        raise UsageError(f"--{option} {text}: no such choice", hint=f"known: {', '.join(known)}")
    return text


def parse_cgroup_parent(text: str) -> str:
    if ".." in text.split("/"):
        raise UsageError(f"--cgroup-parent {text} leads out of the control groups", hint="write a path without ..")
    return text


def parse_address(text: str, option: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError:
        raise UsageError(f"--{option} {text}: not an address", hint="write one like 9.9.9.9 or fd00::1") from None


def parse_ulimit(text: str) -> Rlimit:
    """`nofile=1024[:2048]`; -1 is unlimited."""
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    numbers = re.compile(r"-1|\d+|unlimited")
    if name not in _RLIMITS or not numbers.fullmatch(soft) or not numbers.fullmatch(hard or soft):
        raise UsageError(f"not a ulimit: {text!r}", hint="write name=soft[:hard], like nofile=1024:2048")
    low, high = (-1 if value == "unlimited" else int(value) for value in (soft, hard or soft))
    if high != -1 and (low > high or low == -1):
        raise UsageError(f"ulimit {text!r}: the soft limit is above the hard one", hint="write name=soft:hard")
    return Rlimit(name, low, high)


def parse_device(text: str) -> DeviceOption:
    """`/dev/fuse[:/dev/inside][:rwm]`."""
    source, *rest = text.split(":")
    access = rest.pop() if rest and re.fullmatch(r"[rwm]{1,3}", rest[-1]) else "rwm"
    if len(rest) > 1 or not source.startswith("/") or (rest and not rest[0].startswith("/")):
        raise UsageError(f"not a device: {text!r}", hint="write /dev/on-host[:/dev/in-container[:rwm]]")
    return DeviceOption(source=source, target=posixpath.normpath(rest[0] if rest else source), access=access)


def parse_env(entries: Iterable[str], host: Mapping[str, str]) -> tuple[str, ...]:
    """`NAME=value`, or `NAME` alone: its value on the host; if it has none there, it is taken out of the image's."""
    found = []
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if not name or "\0" in entry:
            raise UsageError(f"not an environment variable: {entry!r}", hint="write NAME=value")
        found.append(entry if equals else f"{name}={host[name]}" if name in host else name)
    return tuple(found)


def parse_env_file(text: str, where: str) -> list[str]:
    """Lines `NAME=value` or `NAME`; # begins a comment at the start of a line; nothing is unquoted, as in docker."""
    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name or any(character.isspace() for character in name):
            raise UsageError(f"{where}:{number}: not an environment variable: {line!r}", hint="write NAME=value")
        found.append(line)
    return found


def parse_labels(entries: Iterable[str]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in entries)


def parse_pairs(entries: Iterable[str], what: str, separators: str = "=") -> tuple[tuple[str, str], ...]:
    """`name=value` of --sysctl, `name:address` of --add-host."""
    found = []
    for entry in entries:
        parts = re.split(f"[{re.escape(separators)}]", entry, maxsplit=1)
        if len(parts) != 2 or not all(parts):
            raise UsageError(f"--{what}: not a pair: {entry!r}", hint=f"write name{separators[0]}value")
        found.append((parts[0], parts[1].strip("[]")))
    return tuple(found)


def parse_security(entries: Iterable[str]) -> dict[str, Any]:
    """`--security-opt`: the fields of RunOptions that it sets."""
    found: dict[str, Any] = {}
    for entry in entries:
        key, value = re.split(r"[=:]", entry, maxsplit=1) if re.search(r"[=:]", entry) else (entry, "true")
        if key == "no-new-privileges":
            found["no_new_privileges"] = _flag(value)
        elif (key, value) == ("seccomp", "unconfined"):
            found["seccomp"] = "unconfined"
        elif (key, value) == ("systempaths", "unconfined"):
            found["unmasked"] = True
        elif key == "seccomp":
            raise UsageError("seccomp profiles from files are not supported yet", hint="use seccomp=unconfined or none")
        elif key not in {"label", "apparmor"}:  # neither is in force here, so there is nothing to switch
            raise UsageError(f"unknown --security-opt {entry!r}", hint="known: seccomp=unconfined, no-new-privileges")
    return found


def parse_signal(text: str) -> int:
    """A number, `TERM` or `SIGTERM`."""
    name = text.upper().removeprefix("SIG")
    if text.isdigit() and 1 <= int(text) <= signal.SIGRTMAX:
        return int(text)
    if match := re.fullmatch(r"RTMIN(?:\+(\d+))?", name):
        return min(signal.SIGRTMIN + int(match[1] or 0), signal.SIGRTMAX)
    found = getattr(signal, f"SIG{name}", None)
    if not isinstance(found, signal.Signals):
        raise UsageError(f"unknown signal: {text!r}", hint="write a number, or a name like SIGTERM or HUP")
    return int(found)


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q`, `a,ctrl-x`: the bytes that a terminal sends for them."""
    found = bytearray()
    for key in text.split(","):
        if len(key) == 1:
            found += key.encode()
        elif len(key) == 6 and key.startswith("ctrl-") and (key[5].isalpha() or key[5] in "@[\\]^_"):
            found.append(ord(key[5].upper()) & 0x1F)
        else:
            raise UsageError(f"not a key: {key!r}", hint="write single characters or ctrl-x, separated by commas")
    return bytes(found)
