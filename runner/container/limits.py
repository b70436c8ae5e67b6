"""Which limit means which file of the control group, in version 1 and in version 2. Pure: no file is touched here."""

from runner.container.spec import Device, Resources
from runner.kernel.cgroups import Setting

_V2 = "unified"
_PERIOD = 100_000  # µs, the kernel's default


def settings(resources: Resources, driver: str) -> list[Setting]:
    """What to write, in order; `driver` as Hierarchies.driver tells."""
    if driver == "none":
        return []
    return _version_2(resources) if driver == "v2" else _version_1(resources)


def device_settings(devices: tuple[Device, ...]) -> list[Setting]:
    """Version 1: deny all, then allow each. (Version 2 has a program in place of files.)"""
    rules = [Setting("devices", "devices.deny", "a", "denial of devices")]
    rules += [
        Setting("devices", "devices.allow", device_rule(device), f"access to {device.path or 'devices'}")
        for device in devices
    ]
    return rules


def device_rule(device: Device) -> str:
    """As "c 1:3 rwm"; a negative number means any."""
    major, minor = ("*" if number < 0 else str(number) for number in (device.major, device.minor))
    return f"{device.type} {major}:{minor} {device.access}"


def swap_limit(resources: Resources) -> int:
    """Bytes of memory plus swap: twice the memory unless told otherwise; -1 is unlimited; 0 none."""
    if resources.memory_swap or not resources.memory:
        return resources.memory_swap
    return resources.memory * 2


def weight(shares: int) -> int:
    """Version 1 shares (2 to 262144) as a version 2 weight (1 to 10000)."""
    shares = min(max(shares, 2), 262_144)
    return 1 + (shares - 2) * 9999 // 262_142


def _version_1(wanted: Resources) -> list[Setting]:
    found: list[Setting] = []

    def add(controller: str, file: str, value: int | str, what: str) -> None:
        if value:
            found.append(Setting(controller, file, str(value), what))

    # A fresh group is unlimited, so memory comes first: memsw may not be below it.
    add("memory", "memory.limit_in_bytes", wanted.memory, "memory limit")
    add("memory", "memory.memsw.limit_in_bytes", swap_limit(wanted), "memory and swap limit")
    add("memory", "memory.soft_limit_in_bytes", wanted.memory_reservation, "memory reservation")
    add("cpu", "cpu.shares", wanted.cpu_shares, "CPU shares")
    add("cpu", "cpu.cfs_period_us", wanted.cpu_period, "CPU period")
    add("cpu", "cpu.cfs_quota_us", wanted.cpu_quota, "CPU limit")
    add("cpuset", "cpuset.cpus", wanted.cpuset_cpus, "choice of CPUs")
    add("cpuset", "cpuset.mems", wanted.cpuset_mems, "choice of memory nodes")
    add("pids", "pids.max", max(0, wanted.pids), "limit of processes")
    add("blkio", "blkio.weight", wanted.blkio_weight, "block IO weight")
    return found


def _version_2(wanted: Resources) -> list[Setting]:
    found: list[Setting] = []

    def add(file: str, value: int | str, what: str) -> None:
        if value:
            found.append(Setting(_V2, file, str(value), what))

    add("memory.max", wanted.memory, "memory limit")
    both = swap_limit(wanted)
    if both < 0:
        add("memory.swap.max", "max", "swap limit")
    elif both:
        add("memory.swap.max", str(max(both - wanted.memory, 0)), "swap limit")
    add("memory.low", wanted.memory_reservation, "memory reservation")
    add("cpu.weight", weight(wanted.cpu_shares) if wanted.cpu_shares else 0, "CPU shares")
    if wanted.cpu_quota > 0:
        add("cpu.max", f"{wanted.cpu_quota} {wanted.cpu_period or _PERIOD}", "CPU limit")
    add("cpuset.cpus", wanted.cpuset_cpus, "choice of CPUs")
    add("cpuset.mems", wanted.cpuset_mems, "choice of memory nodes")
    add("pids.max", max(0, wanted.pids), "limit of processes")
    add("io.weight", f"default {wanted.blkio_weight}" if wanted.blkio_weight else "", "block IO weight")
    return found
