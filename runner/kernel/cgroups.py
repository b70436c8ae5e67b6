"""Control groups as files: version 1, version 2, both at once ("hybrid") or none.

Gives:    Hierarchies (what is mounted), Cgroup (one group, a directory in every hierarchy).
Promises: what the kernel refuses is told as a warning, never raised: a container runs without a limit rather than not.
Not here: which limit means which file (container/limits.py).

With version 1 or hybrid the controllers' own hierarchies hold the limits; the version 2 tree, when mounted, holds the
group too, for `cgroup.kill` and `cgroup.freeze` work there without any controller.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

_V2 = "unified"
_TRIES = 10


@dataclass(frozen=True)
class Hierarchies:
    """Mount points by controller; "unified" is the version 2 tree."""

    v1: Mapping[str, str]
    v2: str = ""

    @classmethod
    def parse(cls, mountinfo: str) -> "Hierarchies":
        """From the text of /proc/PID/mountinfo (proc(5)); of a hierarchy mounted twice the first place counts."""
        v1: dict[str, str] = {}
        v2 = ""
        for line in mountinfo.splitlines():
            left, _, right = line.partition(" - ")
            if not right.startswith("cgroup"):
                continue
            place = left.split(" ")[4].replace("\\040", " ")
            kind, _, options = right.split(" ", 2)
            if kind == "cgroup2":
                v2 = v2 or place
                continue
            for option in options.split(","):
                if option not in _NOT_CONTROLLERS:
                    v1.setdefault(option, place)
        return cls(v1, v2)

    @staticmethod
    @cache
    def mounted() -> "Hierarchies":
        """What this machine has; looked up once a process."""
        try:
            with open("/proc/self/mountinfo") as file:
                return Hierarchies.parse(file.read())
        except OSError:
            return Hierarchies({})

    @property
    def driver(self) -> str:
        """What limits are set with: v1, hybrid, v2 or none."""
        if self.v1:
            return "hybrid" if self.v2 else "v1"
        return "v2" if self.v2 else "none"

    @property
    def places(self) -> tuple[str, ...]:
        """Each mount point once; controllers may share one."""
        return tuple(dict.fromkeys([*self.v1.values(), *([self.v2] if self.v2 else [])]))


_NOT_CONTROLLERS = frozenset((
    "rw", "ro", "none", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "all", "seclabel", "favordynmods",
    "nofavordynmods",
))  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One value to write: `controller` is that of version 1, or "unified"."""

    controller: str
    file: str
    value: str
    what: str  # as the user knows it: "memory limit"


