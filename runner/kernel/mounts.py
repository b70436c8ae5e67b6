"""Mounts as descriptors: made detached, given their attributes, attached last; a crash before that leaves nothing.

Gives:    overlay_tree, filesystem, bind, attach, attributes, and the words of mount(8) as numbers.
Promises: a mount that is not attached is gone when its descriptor is closed. The older mount(2) is used only where a
          kernel lacks a newer call, and then too the result is a detached descriptor.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.kernel import calls

_STRING_LIMIT = 255  # bytes that fsconfig(2) takes as a value
_TOO_OLD = frozenset((errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP))

_SET = {
    "ro": calls.MOUNT_ATTR_RDONLY,
    "nosuid": calls.MOUNT_ATTR_NOSUID,
    "nodev": calls.MOUNT_ATTR_NODEV,
    "noexec": calls.MOUNT_ATTR_NOEXEC,
    "nodiratime": calls.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": calls.MOUNT_ATTR_NOSYMFOLLOW,
}
_CLEAR = {
    "rw": calls.MOUNT_ATTR_RDONLY,
    "suid": calls.MOUNT_ATTR_NOSUID,
    "dev": calls.MOUNT_ATTR_NODEV,
    "exec": calls.MOUNT_ATTR_NOEXEC,
    "diratime": calls.MOUNT_ATTR_NODIRATIME,
}
_ATIME = {"relatime": 0, "noatime": calls.MOUNT_ATTR_NOATIME, "strictatime": calls.MOUNT_ATTR_STRICTATIME}
_PROPAGATION = {
    "private": calls.MS_PRIVATE,
    "slave": calls.MS_SLAVE,
    "shared": calls.MS_SHARED,
    "unbindable": calls.MS_UNBINDABLE,
}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Words of mount(8), sorted by who obeys them."""

    set_: int = 0  # attributes of the mount
    clear: int = 0
    propagation: int = 0
    recursive: bool = False  # rbind
    data: tuple[str, ...] = ()  # for the file system itself: size=…, mode=…

    @classmethod
    def parse(cls, words: Iterable[str]) -> "MountOptions":
        set_ = clear = propagation = 0
        recursive = False
        data: list[str] = []
        for word in words:
            if word in _SET:
                set_, clear = set_ | _SET[word], clear & ~_SET[word]
            elif word in _CLEAR:
                set_, clear = set_ & ~_CLEAR[word], clear | _CLEAR[word]
            elif word in _ATIME:
                set_, clear = set_ & ~calls.MOUNT_ATTR_ATIME | _ATIME[word], clear | calls.MOUNT_ATTR_ATIME
            elif word.removeprefix("r") in _PROPAGATION:
                propagation = _PROPAGATION[word.removeprefix("r")]
            elif word in ("bind", "rbind"):
                recursive = word == "rbind"
            elif word not in ("defaults", ""):
                data.append(word)
        return cls(set_, clear, propagation, recursive, tuple(data))


def overlay_tree(
    lower: Sequence[str], upper: str | None = None, work: str | None = None, *, options: Sequence[str] = ()
) -> int:
    """A detached overlay of `lower` (topmost first) with `upper` on top, or read-only without it.

    The descriptor is an O_PATH one: use it as dir_fd, reopen "." below it to list, or attach it.

    Raises:
        OSError: with the kernel's own explanation where it gives one.
    """
    if not lower:
        raise ValueError("an overlay needs a lower directory")
    if (upper is None) != (work is None):
        raise ValueError("an overlay takes an upper directory and a work directory, or neither")
    if len(lower) == 1 and upper is None:
        return _view(lower[0])  # the kernel makes no overlay of one directory, nor is one needed
    # An upper directory must hold plain files and directories only, for it becomes a layer: no redirects, no metacopy.
    settings = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")]
    settings += [_key_value(option) for option in options]
    try:
        return _overlay_by_fsconfig(lower, upper, work, settings)
    except OSError as error:
        if error.errno not in _TOO_OLD:
            raise
        try:
            return _overlay_by_mount(lower, upper, work, settings)
        except OSError:
            if error.errno == errno.ENOSYS:
                raise
            raise error from None  # the first refusal came with the kernel's explanation


def filesystem(kind: str, options: Iterable[str] = (), attributes: int = 0, source: str = "") -> int:
    """A detached mount of a new file system, as tmpfs or proc."""
    context = calls.fsopen(kind)
    try:
        with _explained(context, kind):
            if source:
                calls.fsconfig_string(context, "source", source)
            for option in options:
                _configure(context, *_key_value(option))
            calls.fsconfig_create(context)
            return calls.fsmount(context, attributes)
    finally:
        os.close(context)


