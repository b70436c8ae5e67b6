"""Docker's JSON of a container to be made → the engine's options. Pure.

What docker knows and we do not is refused when it would change what the container can do or reach, and is a warning
otherwise. Unknown fields are ignored, as docker does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from pybuild.api.problems import BadRequest, NotYet
from pybuild.engine import options as parse
from pybuild.engine.options import DeviceOption, MountOption, RunOptions
from pybuild.engine.options import Restart as RestartPolicy
from runner.container.spec import Resources, Rlimit

_Words = list[str] | str | None
_CPU_PERIOD = 100_000  # µs


class Binding(msgspec.Struct, rename="pascal"):
    host_ip: str | None = ""
    host_port: str | None = ""


class Restart(msgspec.Struct, rename="pascal"):
    name: str = ""
    maximum_retry_count: int = 0


class Ulimit(msgspec.Struct, rename="pascal"):
    name: str
    soft: int
    hard: int


class DeviceAsked(msgspec.Struct, rename="pascal"):
    path_on_host: str
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


class BindOptions(msgspec.Struct, rename="pascal"):
    propagation: str = ""
    create_mountpoint: bool = False


class VolumeOptions(msgspec.Struct, rename="pascal"):
    no_copy: bool = False
    subpath: str = ""


class TmpfsOptions(msgspec.Struct, rename="pascal"):
    size_bytes: int = 0
    mode: int = 0


class MountAsked(msgspec.Struct, rename="pascal"):
    target: str
    type: str = "volume"
    source: str = ""
    read_only: bool = False
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class LogConfig(msgspec.Struct, rename="pascal"):
    type: str = ""
    config: dict[str, str] | None = None


class HostConfig(msgspec.Struct, rename="pascal"):
    """The fields that mean something here."""

    binds: list[str] | None = None
    mounts: list[MountAsked] | None = None
    tmpfs: dict[str, str] | None = None
    volumes_from: list[str] | None = None
    port_bindings: dict[str, list[Binding] | None] | None = None
    publish_all_ports: bool | None = False
    network_mode: str | None = ""
    restart_policy: Restart | None = None
    auto_remove: bool | None = False
    cap_add: _Words = None
    cap_drop: _Words = None
    cgroupns_mode: str | None = ""
    cgroup_parent: str | None = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str | int] | None = None
    ipc_mode: str | None = ""
    pid_mode: str | None = ""
    uts_mode: str | None = msgspec.field(name="UTSMode", default="")
    userns_mode: str | None = ""
    links: list[str] | None = None
    oom_score_adj: int | None = None
    privileged: bool | None = False
    readonly_rootfs: bool | None = False
    security_opt: list[str] | None = None
    shm_size: int | None = 0
    sysctls: dict[str, str] | None = None
    init: bool | None = None
    memory: int | None = 0
    memory_swap: int | None = 0
    memory_reservation: int | None = 0
    nano_cpus: int | None = 0
    cpu_shares: int | None = 0
    cpu_period: int | None = 0
    cpu_quota: int | None = 0
    cpuset_cpus: str | None = ""
    cpuset_mems: str | None = ""
    pids_limit: int | None = 0
    blkio_weight: int | None = 0
    ulimits: list[Ulimit] | None = None
    devices: list[DeviceAsked] | None = None
    device_requests: list[Any] | None = None
    device_cgroup_rules: list[str] | None = None
    log_config: LogConfig | None = None
    runtime: str | None = ""
    storage_opt: dict[str, str] | None = None
    oom_kill_disable: bool | None = False
    memory_swappiness: int | None = None
    blkio_weight_device: list[Any] | None = None
    blkio_device_read_bps: list[Any] | None = None
    blkio_device_write_bps: list[Any] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None


class Networking(msgspec.Struct, rename="pascal"):
    endpoints_config: dict[str, Any] | None = None


class Body(msgspec.Struct, rename="pascal"):
    """Docker's `Config` with two members more."""

    image: str = ""
    hostname: str | None = ""
    domainname: str | None = ""
    user: str | None = ""
    attach_stdin: bool | None = False
    attach_stdout: bool | None = False
    attach_stderr: bool | None = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool | None = False
    open_stdin: bool | None = False
    stdin_once: bool | None = False
    env: list[str] | None = None
    cmd: _Words = None
    entrypoint: _Words = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = ""
    labels: dict[str, str] | None = None
    stop_signal: str | None = ""
    stop_timeout: int | None = None
    healthcheck: dict[str, Any] | None = None
    host_config: HostConfig | None = None
    networking_config: Networking | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    options: RunOptions
    warnings: tuple[str, ...]