@dataclass
class Cgroup:
    """One group. `path` is the same below every hierarchy's mount point."""

    path: str
    hierarchies: Hierarchies
    warnings: list[str] = field(default_factory=list)
    _present: list[str] = field(default_factory=list)  # directories that exist

    @classmethod
    def create(cls, path: str, hierarchies: Hierarchies | None = None) -> "Cgroup":
        group = cls(path, hierarchies or Hierarchies.mounted())
        group.make_cradle()
        group.make_rest()
        return group

    def make_cradle(self) -> str | None:
        """Make just the version 2 group, which a process can be born in. Returns its directory, if it could be made."""
        if self.hierarchies.v2:
            self._make([self.hierarchies.v2])
        return self.directory(_V2)

    def make_rest(self) -> None:
        if self.hierarchies.driver == "none":
            self.warnings.append("cgroups are not mounted: limits are not applied")
        self._make([place for place in self.hierarchies.places if place != self.hierarchies.v2])

    def _make(self, places: Sequence[str]) -> None:
        refused: dict[str, list[str]] = {}
        for place in places:
            directory = place + self.path
            try:
                _make(directory, place, offer=self.hierarchies.driver == "v2")
                self._present.append(directory)
            except OSError as error:
                refused.setdefault(error.strerror or str(error), []).append(os.path.basename(place))
        for reason, where in refused.items():
            self.warnings.append(f"no cgroup for {', '.join(where)}: {reason}: limits there are not applied")

    @classmethod
    def none(cls) -> "Cgroup":
        """The group of a process that has none."""
        return cls("", Hierarchies({}))

    @classmethod
    def named(cls, path: str, hierarchies: Hierarchies | None = None) -> "Cgroup":
        """Find a group again, as after a restart of the caller; a group that is gone is empty."""
        group = cls(path, hierarchies or Hierarchies.mounted())
        group._present = [place + path for place in group.hierarchies.places if os.path.isdir(place + path)]
        return group

    @property
    def exists(self) -> bool:
        return bool(self._present)

    def directory(self, controller: str) -> str | None:
        """Where the group lies in the hierarchy of this controller, if it is there."""
        place = self.hierarchies.v2 if controller == _V2 else self.hierarchies.v1.get(controller, "")
        directory = place + self.path
        return directory if place and directory in self._present else None

    def apply(self, setting: Setting) -> bool:
        """Write one value, or warn."""
        directory = self.directory(setting.controller)
        try:
            if directory is None:
                raise FileNotFoundError(errno.ENOENT, f"the kernel offers no {setting.controller} controller")
            _write(f"{directory}/{setting.file}", setting.value)
        except OSError as error:
            self.warnings.append(f"{setting.what} is not applied: {setting.file}: {error.strerror}")
            return False
        return True

    def join(self, pid: int, *, born: bool = False) -> None:
        """Move a process with one thread (0: the caller) into the group; `born`: it is in the version 2 group already.

        A thread that moves itself by version 1's "tasks" needs none of the locks that make moving a process slow.
        """
        unified = self.directory(_V2)
        for directory in self._present:
            if born and directory == unified:
                continue
            file = "tasks" if pid == 0 and directory != unified else "cgroup.procs"
            try:
                _write(f"{directory}/{file}", str(pid))
            except OSError as error:
                if error.errno == errno.ESRCH:
                    return  # it has ended meanwhile; whoever waits for it learns why
                self.warnings.append(f"process can't join {directory}: {error.strerror}")

    def pids(self) -> list[int]:
        """All processes of the group and the groups below it."""
        found: set[int] = set()
        unified = self.directory(_V2)
        for directory in [unified] if unified else self._present[:1]:
            for below in _walk(directory):
                found.update(int(line) for line in _read(f"{below}/cgroup.procs").split())
        return sorted(found)

    def kill(self) -> None:
        """SIGKILL every process, including those that fork meanwhile."""
        unified = self.directory(_V2)
        if unified and _try_write(f"{unified}/cgroup.kill", "1"):
            return
        if not self.pids():
            return
        self.freeze()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.thaw()

    def freeze(self, wait: float = 1.0) -> bool:
        """Stop every process where it stands; False when the kernel did not manage within `wait` seconds."""
        unified, freezer = self.directory(_V2), self.directory("freezer")
        if unified and _try_write(f"{unified}/cgroup.freeze", "1"):
            return _until(lambda: "frozen 1" in _read(f"{unified}/cgroup.events"), wait)
        if freezer and _try_write(f"{freezer}/freezer.state", "FROZEN"):
            return _until(lambda: _read(f"{freezer}/freezer.state").strip() == "FROZEN", wait)
        return False

    def thaw(self) -> None:
        unified, freezer = self.directory(_V2), self.directory("freezer")
        if unified:
            _try_write(f"{unified}/cgroup.freeze", "0")
        if freezer:
            _try_write(f"{freezer}/freezer.state", "THAWED")

    @property
    def frozen(self) -> bool:
        unified, freezer = self.directory(_V2), self.directory("freezer")
        by_v2 = bool(unified) and _read(f"{unified}/cgroup.freeze").strip() == "1"
        return by_v2 or (bool(freezer) and _read(f"{freezer}/freezer.state").strip() in ("FREEZING", "FROZEN"))

    def oom_killed(self) -> bool:
        """Has the kernel killed a process of the group for want of memory?"""
        memory, unified = self.directory("memory"), self.directory(_V2)
        text = _read(f"{memory}/memory.oom_control") if memory else ""
        if not text and unified:
            text = _read(f"{unified}/memory.events")
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in text.splitlines())

    def remove(self, wait: float = 1.0) -> None:
        """Remove the group, what the container made below it, and the one above if it is empty.

        Processes in it must have been killed.
        """
        places = list(self._present)
        _until(self._remove_what_can_be, wait)
        if os.path.dirname(self.path) != "/":
            for directory in places:
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(directory))
        for directory in self._present:
            self.warnings.append(f"cgroup {directory} can't be removed: it is in use")

    def _remove_what_can_be(self) -> bool:
        self._present = [directory for directory in self._present if not _remove(directory)]
        return not self._present


def _make(directory: str, place: str, *, offer: bool) -> None:
    """Make the group and those above it. A cpuset takes no process before it has CPUs and memory nodes."""
    above = os.path.dirname(directory)
    for _ in range(_TRIES):
        try:
            os.mkdir(directory)
            break
        except FileExistsError:
            break
        except FileNotFoundError:  # also when the last user of the group above has just removed it
            if above == place:
                raise
            _make(above, place, offer=offer)
            if offer:  # beside version 1 the version 2 groups need no controllers, and are freer without
                _offer_controllers(above)
    if os.path.exists(f"{directory}/cpuset.cpus") and os.path.exists(f"{directory}/tasks"):
        # only version 1 starts empty; version 2 has the files too, and there empty means "as above"
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not _read(f"{directory}/{name}").strip():
                _write(f"{directory}/{name}", _read(f"{above}/{name}").strip())


def _offer_controllers(directory: str) -> None:
    """Version 2: let groups below `directory` have controllers; one at a time, for one refusal refuses a whole line."""
    above = os.path.dirname(directory)
    for at in (above, directory):
        for controller in _read(f"{at}/cgroup.controllers").split():
            _try_write(f"{at}/cgroup.subtree_control", f"+{controller}")


def _walk(directory: str) -> Iterator[str]:
    """A group and those below it, deepest first."""
    for above, _, _ in os.walk(directory, topdown=False):
        yield above


def _remove(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        for below in _walk(directory):
            with contextlib.suppress(OSError):
                os.rmdir(below)
        return not os.path.exists(directory)
    return True


def _until(condition: Callable[[], bool], wait: float) -> bool:
    end = time.monotonic() + wait
    pause = 0.0005
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    return True


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _try_write(path: str, value: str) -> bool:
    try:
        _write(path, value)
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts).decode()
    except OSError:
        return ""  # the group went away meanwhile
    finally:
        os.close(fd)