def bind(path: str, *, directory: int = calls.AT_FDCWD, recursive: bool = False, follow: bool = True) -> int:
    """A detached copy of what lies at `path`; an empty path means `directory` (or file) itself."""
    flags = calls.OPEN_TREE_CLONE | (0 if path else calls.AT_EMPTY_PATH)
    flags |= calls.AT_RECURSIVE if recursive else 0
    flags |= 0 if follow else calls.AT_SYMLINK_NOFOLLOW
    return calls.open_tree(directory, path, flags)


def read_only(path: str) -> int:
    """Open a file through a read-only mount of its own.

    A program that was executed from /proc/self/fd/N of it can't be overwritten through its /proc/PID/exe, whoever gets
    hold of that (CVE-2019-5736).
    """
    tree = bind(path)
    attributes(tree, set_=calls.MOUNT_ATTR_RDONLY)
    return tree


def attach(tree: int, target: int) -> None:
    """Put the detached mount on the directory or file of the descriptor `target`."""
    calls.move_mount(tree, target)


def attributes(tree: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """Change the mount's attributes; recursive: those below it too."""
    flags = calls.AT_RECURSIVE if recursive else 0
    if set_ & calls.MOUNT_ATTR_ATIME:  # the kernel wants the old choice cleared with the new one set
        clear |= calls.MOUNT_ATTR_ATIME
    if set_ or clear or propagation:
        calls.mount_setattr(tree, flags, set_=set_, clear=clear, propagation=propagation)


def _view(directory: str) -> int:
    tree = bind(directory)
    attributes(tree, set_=calls.MOUNT_ATTR_RDONLY)
    return tree


def _overlay_by_fsconfig(
    lower: Sequence[str], upper: str | None, work: str | None, settings: Sequence[tuple[str, str]]
) -> int:
    """`lowerdir+` (Linux 6.5) takes one directory a call, so neither number nor special characters matter."""
    context = calls.fsopen("overlay")
    held: list[int] = []
    try:
        with _explained(context, "overlay"):
            calls.fsconfig_string(context, "source", "overlay")
            for directory in lower:
                calls.fsconfig_string(context, "lowerdir+", _short(directory, held))
            if upper is not None and work is not None:
                calls.fsconfig_string(context, "upperdir", _short(upper, held))
                calls.fsconfig_string(context, "workdir", _short(work, held))
            for key, value in settings:
                _configure(context, key, value)
            calls.fsconfig_create(context)
            return calls.fsmount(context)
    finally:
        os.close(context)
        for fd in held:
            os.close(fd)


def _overlay_by_mount(
    lower: Sequence[str], upper: str | None, work: str | None, settings: Sequence[tuple[str, str]]
) -> int:
    """The same by mount(2): attached for a moment, cloned, detached.

    Directories are named by descriptor: the options must fit one page, and no character needs escaping.
    """
    held: list[int] = []
    try:
        words = [f"lowerdir={':'.join(_by_descriptor(directory, held) for directory in lower)}"]
        if upper is not None and work is not None:
            words += [f"upperdir={_by_descriptor(upper, held)}", f"workdir={_by_descriptor(work, held)}"]
        words += [f"{key}={value}" if value else key for key, value in settings]
        target = upper if upper is not None else lower[0]
        calls.mount("overlay", target, "overlay", 0, ",".join(words))
        try:
            return bind(target)
        finally:
            calls.umount2(target, calls.MNT_DETACH)
    finally:
        for fd in held:
            os.close(fd)


def _configure(context: int, key: str, value: str) -> None:
    if value:
        calls.fsconfig_string(context, key, value)
    else:
        calls.fsconfig_flag(context, key)


def _short(directory: str, held: list[int]) -> str:
    return directory if len(os.fsencode(directory)) <= _STRING_LIMIT else _by_descriptor(directory, held)


def _by_descriptor(directory: str, held: list[int]) -> str:
    held.append(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return f"/proc/self/fd/{held[-1]}"


def _key_value(option: str) -> tuple[str, str]:
    key, _, value = option.partition("=")
    return key, value


class _explained:  # noqa: N801 -- reads as a verb where it is used
    """Turn the kernel's log of a file system context into the error's text."""

    def __init__(self, context: int, kind: str) -> None:
        self._context = context
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        told = _log(self._context)
        if told:
            raise OSError(error.errno, f"{self._kind}: {told}: {os.strerror(error.errno or 0)}") from None


def _log(context: int) -> str:
    lines: list[str] = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:
            return "; ".join(lines)
        lines.append(line.decode(errors="replace").strip().removeprefix("e "))
