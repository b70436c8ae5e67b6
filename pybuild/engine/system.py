"""What this machine can do: the facts behind `pybuild info`. Reads, changes nothing."""

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from pybuild import __version__


@dataclass(frozen=True, slots=True)
class System:
    """Facts for a person and, as JSON, for programs; `warnings` name what is missing and what that costs."""

    version: str
    python: str
    kernel: str
    operating_system: str
    architecture: str
    cpus: int
    memory: int  # bytes
    root: str
    filesystem_free: int  # bytes
    storage: str
    images: int
    containers: int
    running: int
    cgroups: str
    namespaces: tuple[str, ...]
    security: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Label and value, in the order in which a person asks."""
        return [
            ("Version", self.version),
            ("Containers", f"{self.containers} ({self.running} running)"),
            ("Images", str(self.images)),
            ("Root directory", f"{self.root} ({_bytes(self.filesystem_free)} free)"),
            ("Storage", self.storage),
            ("Cgroups", self.cgroups),
            ("Namespaces", " ".join(self.namespaces)),
            ("Security", " ".join(self.security)),
            ("Kernel", self.kernel),
            ("Operating system", self.operating_system),
            ("Architecture", self.architecture),
            ("CPUs", str(self.cpus)),
            ("Memory", _bytes(self.memory)),
            ("Python", self.python),
        ]


def gather(root: Path) -> System:
    """Look at the machine and at the state root, which need not exist yet."""
    cgroups = _cgroups()
    namespaces = tuple(sorted(_entries("/proc/self/ns") - {"pid_for_children", "time_for_children"}))
    filesystems = _filesystems()
    images, containers, running = _counts(root)
    return System(
        version=__version__,
        python=platform.python_version(),
        kernel=platform.release(),
        operating_system=_os_name(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        root=str(root),
        filesystem_free=shutil.disk_usage(_existing(root)).free,
        storage="overlayfs" if "overlay" in filesystems else "overlayfs is missing",
        images=images,
        containers=containers,
        running=running,
        cgroups=cgroups,
        namespaces=namespaces,
        security=_security(),
        warnings=tuple(_warnings(filesystems, cgroups, namespaces)),
    )


def _counts(root: Path) -> tuple[int, int, int]:
    """Images, containers, running containers; none of a root that nobody has used."""
    if not (root / "meta.db").exists():
        return 0, 0, 0
    from pybuild.engine.containers import list_containers
    from registry.storage import ContentStore

    with ContentStore.open(root) as store:
        images = len({entry.digest for entry in store.images()})
    everyone = list_containers(root)
    return images, len(everyone), sum(container.running for container in everyone)


def _warnings(filesystems: set[str], cgroups: str, namespaces: tuple[str, ...]) -> list[str]:
    found = []
    if os.geteuid() != 0:
        found.append("not root: containers and RUN steps can't be started")
    if "overlay" not in filesystems:
        found.append("no overlayfs in this kernel: images can't be unpacked; load it with modprobe overlay")
    if cgroups == "none":
        found.append("no cgroups are mounted: limits such as --memory have no effect")
    missing = {"mnt", "net", "pid", "ipc", "uts", "user", "cgroup"} - set(namespaces)
    if missing:
        found.append(f"no namespaces of kind {' '.join(sorted(missing))} in this kernel")
    return found


def _cgroups() -> str:
    """v1, v2, hybrid (v1 controllers and an empty v2 tree), or none; cgroups(7)."""
    kinds = {line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines() if " cgroup" in line}
    if {"cgroup", "cgroup2"} <= kinds:
        return "hybrid"
    return "v2" if "cgroup2" in kinds else "v1" if "cgroup" in kinds else "none"


def _security() -> tuple[str, ...]:
    found = ["seccomp"] if Path("/proc/sys/kernel/seccomp/actions_avail").exists() else []
    if "apparmor" in _text("/sys/kernel/security/lsm"):
        found.append("apparmor")
    return tuple(found)


def _filesystems() -> set[str]:
    return {line.split()[-1] for line in _text("/proc/filesystems").splitlines() if line.strip()}


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return path if path.exists() else _existing(path.parent)


def _entries(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
