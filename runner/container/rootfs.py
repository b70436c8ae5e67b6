"""The container's file system, built by its own first process in a mount namespace of its own.

Takes:    a ContainerSpec and the sources of its bind mounts, opened on the host's side.
Promises: each destination is found by openat2(2) within the root and each mount moved onto that descriptor, so a link
          in the image leads nowhere else; /proc and /sys lie on ordinary directories or not at all (CVE-2019-16884,
          CVE-2019-19921, CVE-2023-28642); nothing covers what is in /proc; devices are made and checked by descriptor
          (CVE-2025-31133, CVE-2026-41579).
Not here: namespaces (launch.py), who the process is (finish.py).
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

from runner.container.defaults import DEVICES
from runner.container.spec import ContainerSpec, Device, Mount, RootFilesystem
from runner.errors import RunnerError, UnsafeRootfs
from runner.kernel import calls, mounts
from runner.kernel.cgroups import Cgroup
from runner.kernel.mounts import MountOptions
from runner.kernel.paths import create_file_in_root, mkdir_in_root, open_in_root

_PLAIN = calls.RESOLVE_IN_ROOT | calls.RESOLVE_NO_MAGICLINKS | calls.RESOLVE_NO_SYMLINKS
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
# What lxcfs replaces: the only files in /proc that a mount may cover (never a directory).
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "uptime")
)
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in (
        "domainname", "msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced",
    )
)  # fmt: skip


def open_sources(spec: ContainerSpec, fds: Sequence[int]) -> dict[int, int]:
    """Detached copies of the bind mounts' sources, by place in `spec.mounts`; still in the host's mount namespace."""
    found: dict[int, int] = {}
    for place, wanted in enumerate(spec.mounts):
        if wanted.type != "bind":
            continue
        options = MountOptions.parse(wanted.options)
        if wanted.source.startswith("fd:"):
            found[place] = handed_over(wanted.source, fds)
        else:
            if not wanted.source.startswith("/"):
                raise RunnerError(f"mount of {wanted.destination}: source {wanted.source!r} is not absolute")
            found[place] = _bind_source(wanted, recursive=options.recursive)
    return found


def _bind_source(wanted: Mount, *, recursive: bool) -> int:
    try:
        return mounts.bind(wanted.source, recursive=recursive)
    except OSError as error:
        raise RunnerError(
            f"mount of {wanted.destination}: {wanted.source}: {os.strerror(error.errno or 0)}",
            hint="the source must exist on the host" if error.errno == errno.ENOENT else None,
        ) from None


def handed_over(text: str, fds: Sequence[int]) -> int:
    """The descriptor that "fd:N" means: the N-th of those given with the request."""
    try:
        return fds[int(text.removeprefix("fd:"))]
    except (ValueError, IndexError):
        raise RunnerError(f"{text}: no such descriptor came with the request") from None


class Tree:
    """The root filesystem while it is built. `fd` is its root; `stubs` the mount points that had to be made."""

    def __init__(self, root: RootFilesystem) -> None:
        self._root = root
        self.fd = _root_tree(root)
        self.stubs: list[str] = []
        self._proc_devices: set[int] = set()

    def attach_to_host_tree(self) -> None:
        """Mount the root somewhere in our own mount namespace, for pivot_root(2) takes only what is mounted."""
        place = os.open(self._root.upper or self._root.lower[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.attach(self.fd, place)
        finally:
            os.close(place)

    def forbid_devices(self, sources: Iterable[int]) -> None:
        """No node in the image or a volume may be used: for machines where control groups don't guard devices."""
        for tree in (self.fd, *sources):
            mounts.attributes(tree, set_=calls.MOUNT_ATTR_NODEV, recursive=True)

    def mount_all(self, wanted: Sequence[Mount], sources: Mapping[int, int], cgroup: Cgroup, *, own: bool) -> None:
        """In the order given. `own`: we are in a control group namespace of our own."""
        for place, mount in enumerate(wanted):
            try:
                if mount.type == "cgroup":
                    self._mount_cgroup(mount, cgroup, own=own)
                else:
                    self._mount(mount, sources.get(place))
            except OSError as error:
                told = error.strerror or str(error)
                raise RunnerError(f"mount of {mount.destination} ({mount.type}): {told}") from None

    def _mount(self, wanted: Mount, source: int | None) -> None:
        options = MountOptions.parse(wanted.options)
        target = self._target(wanted, source)
        try:
            if source is not None:
                mounts.attributes(source, set_=options.set_, recursive=True)
                propagation = options.propagation or calls.MS_PRIVATE
                mounts.attributes(source, propagation=propagation, recursive=True)
                mounts.attach(source, target)
                os.close(source)
                return
            words = (*options.data, *(("ro",) if options.set_ & calls.MOUNT_ATTR_RDONLY else ()))
            tree = mounts.filesystem(wanted.type, words, options.set_, wanted.source or wanted.type)
            mounts.attach(tree, target)
            if wanted.type == "proc":
                self._proc_devices.add(_device_of(tree))
            os.close(tree)
        finally:
            os.close(target)

    def _target(self, wanted: Mount, source: int | None) -> int:
        """The descriptor to mount on, made if it is missing."""
        path = wanted.destination
        if not path.startswith("/") or os.path.normpath(path) == "/":
            raise RunnerError(f"mount destination {path!r} must be absolute and not / itself")
        if ".." in path.split("/"):
            path = os.path.normpath(path)
        kind = wanted.create
        if kind == "auto":
            kind = "file" if source is not None and not stat.S_ISDIR(os.fstat(source).st_mode) else "dir"
        target = self._plain_target(path, kind) if self._must_be_plain(wanted) else self._inside_target(path, kind)
        self._refuse_proc(target, wanted)
        return target

    def _must_be_plain(self, wanted: Mount) -> bool:
        """File systems of the kernel, and /dev, must be where they seem to be; a user's own mount may follow links."""
        return wanted.type not in ("bind", "tmpfs") or os.path.normpath(wanted.destination) == "/dev"

    def _plain_target(self, path: str, kind: str) -> int:
        try:
            return calls.openat2(self.fd, path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _PLAIN)
        except FileNotFoundError:
            return self._made(path, kind)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UnsafeRootfs(
                    f"{path} must be mounted on an ordinary directory",
                    hint=f"the image has a link or a file in the place of {path}: rebuild it without",
                ) from None
            raise

    def _inside_target(self, path: str, kind: str) -> int:
        try:
            return open_in_root(self.fd, path, os.O_PATH)
        except FileNotFoundError:
            return self._made(path, kind)

    def _made(self, path: str, kind: str) -> int:
        if kind == "none":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        missing = [] if self._is_elsewhere(path) else list(self._missing(path))
        if kind == "file":
            os.close(create_file_in_root(self.fd, path, 0o755))
            made = open_in_root(self.fd, path, os.O_PATH | os.O_NOFOLLOW)
        else:
            made = mkdir_in_root(self.fd, path)
        if missing and _device_of(made) == _device_of(self.fd):
            self.stubs.extend(missing)
        return made

    def _is_elsewhere(self, path: str) -> bool:
        """Does it lie in another mount, as /dev/shm does? What is made there does not stay."""
        try:
            above = open_in_root(self.fd, os.path.dirname(path), os.O_PATH)
        except FileNotFoundError:
            return False
        try:
            return _device_of(above) != _device_of(self.fd)
        finally:
            os.close(above)

    def _missing(self, path: str) -> Iterator[str]:
        """The path and those above it that are not there, topmost first."""
        names = [name for name in path.split("/") if name]
        for count in range(1, len(names) + 1):
            at = "/" + "/".join(names[:count])
            try:
                os.close(open_in_root(self.fd, at, os.O_PATH))
            except FileNotFoundError:
                yield at

    def _refuse_proc(self, target: int, wanted: Mount) -> None:
        if wanted.type == "proc" or _device_of(target) not in self._proc_devices:
            return
        path = os.path.normpath(wanted.destination)
        if wanted.type == "bind" and path in _PROC_FILES and stat.S_ISREG(os.fstat(target).st_mode):
            return
        raise UnsafeRootfs(f"{wanted.destination} can't be mounted: it lies inside /proc")

    # --- control groups as the container sees them --------------------------------------------------------------------

    def _mount_cgroup(self, wanted: Mount, cgroup: Cgroup, *, own: bool) -> None:
        """Its own group only: by a namespace of its own, or else by binding just that group's directories."""
        options = MountOptions.parse(wanted.options)
        found = cgroup.hierarchies
        if not cgroup.exists:
            return
        if not found.v1:
            tree = (
                mounts.filesystem("cgroup2", (), options.set_, "cgroup") if own else mounts.bind(found.v2 + cgroup.path)
            )
            mounts.attributes(tree, set_=options.set_)
            self._attach_new(tree, wanted)
            return
        tree = mounts.filesystem("tmpfs", ("mode=755",), options.set_ & ~calls.MOUNT_ATTR_RDONLY, "tmpfs")
        at = self._attach_new(tree, wanted)
        try:
            for place in dict.fromkeys(found.v1.values()):
                self._bind_hierarchy(at, place, cgroup, options)
            mounts.attributes(at, set_=options.set_)
        finally:
            os.close(at)

    def _bind_hierarchy(self, at: int, place: str, cgroup: Cgroup, options: MountOptions) -> None:
        name = os.path.basename(place)
        try:
            tree = mounts.bind(place + cgroup.path)
        except FileNotFoundError:
            return  # the group could not be made there; told already
        os.mkdir(name, 0o755, dir_fd=at)
        target = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        mounts.attributes(tree, set_=options.set_, propagation=calls.MS_PRIVATE)
        mounts.attach(tree, target)
        os.close(target)
        os.close(tree)
        for controller, where in cgroup.hierarchies.v1.items():
            if where == place and controller != name and "=" not in controller:
                os.symlink(name, controller, dir_fd=at)

    def _attach_new(self, tree: int, wanted: Mount) -> int:
        target = self._target(wanted, None)
        mounts.attach(tree, target)
        os.close(target)
        return tree

    # --- devices ------------------------------------------------------------------------------------------------------

    def make_devices(self, extra: Sequence[Device]) -> None:
        dev = calls.openat2(self.fd, "/dev", os.O_PATH | os.O_DIRECTORY, 0, _PLAIN)
        try:
            for device in (*DEVICES, *extra):
                self._make_device(dev, device)
            for name, target in _LINKS:
                _link(target, name, dev)
            if _exists(self.fd, "/proc/kcore"):
                _link("/proc/kcore", "core", dev)
        finally:
            os.close(dev)

    def _make_device(self, dev: int, device: Device) -> None:
        above, name = os.path.split(os.path.normpath(device.path))
        inside = os.path.relpath(above, "/dev") if above == "/dev" or above.startswith("/dev/") else None
        if inside is None or not name:
            raise RunnerError(f"device {device.path} must lie below /dev")
        directory = mkdir_in_root(dev, inside) if inside != "." else os.dup(dev)
        try:
            kind = stat.S_IFBLK if device.type == "b" else stat.S_IFCHR
            number = os.makedev(device.major, device.minor)
            try:
                os.mknod(name, device.mode | kind, number, dir_fd=directory)
            except FileExistsError:
                pass  # an image of /dev with nodes in it is fine if they are the right ones
            made = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                found = os.fstat(made)
            finally:
                os.close(made)
            if stat.S_IFMT(found.st_mode) != kind or found.st_rdev != number:
                raise UnsafeRootfs(f"{device.path} is not the device it must be")
        finally:
            os.close(directory)

    def open_terminal(self) -> tuple[int, int]:
        """A new pseudo-terminal of the container's own devpts: both ends, and the slave bound to /dev/console."""
        master, slave = open_pty(self.fd)
        dev = calls.openat2(self.fd, "/dev", os.O_PATH | os.O_DIRECTORY, 0, _PLAIN)
        try:
            try:
                os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=dev))
            except FileExistsError:
                pass
            target = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
            tree = mounts.bind("", directory=slave)
            mounts.attach(tree, target)
            os.close(tree)
            os.close(target)
        finally:
            os.close(dev)
        return master, slave

    # --- what must not be seen or changed -----------------------------------------------------------------------------

    def write_sysctls(self, sysctls: Sequence[tuple[str, str]]) -> None:
        """Through a /proc that nobody else has seen, so that no mount can lead the write elsewhere (CVE-2025-52881)."""
        if not sysctls:
            return
        fresh = mounts.filesystem(
            "proc", (), calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NODEV | calls.MOUNT_ATTR_NOEXEC
        )
        resolve = (
            calls.RESOLVE_BENEATH | calls.RESOLVE_NO_XDEV | calls.RESOLVE_NO_SYMLINKS | calls.RESOLVE_NO_MAGICLINKS
        )
        try:
            for name, value in sysctls:
                try:
                    fd = calls.openat2(fresh, f"sys/{sysctl_path(name)}", os.O_WRONLY, 0, resolve)
                    try:
                        os.write(fd, value.encode())
                    finally:
                        os.close(fd)
                except OSError as error:
                    raise RunnerError(f"sysctl {name}={value}: {os.strerror(error.errno or 0)}") from None
        finally:
            os.close(fresh)

    def make_readonly(self, paths: Sequence[str]) -> None:
        for path in self._expanded(paths):
            try:
                target = open_in_root(self.fd, path, os.O_PATH)
            except (FileNotFoundError, NotADirectoryError):
                continue
            tree = mounts.bind("", directory=target, recursive=True)
            mounts.attributes(tree, set_=calls.MOUNT_ATTR_RDONLY, recursive=True)
            mounts.attach(tree, target)
            os.close(tree)
            os.close(target)

    def mask(self, paths: Sequence[str]) -> None:
        """Files become /dev/null, directories one empty read-only tmpfs that they share."""
        null = self._null() if paths else -1
        empty = -1
        for path in self._expanded(paths):
            try:
                target = open_in_root(self.fd, path, os.O_PATH)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(os.fstat(target).st_mode):
                tree = mounts.bind("", directory=null)
            elif empty < 0:
                tree = empty = mounts.filesystem("tmpfs", ("ro",), calls.MOUNT_ATTR_RDONLY, "tmpfs")
            else:
                tree = mounts.bind("", directory=empty)
            mounts.attach(tree, target)
            os.close(target)
            if tree != empty:
                os.close(tree)
        for fd in (null, empty):
            if fd >= 0:
                os.close(fd)

    def _null(self) -> int:
        fd = open_in_root(self.fd, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
        found = os.fstat(fd)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
            raise UnsafeRootfs("/dev/null is not the null device, so paths can't be masked")
        return fd

    def _expanded(self, paths: Sequence[str]) -> Iterator[str]:
        """A `*` in one component stands for the names that the container's own tree has there."""
        for path in paths:
            if "*" not in path:
                yield path
                continue
            above, _, rest = path.partition("*")
            directory, _, prefix = above.rpartition("/")
            for name in sorted(self._names(directory)):
                if name.startswith(prefix) and name[len(prefix) :].isdigit():
                    yield f"{directory}/{name}{rest}"

    def _names(self, path: str) -> list[str]:
        try:
            fd = open_in_root(self.fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    # --- the end ------------------------------------------------------------------------------------------------------

    def make_root_readonly(self) -> None:
        mounts.attributes(self.fd, set_=calls.MOUNT_ATTR_RDONLY)

    def enter(self) -> None:
        """Make the tree our root and let go of the host's (pivot_root(2): both names may be the same directory)."""
        old = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(self.fd)
        calls.pivot_root(".", ".")
        os.fchdir(old)
        calls.mount("none", ".", None, calls.MS_REC | calls.MS_SLAVE)  # the detaching must not reach the host
        calls.umount2(".", calls.MNT_DETACH)
        os.close(old)
        os.chdir("/")


def sysctl_path(name: str) -> str:
    """Where below /proc/sys; only what belongs to a namespace of the container may be set."""
    if not (name.startswith(_SYSCTL_PREFIXES) or name in _SYSCTLS) or "/" in name or ".." in name:
        raise RunnerError(
            f"sysctl {name} can't be set: it does not belong to the container alone",
            hint="net.*, fs.mqueue.* and kernel.{shm*,msg*,sem,domainname} can",
        )
    return name.replace(".", "/")


def open_pty(root_fd: int) -> tuple[int, int]:
    """Both ends of a new pseudo-terminal, found without trusting any name (TIOCGPTPEER)."""
    from fcntl import ioctl

    probe = open_in_root(root_fd, "/dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW)
    _must_be_ptmx(probe)
    os.close(probe)
    master = open_in_root(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW)
    _must_be_ptmx(master)
    ioctl(master, _TIOCSPTLCK, b"\0\0\0\0")
    slave = ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    os.set_blocking(master, True)
    return master, slave


_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def _must_be_ptmx(fd: int) -> None:
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(5, 2):
        raise UnsafeRootfs("/dev/pts/ptmx is not the terminal multiplexer")


def _root_tree(root: RootFilesystem) -> int:
    try:
        if root.lower:
            return mounts.overlay_tree(root.lower, root.upper or None, root.work or None)
        return mounts.bind(root.upper, recursive=True)
    except OSError as error:
        raise RunnerError(f"root filesystem: {error.strerror}: {error.filename or root.upper}") from None


def _device_of(fd: int) -> int:
    return os.fstat(fd).st_dev


def _link(target: str, name: str, directory: int) -> None:
    try:
        os.symlink(target, name, dir_fd=directory)
    except FileExistsError:
        pass


def _exists(root_fd: int, path: str) -> bool:
    try:
        os.close(open_in_root(root_fd, path, os.O_PATH))
    except OSError:
        return False
    return True
