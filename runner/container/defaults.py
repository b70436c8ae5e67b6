"""What a container gets when nobody asks for anything else: docker's defaults, value for value."""

from runner.container.spec import Device, Mount, Namespaces
from runner.kernel import capabilities
from runner.kernel.cgroups import Hierarchies

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
)  # fmt: skip

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/devices/system/cpu/cpu*/thermal_throttle",  # the runner expands "*" within the container's own /sys
)

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DEVICES = (
    Device("/dev/null", "c", 1, 3),
    Device("/dev/zero", "c", 1, 5),
    Device("/dev/full", "c", 1, 7),
    Device("/dev/tty", "c", 5, 0),
    Device("/dev/urandom", "c", 1, 9),
    Device("/dev/random", "c", 1, 8),
)

# Access beside the nodes above: making nodes is allowed, using them is not; consoles and pseudo-terminals are.
DEVICE_RULES = (
    Device("", "c", -1, -1, access="m"),
    Device("", "b", -1, -1, access="m"),
    *DEVICES,
    Device("", "c", 5, 1),
    Device("", "c", 5, 2),
    Device("", "c", 136, -1),
    Device("", "c", 10, 200),  # tun: of use only with CAP_NET_ADMIN
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = 64 * 1024 * 1024


def default_mounts(*, shm_size: int = SHM_SIZE, privileged: bool = False) -> tuple[Mount, ...]:
    """Docker's, in its order; user mounts and /etc/hosts and the like come after."""
    access = "rw" if privileged else "ro"
    return (
        Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount(
            "/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
        ),
        Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", access)),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", access)),
        Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
        Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}")),
    )


def default_namespaces(*, net: str = "new", privileged: bool = False) -> Namespaces:
    """A control group namespace of its own where the host has version 2 only, as docker does."""
    private = Hierarchies.mounted().driver == "v2" and not privileged
    return Namespaces(net=net, cgroup="new" if private else "host")


def default_sysctls(*, own_net: bool = True) -> tuple[tuple[str, str], ...]:
    """With a network of its own, ping and ports below 1024 need no capability."""
    if not own_net:
        return ()
    return (("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647"))


def default_env(*, hostname: str, terminal: bool = False) -> tuple[str, ...]:
    """Before the image's and the user's variables, which win."""
    return (f"PATH={PATH}", f"HOSTNAME={hostname}", *(("TERM=xterm",) if terminal else ()))


def all_capabilities() -> tuple[str, ...]:
    """For a privileged container: all that we hold ourselves."""
    _, permitted, _ = capabilities.own()
    return capabilities.names(permitted)