def options_of(body: Body, *, name: str = "", platform: str = "") -> Asked:
    """Raises BadRequest, NotYet, UsageError."""
    if not body.image:
        raise BadRequest("no image specified")
    host = body.host_config or HostConfig()
    entrypoint = _words(body.entrypoint)
    warnings = tuple(_refuse_or_warn(body, host))
    options = RunOptions(
        image=body.image,
        command=_words(body.cmd) or (),
        name=name.removeprefix("/"),
        platform=platform,
        entrypoint=entrypoint or (() if body.entrypoint == "" else None),
        env=parse.parse_env(body.env or (), {}),
        labels=body.labels or {},
        user=body.user or "",
        group_add=tuple(map(str, host.group_add or ())),
        working_dir=body.working_dir or "",
        hostname=body.hostname or "",
        domainname=body.domainname or "",
        tty=bool(body.tty),
        interactive=bool(body.open_stdin),
        attached=bool(body.attach_stdin or body.attach_stdout or body.attach_stderr),
        stdin_once=bool(body.stdin_once),
        auto_remove=bool(host.auto_remove),
        restart=restart_of(host),
        mounts=tuple(_mounts(body, host)),
        volumes_from=tuple(host.volumes_from or ()),
        publish=tuple(_published(host.port_bindings or {})),
        publish_all=bool(host.publish_all_ports),
        expose=tuple(body.exposed_ports or ()),
        network=_network(host, body.networking_config),
        dns=tuple(parse.parse_address(text, "dns") for text in host.dns or ()),
        dns_search=tuple(host.dns_search or ()),
        dns_option=tuple(host.dns_options or ()),
        add_host=parse.parse_pairs(host.extra_hosts or (), "add-host", ":="),
        resources=resources_of(host),
        ulimits=tuple(_ulimit(limit) for limit in host.ulimits or ()),
        shm_size=_positive(host.shm_size, "ShmSize"),
        oom_score_adj=host.oom_score_adj or None,
        cap_add=_words(host.cap_add) or (),
        cap_drop=_words(host.cap_drop) or (),
        privileged=bool(host.privileged),
        devices=tuple(_device(device) for device in host.devices or ()),
        sysctls=tuple((host.sysctls or {}).items()),
        pid=parse.parse_mode(host.pid_mode or "", "pid"),
        ipc=parse.parse_mode(host.ipc_mode or "", "ipc"),
        uts=parse.parse_mode(host.uts_mode or "", "uts"),
        cgroupns=parse.parse_mode(host.cgroupns_mode or "", "cgroupns"),
        cgroup_parent=parse.parse_cgroup_parent(host.cgroup_parent or ""),
        read_only=bool(host.readonly_rootfs),
        init=bool(host.init),
        stop_signal=body.stop_signal or "",
        stop_timeout=body.stop_timeout,
        **_security(host),
    )
    return Asked(options, warnings)


def _refuse_or_warn(body: Body, host: HostConfig) -> Iterable[str]:
    if host.auto_remove and restart_of(host).name != "no":
        raise BadRequest("can't create 'AutoRemove' container with restart policy")
    if host.links:
        raise NotYet("links are not supported; containers reach each other by address")
    if host.device_requests:
        raise NotYet("device requests (--gpus) are not supported")
    if host.userns_mode not in {"", "host", None}:
        raise NotYet(f"user namespace mode {host.userns_mode!r} is not supported")
    if host.device_cgroup_rules:
        raise NotYet("device rules (--device-cgroup-rule) are not supported yet; name the devices by --device")
    if host.log_config and (host.log_config.type not in {"", "json-file"} or host.log_config.config):
        yield "log options are not supported yet: the log is json-file, 5 files of 20 MB"
    ignored = {
        "Runtime": host.runtime not in {None, "", "pybuild", "runc", "io.containerd.runc.v2"},
        "StorageOpt": host.storage_opt,
        "OomKillDisable": host.oom_kill_disable,
        "MemorySwappiness": host.memory_swappiness not in {None, -1},
        "limits of single block devices": (
            host.blkio_weight_device or host.blkio_device_read_bps or host.blkio_device_write_bps
        ),
    }
    yield from (f"{name} has no effect here" for name, given in ignored.items() if given)
    if body.healthcheck and (body.healthcheck.get("Test") or ["NONE"])[0] != "NONE":
        yield "health checks are not run yet"


