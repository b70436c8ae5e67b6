"""Containers in a listing: docker's `ps` in words and in the API's JSON, and which of them a filter keeps. Pure."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pybuild.engine.containers import Container
from pybuild.engine.records import Record
from pybuild.engine.times import ago, duration
from pybuild.engine.views import EVERYWHERE, mount_json, network_settings, port_key
from runner.container.jsonlog import nanoseconds
from runner.container.state import NEVER

FILTERS = ("ancestor", "exited", "id", "label", "name", "network", "status", "volume")


def summary(container: Container, *, now: datetime | None = None, full: bool = False) -> dict[str, Any]:
    """The fields of one line of `ps`, all of them text."""
    record = container.record
    return {
        "ID": record.id if full else record.id[:12],
        "Image": record.image,
        "Command": command_line(record, full=full),
        "CreatedAt": record.created,
        "RunningFor": ago(record.created, now),
        "Status": status(container, now),
        "State": container.word,
        "Ports": ports(container),
        "Names": record.name,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(record.labels.items())),
        "Networks": record.options.network,
        "Mounts": ",".join(mount.name or mount.source for mount in record.mounts if mount.type != "tmpfs"),
    }


def list_container(container: Container, *, now: datetime | None = None) -> dict[str, Any]:
    """One entry of the API's list of containers."""
    record = container.record
    settings = network_settings(container)
    return {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": record.image,
        "ImageID": record.image_id,
        "Command": " ".join(record.argv),
        "Created": nanoseconds(record.created) // 1_000_000_000,
        "Ports": list(_listed_ports(container)) if container.running else [],
        "Labels": record.labels,
        "State": container.word,
        "Status": status(container, now),
        "HostConfig": {"NetworkMode": record.options.network},
        "NetworkSettings": {"Networks": settings["Networks"]},
        "Mounts": [mount_json(mount) for mount in record.mounts],
    }


def _listed_ports(container: Container) -> Iterable[dict[str, Any]]:
    published = container.network.ports if container.network else ()
    for port in published:
        yield {
            "IP": port.host_ip or EVERYWHERE, "PrivatePort": port.container_port, "PublicPort": port.host_port,
            "Type": port.protocol,
        }  # fmt: skip
    led = {port_key(port) for port in published}
    for text in container.record.exposed_ports:
        if text not in led:
            number, _, protocol = text.partition("/")
            if number.isdigit():
                yield {"PrivatePort": int(number), "Type": protocol or "tcp"}


def command_line(record: Record, *, full: bool = False) -> str:
    text = " ".join(record.argv)
    if not full and len(text) > 20:
        text = text[:19] + "…"
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    quoted = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in plain)
    return f'"{quoted}"'


def status(container: Container, now: datetime | None = None) -> str:
    """`Up 5 minutes`, `Exited (0) 3 seconds ago`, `Created`."""
    state = container.state
    if state.status == "created":
        return "Created"
    if container.running:
        moment = (now or datetime.now(UTC)).timestamp()
        paused = " (Paused)" if state.paused else ""
        return f"Up {duration(moment - nanoseconds(state.started_at) / 1e9)}{paused}"
    verb = "Restarting" if container.word == "restarting" else "Exited"
    when = "" if state.finished_at == NEVER else f" {ago(state.finished_at, now)}"
    return f"{verb} ({state.exit_code}){when}"


def ports(container: Container) -> str:
    """`0.0.0.0:8080->80/tcp, 443/tcp`: published ones, then those that are only exposed."""
    if not container.running or container.network is None:
        return ""
    published = container.network.ports
    led = {port_key(port) for port in published}
    shown = [f"{port.host_ip or EVERYWHERE}:{port.host_port}->{port_key(port)}" for port in published]
    return ", ".join([*shown, *(port for port in container.record.exposed_ports if port not in led)])


def matches(container: Container, filters: Mapping[str, list[str]]) -> bool:
    """Whether `ps --filter` keeps it: all kinds must fit, one value of each kind is enough (all labels must fit)."""
    record = container.record
    tests: dict[str, Callable[[str], bool]] = {
        "id": lambda value: record.id[: len(value)] == value,
        "name": lambda value: value.removeprefix("/") in record.name,
        "status": lambda value: container.word == value,
        "exited": lambda value: container.state.status == "exited" and str(container.state.exit_code) == value,
        "ancestor": lambda value: (
            value in {record.image, record.image.partition(":")[0], record.image_id}
            or record.image_id.startswith(f"sha256:{value.removeprefix('sha256:')}")
        ),
        "network": lambda value: record.options.network == value,
        "volume": lambda value: any(value in {mount.name, mount.destination} for mount in record.mounts),
    }
    for key, values in filters.items():
        if key == "label":
            if not all(_has_label(record, value) for value in values):
                return False
        elif not any(tests[key](value) for value in values):
            return False
    return True


def _has_label(record: Record, text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in record.labels and (not equals or record.labels[key] == value)
