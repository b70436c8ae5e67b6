"""Containers as docker's tools know them: the JSON of `inspect`. Pure."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from pybuild.engine.containers import Container
from pybuild.engine.records import MountPoint, PublishedPort, Record
from pybuild.engine.volumes import Volume
from runner.container.state import timestamp

EVERYWHERE = "0.0.0.0"  # noqa: S104 -- shown, not listened on


def inspect_container(container: Container, directory: Path) -> dict[str, Any]:
    """Docker's container inspection, with the keys that tools read."""
    record, state, options = container.record, container.state, container.record.options
    argv = record.argv
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": argv[0],
        "Args": list(argv[1:]),
        "State": {
            "Status": container.word,
            "Running": container.running,
            "Paused": container.word == "paused",
            "Restarting": container.word == "restarting",
            "OOMKilled": state.oom_killed,
            "Dead": False,
            "Pid": state.pid if container.running else 0,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": state.started_at,
            "FinishedAt": state.finished_at,
        },
        "Image": record.image_id,
        "AppArmorProfile": "",
        "MountLabel": "",
        "ProcessLabel": "",
        "ExecIDs": None,
        "GraphDriver": {"Name": "overlay2", "Data": None},
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": str(directory / "json.log"),
        "Name": f"/{record.name}",
        "RestartCount": container.restarts.count,
        "Driver": "overlay2",
        "Platform": record.platform.partition("/")[0] or "linux",
        "HostConfig": _host_config(record),
        "Mounts": [mount_json(mount) for mount in record.mounts],
        "Config": {
            "Hostname": record.hostname,
            "Domainname": options.domainname,
            "User": record.user,
            "AttachStdin": options.interactive and options.attached,
            "AttachStdout": options.attached,
            "AttachStderr": options.attached,
            "ExposedPorts": {port: {} for port in record.exposed_ports},
            "Tty": options.tty,
            "OpenStdin": options.interactive,
            "StdinOnce": options.interactive and options.closes_stdin,
            "Env": list(record.env),
            "Cmd": list(record.cmd) or None,
            "Image": record.image,
            "Volumes": {mount.destination: {} for mount in record.mounts if mount.anonymous} or None,
            "WorkingDir": record.working_dir,
            "Entrypoint": list(record.entrypoint) or None,
            "Labels": record.labels,
            "StopSignal": record.stop_signal,
            "StopTimeout": record.stop_timeout,
        },
        "NetworkSettings": network_settings(container),
    }


def _host_config(record: Record) -> dict[str, Any]:
    options, limits = record.options, record.options.resources
    return {
        "Binds": [
            f"{mount.name or mount.source}:{mount.destination}{':ro' if mount.read_only else ''}"
            for mount in record.mounts
            if mount.type in {"bind", "volume"} and not mount.anonymous
        ],
        "NetworkMode": options.network,
        "PortBindings": _bindings_asked(record),
        "PublishAllPorts": options.publish_all,
        "RestartPolicy": {"Name": options.restart.name, "MaximumRetryCount": options.restart.retries},
        "AutoRemove": options.auto_remove,
        "VolumesFrom": list(options.volumes_from) or None,
        "VolumeDriver": "",
        "ContainerIDFile": "",
        "Links": None,
        "ConsoleSize": [0, 0],
        "UsernsMode": "",
        "Runtime": "pybuild",
        "Isolation": "",
        "BlkioWeight": limits.blkio_weight,
        "OomKillDisable": False,
        "MaskedPaths": None,
        "ReadonlyPaths": None,
        "Mounts": None,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "5"}},
        "CapAdd": list(options.cap_add) or None,
        "CapDrop": list(options.cap_drop) or None,
        "CgroupnsMode": options.cgroupns,
        "CgroupParent": options.cgroup_parent,
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_option),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": [f"{name}:{address}" for name, address in options.add_host] or None,
        "GroupAdd": list(options.group_add) or None,
        "IpcMode": options.ipc or "private",
        "PidMode": options.pid,
        "UTSMode": options.uts,
        "OomScoreAdj": options.oom_score_adj or 0,
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": [
            *(["seccomp=unconfined"] if options.seccomp == "unconfined" else []),
            *(["no-new-privileges"] if options.no_new_privileges else []),
            *(["systempaths=unconfined"] if options.unmasked else []),
        ]
        or None,
        "Tmpfs": {mount.destination: ",".join(mount.options) for mount in record.mounts if mount.type == "tmpfs"},
        "ShmSize": options.shm_size or 64 << 20,
        "Sysctls": dict(options.sysctls),
        "Init": options.init,
        "Memory": limits.memory,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": limits.memory_swap or 2 * limits.memory,
        "NanoCpus": limits.cpu_quota * 1_000_000_000 // limits.cpu_period if limits.cpu_period else 0,
        "CpuShares": limits.cpu_shares,
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "PidsLimit": limits.pids or None,
        "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in options.ulimits],
        "Devices": [
            {"PathOnHost": device.source, "PathInContainer": device.target, "CgroupPermissions": device.access}
            for device in options.devices
        ],
    }


