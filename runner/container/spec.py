"""What a container is to be: the parts of the OCI runtime specification (config.md, config-linux.md) that we use.

Plain frozen data, standard library only, JSON in and out, so that a supervisor of another version can read it.
The engine and the builder make these; the runner obeys them to the letter and adds nothing of its own.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RootFilesystem:
    """Where `/` comes from: an overlay when `lower` is given, else the directory `upper` itself.

    `lower` is topmost first, as overlayfs wants it. The overlay is mounted by the container's own first process in its
    own mount namespace, so it can't outlive the container.
    """

    lower: tuple[str, ...] = ()
    upper: str = ""  # empty with `lower`: a read-only view
    work: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount inside the container; `destination` is absolute and resolved inside the root filesystem only."""

    destination: str
    type: str  # proc, tmpfs, sysfs, devpts, mqueue, cgroup, bind
    source: str = ""  # for bind: a path of the host, or "fd:N" for the N-th descriptor handed over with the request
    options: tuple[str, ...] = ()  # as in mount(8): ro nosuid nodev noexec rbind rprivate size=… mode=…
    create: str = "auto"  # what to make when the destination is missing: file, dir, auto (like the source), none


@dataclass(frozen=True, slots=True)
class Rlimit:
    """A process limit; the runner clamps it to what the kernel grants and warns."""

    name: str  # nofile, nproc, …
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Process:
    """The program to execute and as whom. `user` and `groups` are resolved inside the root filesystem."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # "NAME=value"; HOME is added from the container's passwd when absent
    cwd: str = "/"
    user: str = ""  # "", "name", "uid", "name:group", "uid:gid"
    additional_groups: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()  # bounding = permitted = effective; inheritable and ambient stay empty
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    terminal: bool = False
    console_size: tuple[int, int] = (0, 0)  # rows, columns
    umask: int = 0o022
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits. 0 or empty means none. A limit that the kernel refuses becomes a warning."""

    memory: int = 0  # bytes
    memory_swap: int = 0  # bytes of memory plus swap; -1 unlimited; 0: twice the memory
    memory_reservation: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0  # µs in each period
    cpu_period: int = 0  # µs
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    blkio_weight: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A device node to make, and the cgroup rule that allows it."""

    path: str
    type: str  # c, b
    major: int
    minor: int
    mode: int = 0o666
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class Namespaces:
    """For each kind: "new", "host", or "fd:N" / a path of a namespace file to join."""

    mount: str = "new"
    pid: str = "new"
    net: str = "new"
    ipc: str = "new"
    uts: str = "new"
    cgroup: str = "host"  # docker's default on cgroup v1; "new" on v2
    user: str = "host"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that the runner needs to start one container."""

    id: str  # 64 hex digits, or any [A-Za-z0-9_.-]+
    root: RootFilesystem
    process: Process
    mounts: tuple[Mount, ...] = ()
    namespaces: Namespaces = field(default_factory=Namespaces)
    hostname: str = ""
    domainname: str = ""
    resources: Resources = field(default_factory=Resources)
    cgroup_parent: str = ""  # empty: /pybuild
    devices: tuple[Device, ...] = ()  # beside the default ones
    all_devices: bool = False  # privileged: no device rule at all
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    seccomp: str = "default"  # default, unconfined
    init: str = ""  # path on the host of a static init to bind at /sbin/docker-init and run as PID 1
