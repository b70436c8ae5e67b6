"""System calls that Python does not have: one function a call, no policy.

Gives:    thin wrappers that raise OSError with the errno's text and the call's name.
Promises: descriptors that come from here are close-on-exec.
Not here: what a sequence of calls is for (mounts.py, paths.py, namespaces.py, …).
"""

import ctypes
import errno
import os
from signal import SIGCHLD
from struct import pack

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
# Declared as pointers, arguments may be integers of full width, bytes or None; six of them always.
_syscall.argtypes = (ctypes.c_long, *(ctypes.c_void_p,) * 6)
_PADDING: tuple[tuple[int, ...], ...] = tuple((0,) * (6 - count) for count in range(7))
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p
# The same, but holding the interpreter lock: the copy of this process that clone3 makes then holds it too.
_held_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_held_syscall.restype = ctypes.c_long
_held_syscall.argtypes = _syscall.argtypes

# Calls above 423 have one number on every architecture; only older ones differ.
_OLD_NUMBERS = {
    "x86_64": {
        "getcwd": 79,
        "pivot_root": 155,
        "keyctl": 250,
        "seccomp": 317,
        "bpf": 321,
        "capget": 125,
        "capset": 126,
        "rt_sigaction": 13,
    },
    "aarch64": {
        "getcwd": 17,
        "pivot_root": 41,
        "keyctl": 219,
        "seccomp": 277,
        "bpf": 280,
        "capget": 90,
        "capset": 91,
        "rt_sigaction": 134,
    },
}
_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
} | _OLD_NUMBERS.get(os.uname().machine, {})

_OPENAT2 = _NUMBERS["openat2"]

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x2_0000_0000

MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
_CLOEXEC = 1  # the new mount calls' own flag

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4

KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5

_CAPABILITY_VERSION_3 = 0x20080522

_SIGNALS = 64  # as many as the kernel has
_DEFAULT_ACTION = bytes(32)  # struct sigaction as the kernel has it: SIG_DFL, no flags, an empty mask