def _bindings_asked(record: Record) -> dict[str, Any]:
    from runner.network import PortMapping

    found: dict[str, Any] = {}
    for text in record.options.publish:
        for mapping in PortMapping.parse(text):
            entry = {"HostIp": mapping.host_ip, "HostPort": str(mapping.host_port or "")}
            found.setdefault(f"{mapping.container_port}/{mapping.protocol}", []).append(entry)
    return found


def mount_json(mount: MountPoint) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Type": mount.type,
        "Source": mount.source,
        "Destination": mount.destination,
        "Mode": ",".join(mount.options),
        "RW": not mount.read_only,
        "Propagation": "rprivate" if mount.type == "bind" else "",
    }
    return found | {"Name": mount.name, "Driver": "local"} if mount.type == "volume" else found


def network_settings(container: Container) -> dict[str, Any]:
    network = container.network
    ports: dict[str, Any] = dict.fromkeys(container.record.exposed_ports) if network else {}
    for port in network.ports if network else ():
        entry = {"HostIp": port.host_ip or EVERYWHERE, "HostPort": str(port.host_port)}
        ports[f"{port.container_port}/{port.protocol}"] = [*(ports.get(port_key(port)) or ()), entry]
    if not container.running:
        ports = {}
    endpoint = {
        "IPAddress": network.address if network else "",
        "IPPrefixLen": network.prefix if network else 0,
        "Gateway": network.gateway if network else "",
        "MacAddress": network.mac if network else "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPv6Gateway": "",
    }
    mode = container.record.options.network
    name = "bridge" if mode == "default" else mode
    attached = {
        **endpoint, "NetworkID": network_id(name), "EndpointID": container.record.id if network and network.mac else "",
        "IPAMConfig": None, "Links": None, "Aliases": None, "DriverOpts": None, "DNSNames": None,
    }  # fmt: skip
    return {
        "Bridge": "",
        "SandboxID": container.record.id if container.running else "",
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if container.running else "",
        "Ports": ports,
        **endpoint,
        "Networks": {} if mode.startswith("container:") else {name: attached},
    }


def network_id(name: str) -> str:
    """The networks that every machine has: an id that stays, as there is no record of them."""
    return sha256(f"pybuild network {name}".encode()).hexdigest()


def port_key(port: PublishedPort) -> str:
    return f"{port.container_port}/{port.protocol}"


def inspect_volume(volume: Volume) -> dict[str, Any]:
    return {
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": str(volume.path),
        "CreatedAt": timestamp(volume.created // 1_000_000_000 * 1_000_000_000),
        "Labels": dict(volume.labels) or None,
        "Scope": "local",
        "Options": None,
    }