def restart_of(host: HostConfig) -> RestartPolicy:
    asked = host.restart_policy or Restart()
    if asked.maximum_retry_count < 0 or (asked.maximum_retry_count and asked.name != "on-failure"):
        raise BadRequest("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    return replace(parse.parse_restart(asked.name or "no"), retries=asked.maximum_retry_count)


def _words(found: _Words) -> tuple[str, ...] | None:
    if found is None:
        return None
    return (found,) if isinstance(found, str) and found else tuple(found)


def _network(host: HostConfig, networking: Networking | None) -> str:
    mode = host.network_mode or "default"
    if mode == "default":
        mode = "bridge"
    endpoints = list((networking.endpoints_config if networking else None) or {})
    if len(endpoints) > 1 or (endpoints and endpoints[0] not in {mode, "bridge", "default"}):
        raise NotYet("networks of one's own are not supported yet; there are bridge, host, none and container:NAME")
    return mode


def _published(bindings: Mapping[str, list[Binding] | None]) -> Iterable[str]:
    for port, places in bindings.items():
        for place in places or [Binding()]:
            ip = place.host_ip or ""
            prefix = f"[{ip}]:" if ":" in ip else f"{ip}:" if ip else ""
            outer = place.host_port or ""
            yield f"{prefix}{outer}:{port}" if prefix or outer not in {"", "0"} else port


def _mounts(body: Body, host: HostConfig) -> Iterable[MountOption]:
    for target in body.volumes or ():
        yield parse.parse_volume(target)
    for text in host.binds or ():
        yield parse.parse_volume(text)
    for mount in host.mounts or ():
        yield _mount(mount)
    for target, flags in (host.tmpfs or {}).items():
        yield parse.parse_tmpfs(f"{target}:{flags}" if flags else target)


def _mount(asked: MountAsked) -> MountOption:
    words = [f"type={asked.type}", f"target={asked.target}"]
    if asked.source:
        words.append(f"source={asked.source}")
    if asked.read_only:
        words.append("readonly")
    if asked.bind_options and asked.bind_options.propagation:
        words.append(f"bind-propagation={asked.bind_options.propagation}")
    if asked.volume_options and asked.volume_options.subpath:
        raise NotYet("mounts of a part of a volume are not supported yet")
    if asked.volume_options and asked.volume_options.no_copy:
        words.append("volume-nocopy")
    if asked.tmpfs_options and asked.tmpfs_options.size_bytes:
        words.append(f"tmpfs-size={asked.tmpfs_options.size_bytes}")
    if asked.tmpfs_options and asked.tmpfs_options.mode:
        words.append(f"tmpfs-mode={asked.tmpfs_options.mode:o}")
    if any("," in word for word in words):
        raise BadRequest("a mount's source and target can't have commas")
    found = parse.parse_mount(",".join(words))
    if asked.bind_options and asked.bind_options.create_mountpoint:
        return replace(found, create_source=True)
    return found


def resources_of(host: HostConfig) -> Resources:
    memory, swap = _positive(host.memory, "Memory"), host.memory_swap or 0
    if 0 < memory < 6 << 20:
        raise BadRequest("Minimum memory limit allowed is 6MB")
    if swap > 0 and not memory:
        raise BadRequest("You should always set the Memory limit when using Memoryswap limit")
    if 0 < swap < memory:
        raise BadRequest("Minimum memoryswap limit should be larger than memory limit")
    quota, period = host.cpu_quota or 0, host.cpu_period or 0
    if host.nano_cpus:
        if quota or period:
            raise BadRequest("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set")
        quota, period = host.nano_cpus * _CPU_PERIOD // 1_000_000_000, _CPU_PERIOD
        if quota < 1000:
            raise BadRequest("range of CPUs is from 0.01 up")
    return Resources(
        memory=memory, memory_swap=swap, memory_reservation=_positive(host.memory_reservation, "MemoryReservation"),
        cpu_shares=_positive(host.cpu_shares, "CpuShares"), cpu_quota=max(quota, 0), cpu_period=max(period, 0),
        cpuset_cpus=host.cpuset_cpus or "", cpuset_mems=host.cpuset_mems or "", pids=max(host.pids_limit or 0, 0),
        blkio_weight=_positive(host.blkio_weight, "BlkioWeight"),
    )  # fmt: skip


def _positive(value: int | None, name: str) -> int:
    if value is not None and value < 0:
        raise BadRequest(f"{name} can't be negative")
    return value or 0


def _ulimit(limit: Ulimit) -> Rlimit:
    return parse.parse_ulimit(f"{limit.name}={limit.soft}:{limit.hard}")


def _device(asked: DeviceAsked) -> DeviceOption:
    inside = asked.path_in_container or asked.path_on_host
    return parse.parse_device(f"{asked.path_on_host}:{inside}:{asked.cgroup_permissions or 'rwm'}")


def _security(host: HostConfig) -> dict[str, Any]:
    """The command line turns systempaths=unconfined into empty lists of paths."""
    found = parse.parse_security(host.security_opt or ())
    if host.masked_paths == [] and host.readonly_paths == []:
        found["unmasked"] = True
    elif host.masked_paths or host.readonly_paths:
        raise NotYet("lists of masked and read-only paths of one's own are not supported yet")
    return found
