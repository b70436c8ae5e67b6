"""What a container uses, in docker's numbers: `stats`; and its processes: `top`. Reads, changes nothing."""

import os
import shlex
import subprocess
from collections.abc import Iterable
from typing import Any

from pybuild.engine.changing import cgroup_of
from pybuild.engine.containers import Container
from pybuild.errors import Conflict, EngineError, UsageError
from runner.container.state import NEVER, timestamp
from runner.kernel.cgroups import Cgroup

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # nanoseconds
_UNLIMITED = 1 << 60  # bytes: what version 1 says is no limit is near 2^63
_PS_SECONDS = 10


def sample(container: Container) -> dict[str, Any]:
    """Docker's JSON of a moment, without `precpu_stats`; of one that does not run, zeros (with its name)."""
    about: dict[str, Any] = {"id": container.record.id, "name": f"/{container.record.name}", "num_procs": 0}
    if not container.running:
        return about | {
            "read": NEVER, "preread": NEVER, "pids_stats": {}, "cpu_stats": no_cpu(), "memory_stats": {},
            "blkio_stats": _no_io(), "storage_stats": {}, "networks": None,
        }  # fmt: skip
    cgroup = cgroup_of(container.record)
    version_2 = cgroup.hierarchies.driver == "v2"
    return about | {
        "read": timestamp(),
        "preread": NEVER,
        "pids_stats": _pids(cgroup),
        "cpu_stats": _cpu_2(cgroup) if version_2 else _cpu_1(cgroup),
        "memory_stats": _memory_2(cgroup) if version_2 else _memory_1(cgroup),
        "blkio_stats": _io_2(cgroup) if version_2 else _io_1(cgroup),
        "storage_stats": {},
        "networks": _networks(container),
    }


def no_cpu() -> dict[str, Any]:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _cpu_1(cgroup: Cgroup) -> dict[str, Any]:
    stat = _pairs(_text(cgroup, "cpuacct", "cpuacct.stat"))
    limits = _pairs(_text(cgroup, "cpu", "cpu.stat"))
    return {
        "cpu_usage": {
            "total_usage": _number(_text(cgroup, "cpuacct", "cpuacct.usage")),
            "percpu_usage": [int(word) for word in _text(cgroup, "cpuacct", "cpuacct.usage_percpu").split()],
            "usage_in_kernelmode": stat.get("system", 0) * _TICK,
            "usage_in_usermode": stat.get("user", 0) * _TICK,
        },
        "system_cpu_usage": _system_cpu(),
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": limits.get("nr_periods", 0),
            "throttled_periods": limits.get("nr_throttled", 0),
            "throttled_time": limits.get("throttled_time", 0),
        },
    }


def _cpu_2(cgroup: Cgroup) -> dict[str, Any]:
    stat = _pairs(_text(cgroup, "unified", "cpu.stat"))
    return {
        "cpu_usage": {
            "total_usage": stat.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": stat.get("system_usec", 0) * 1000,
            "usage_in_usermode": stat.get("user_usec", 0) * 1000,
        },
        "system_cpu_usage": _system_cpu(),
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": stat.get("nr_periods", 0),
            "throttled_periods": stat.get("nr_throttled", 0),
            "throttled_time": stat.get("throttled_usec", 0) * 1000,
        },
    }


def _memory_1(cgroup: Cgroup) -> dict[str, Any]:
    stat = _pairs(_text(cgroup, "memory", "memory.stat"))
    return {
        "usage": _number(_text(cgroup, "memory", "memory.usage_in_bytes")),
        "max_usage": _number(_text(cgroup, "memory", "memory.max_usage_in_bytes")),
        "stats": stat,
        "failcnt": _number(_text(cgroup, "memory", "memory.failcnt")),
        "limit": _limit(_text(cgroup, "memory", "memory.limit_in_bytes")),
    }


def _memory_2(cgroup: Cgroup) -> dict[str, Any]:
    return {
        "usage": _number(_text(cgroup, "unified", "memory.current")),
        "stats": _pairs(_text(cgroup, "unified", "memory.stat")),
        "limit": _limit(_text(cgroup, "unified", "memory.max")),
    }