def _fail(call: str, path: str | bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    text = f"{call}: {os.strerror(number)}"
    return OSError(number, text) if path is None else OSError(number, text, os.fsdecode(path))


def _call(
    name: str, *arguments: "int | bytes | ctypes.Array[ctypes.c_char] | None", path: str | bytes | None = None
) -> int:
    """Make one raw system call."""
    number = _NUMBERS.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: not known on {os.uname().machine}")
    result: int = _syscall(number, *arguments, *_PADDING[len(arguments)])
    if result < 0:
        raise _fail(name, path)
    return result


# --- namespaces and processes -----------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    if _libc.unshare(flags) < 0:
        raise _fail("unshare")


def clone3(flags: int, cgroup: int = -1) -> int:
    """Like fork(2): 0 in the child. With CLONE_INTO_CGROUP it is born in the version 2 group of `cgroup` (Linux 5.7).

    The C library knows nothing of the child: for processes with one thread, and children that soon execute.
    """
    into = (cgroup,) if flags & CLONE_INTO_CGROUP else (0,)
    arguments = pack("=11Q", flags, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, *into)
    result: int = _held_syscall(_NUMBERS["clone3"], arguments, len(arguments), 0, 0, 0, 0)
    if result < 0:
        raise _fail("clone3")
    return result


def setns(fd: int, flags: int) -> None:
    """Join the namespace of `fd`; for a pidfd, all the kinds named by `flags` at once (Linux 5.8)."""
    if _libc.setns(fd, flags) < 0:
        raise _fail("setns")


def prctl(option: int, value: int = 0, third: int = 0, fourth: int = 0, fifth: int = 0) -> int:
    result: int = _libc.prctl(option, value, third, fourth, fifth)
    if result < 0:
        raise _fail(f"prctl({option})")
    return result


def close_range(first: int, last: int, *, cloexec: bool) -> None:
    """Close the descriptors from `first` to `last`, or have the next execve do so."""
    _call("close_range", first, last, 4 if cloexec else 0)


def default_signals() -> None:
    """Every signal back to the kernel's default, by raw calls: Python's own are slow, sixty in a row.

    The C library refuses to touch the two that it uses itself, and yet leaves them ignored in what posix_spawn(3)
    starts, for good: such a parent would be felt inside the container.
    """
    number = _NUMBERS["rt_sigaction"]
    for signal in range(1, _SIGNALS + 1):
        _syscall(number, signal, _DEFAULT_ACTION, None, 8, 0, 0)  # SIGKILL and SIGSTOP are refused


def sethostname(name: str) -> None:
    raw = os.fsencode(name)
    if _libc.sethostname(raw, ctypes.c_size_t(len(raw))) < 0:
        raise _fail("sethostname", name)


def setdomainname(name: str) -> None:
    raw = os.fsencode(name)
    if _libc.setdomainname(raw, ctypes.c_size_t(len(raw))) < 0:
        raise _fail("setdomainname", name)


# --- mounts -----------------------------------------------------------------------------------------------------------


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    raw_kind = None if kind is None else os.fsencode(kind)
    wide = ctypes.c_ulong(flags)
    if _libc.mount(os.fsencode(source), os.fsencode(target), raw_kind, wide, os.fsencode(data) or None) < 0:
        raise _fail("mount", target)


def umount2(target: str, flags: int = 0) -> None:
    if _libc.umount2(os.fsencode(target), flags) < 0:
        raise _fail("umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    _call("pivot_root", os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def fsopen(kind: str) -> int:
    return _call("fsopen", os.fsencode(kind), _CLOEXEC, path=kind)


def fsconfig_flag(context: int, key: str) -> None:
    _call("fsconfig", context, FSCONFIG_SET_FLAG, os.fsencode(key), None, 0, path=key)


def fsconfig_string(context: int, key: str, value: str) -> None:
    """Set one option; the kernel takes at most 255 bytes of value."""
    _call("fsconfig", context, FSCONFIG_SET_STRING, os.fsencode(key), os.fsencode(value), 0, path=f"{key}={value}")


def fsconfig_create(context: int) -> None:
    _call("fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(context: int, attributes: int = 0) -> int:
    return _call("fsmount", context, _CLOEXEC, attributes)


def open_tree(directory: int, path: str, flags: int) -> int:
    """Open a mount, or with OPEN_TREE_CLONE a detached copy of it that is gone when its descriptor is closed."""
    return _call("open_tree", directory, os.fsencode(path), flags | os.O_CLOEXEC, path=path)


def move_mount(from_fd: int, to_fd: int) -> None:
    """Attach the mount of `from_fd` on the directory or file of `to_fd`; no path is looked up."""
    _call("move_mount", from_fd, b"", to_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(fd: int, flags: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, userns: int = 0) -> None:
    attributes = pack("=4Q", set_, clear, propagation, userns)
    _call("mount_setattr", fd, b"", flags | AT_EMPTY_PATH, attributes, len(attributes))


# --- files ------------------------------------------------------------------------------------------------------------


def openat2(directory: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` below `directory` as `resolve` tells; EAGAIN (a rename raced with "..") is tried again a while."""
    how = pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    raw = os.fsencode(path)
    for _ in range(128):
        result: int = _syscall(_OPENAT2, directory, raw, how, len(how), 0, 0)
        if result >= 0:
            return result
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    raise _fail("openat2", path)


def getcwd() -> bytes:
    """The kernel's own answer: it starts with "(unreachable)" when the directory lies outside the root."""
    buffer = ctypes.create_string_buffer(4096)
    _call("getcwd", buffer, len(buffer))
    return buffer.value


# --- rights -----------------------------------------------------------------------------------------------------------


def capget(pid: int = 0) -> tuple[int, int, int]:
    """The effective, permitted and inheritable sets, as bit masks."""
    header = pack("=Ii", _CAPABILITY_VERSION_3, pid)
    data = ctypes.create_string_buffer(24)
    _call("capget", header, data)
    words = [int.from_bytes(data.raw[at : at + 4], "little") for at in range(0, 24, 4)]
    return words[0] | words[3] << 32, words[1] | words[4] << 32, words[2] | words[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    header = pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    low, high = [value & 0xFFFFFFFF for value in sets], [value >> 32 for value in sets]
    _call("capset", header, pack("=6I", *low, *high))


def seccomp_load(program: bytes, flags: int = 0) -> None:
    """Install a classic BPF filter (8 bytes an instruction) for this thread and its children, for good."""
    code = ctypes.create_string_buffer(program, len(program))
    header = pack("@HP", len(program) // 8, ctypes.addressof(code))
    _call("seccomp", SECCOMP_SET_MODE_FILTER, flags, header)


def keyctl(operation: int, *arguments: int | bytes | None) -> int:
    return _call("keyctl", operation, *arguments)


def bpf(command: int, attributes: bytes) -> int:
    return _call("bpf", command, attributes, len(attributes))


# --- files that change ------------------------------------------------------------------------------------------------

IN_MODIFY, IN_CREATE, IN_MOVED_TO = 0x2, 0x100, 0x80


def inotify(directory: str, events: int) -> int:
    """Watch a directory: what it gives becomes readable when one of `events` happens there. See the manual page."""
    fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise _fail("inotify_init1")
    if _libc.inotify_add_watch(fd, os.fsencode(directory), events) < 0:
        error = _fail("inotify_add_watch", directory)
        os.close(fd)
        raise error
    return fd