def _limit(text: str) -> int:
    """A limit beyond what the machine has is the machine's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = _number(text)
    return found if 0 < found < min(_UNLIMITED, total) else total


def _pids(cgroup: Cgroup) -> dict[str, int]:
    controller = "unified" if cgroup.hierarchies.driver == "v2" else "pids"
    limit = _text(cgroup, controller, "pids.max").strip()
    found = {"current": _number(_text(cgroup, controller, "pids.current"))}
    return found | {"limit": int(limit)} if limit.isdigit() else found


def _no_io() -> dict[str, Any]:
    kinds = ("service_bytes", "serviced", "queue", "service_time", "wait_time", "merged", "time")
    return {f"io_{kind}_recursive": None for kind in kinds} | {"sectors_recursive": None}


def _io_1(cgroup: Cgroup) -> dict[str, Any]:
    def entries(file: str) -> list[dict[str, Any]]:
        found = []
        for line in _text(cgroup, "blkio", file).splitlines():
            words = line.split()
            if len(words) == 3:
                major, _, minor = words[0].partition(":")
                found.append({"major": int(major), "minor": int(minor), "op": words[1].lower(), "value": int(words[2])})
        return found

    return _no_io() | {
        "io_service_bytes_recursive": entries("blkio.throttle.io_service_bytes_recursive"),
        "io_serviced_recursive": entries("blkio.throttle.io_serviced_recursive"),
    }


def _io_2(cgroup: Cgroup) -> dict[str, Any]:
    moved, done = [], []
    for line in _text(cgroup, "unified", "io.stat").splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        values = dict(word.partition("=")[::2] for word in words)
        for op, size, count in (("read", "rbytes", "rios"), ("write", "wbytes", "wios")):
            place = {"major": int(major), "minor": int(minor), "op": op}
            moved.append(place | {"value": int(values.get(size, "0"))})
            done.append(place | {"value": int(values.get(count, "0"))})
    return _no_io() | {"io_service_bytes_recursive": moved, "io_serviced_recursive": done}


def _networks(container: Container) -> dict[str, Any] | None:
    """As the container's own processes see their interfaces; None on the host's network."""
    if container.record.options.network in {"host", "none"}:
        return None
    found = {}
    for line in _read(f"/proc/{container.state.pid}/net/dev").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        if name.strip() != "lo" and len(words) >= 12:
            found[name.strip()] = {
                "rx_bytes": int(words[0]), "rx_packets": int(words[1]), "rx_errors": int(words[2]),
                "rx_dropped": int(words[3]), "tx_bytes": int(words[8]), "tx_packets": int(words[9]),
                "tx_errors": int(words[10]), "tx_dropped": int(words[11]),
            }  # fmt: skip
    return found


def _system_cpu() -> int:
    """Nanoseconds of all CPUs since boot (proc(5), the first line of /proc/stat, without guests)."""
    return sum(int(word) for word in _read("/proc/stat").split("\n", 1)[0].split()[1:8]) * _TICK


def processes(container: Container, arguments: str = "-ef") -> dict[str, Any]:
    """Docker's `top`: what the host's ps(1) says, of this container's processes.

    Raises:
        Conflict: it does not run. UsageError: ps does not take the arguments. EngineError: there is no ps.
    """
    if not container.running:
        raise Conflict(f"Container {container.record.id} is not running")
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise UsageError(f"not arguments for ps: {arguments[:100]!r}: {error}") from None
    try:
        found = subprocess.run(
            ["ps", *words], capture_output=True, text=True, errors="replace", timeout=_PS_SECONDS, check=False,
            env={"PATH": os.defpath + ":/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise EngineError("there is no ps on this machine", hint="install procps") from None
    except subprocess.TimeoutExpired:
        raise EngineError("ps takes too long") from None
    if found.returncode != 0:
        raise UsageError(f"ps: {found.stderr.strip()[:300]}")
    return _of_these(found.stdout.splitlines(), set(cgroup_of(container.record).pids()))


def _of_these(lines: list[str], pids: Iterable[int]) -> dict[str, Any]:
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise UsageError("Couldn't find PID field in ps output")
    column, wanted = titles.index("PID"), {str(pid) for pid in pids}
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return {"Titles": titles, "Processes": [row for row in rows if len(row) > column and row[column] in wanted]}


def _text(cgroup: Cgroup, controller: str, file: str) -> str:
    directory = cgroup.directory(controller)
    return _read(f"{directory}/{file}") if directory else ""


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _pairs(text: str) -> dict[str, int]:
    words = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}
