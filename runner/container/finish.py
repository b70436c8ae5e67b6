"""From a prepared set of namespaces to the program: the last steps before execve, the same for run and exec.

The order is of the essence (runc's): a step that needs a right comes before that right is given up. Whatever is looked
up by name here is looked up with the container's own root, as the container's own user.
"""

import contextlib
import errno
import os
import resource
import signal
import stat
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fcntl import F_DUPFD_CLOEXEC, fcntl, ioctl
from struct import pack

from runner.container.channel import ChildSide
from runner.container.spec import Process, Rlimit
from runner.container.users import Identity, resolve_user
from runner.errors import CommandNotFound, NotExecutable, RunnerError
from runner.kernel import calls, capabilities
from runner.kernel.paths import mkdir_in_root, open_in_root

_SCRIPTS = 5  # as often as the kernel follows "#!"
_KEY_POSSESSOR_ALL = 0x3F000000  # rights on a key, for who possesses it
_KEY_USER_SEARCH = 0x00080000


@dataclass(frozen=True)
class Plan:
    """What these steps need to know."""

    id: str
    process: Process
    filter: bytes  # seccomp program; empty: none
    streams: tuple[int, int, int]  # descriptors to become 0, 1, 2
    terminal: int | None  # or this pseudo-terminal's slave end in their place
    die_with_parent: bool
    init: str = ""  # path inside of a program to put before the arguments


def run_program(plan: Plan, channel: ChildSide, console: int | None, stubs: list[str]) -> None:
    """Become the container's program. Returns never; raises what went wrong."""
    process = plan.process
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    channel.stage = "session keyring"
    own_keyring(plan.id)
    channel.stage = "user"
    who = resolve_user(root, process.user, process.additional_groups)
    environment = environment_of(process.env, who.home)
    channel.stage = "streams"
    take_streams(plan, who)
    if process.no_new_privileges:
        calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
    channel.stage = "working directory"
    os.umask(process.umask)
    entered = _enter_directory(root, process.cwd, may_wait=True)
    channel.stage = "resource limits"
    for limit in process.rlimits:  # late, for they hold for us too; but raising one takes a right that goes soon
        _limit(limit, channel)
    channel.stage = "seccomp"
    if plan.filter and not process.no_new_privileges:
        # needs CAP_SYS_ADMIN, which goes next
        calls.seccomp_load(plan.filter, calls.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
    channel.stage = "capabilities"
    become(who, capabilities.mask(process.capabilities))
    if not entered:
        channel.stage = "working directory"
        _enter_directory(root, process.cwd, may_wait=False)
    _must_be_inside(process.cwd)
    if plan.die_with_parent:
        calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
    reset_signals()
    calls.close_range(3, 0x7FFFFFFF, cloexec=True)
    channel.stage = "start"
    channel.ready(console, stubs)
    if console is not None:
        os.close(console)
    channel.wait_for_go()
    arguments = [*((plan.init, "--") if plan.init else ()), *process.args]
    if plan.filter and process.no_new_privileges:
        calls.seccomp_load(plan.filter, calls.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
    _execute(root, arguments, process.args[0], environment)


def own_keyring(container_id: str) -> None:
    """Leave the host's session keyring for one of our own, which others of our user may search."""
    try:
        key = calls.keyctl(calls.KEYCTL_JOIN_SESSION_KEYRING, f"_ses.{container_id}".encode())
        calls.keyctl(calls.KEYCTL_SETPERM, key, _KEY_POSSESSOR_ALL | _KEY_USER_SEARCH)
    except OSError as error:
        # EPERM comes from a filter on ourselves, that the container inherits
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT, errno.EACCES):
            raise


def environment_of(entries: Sequence[str], home: str) -> dict[str, str]:
    """Later entries win, in the first one's place; HOME is that of the user unless given."""
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if name and equals:
            found[name] = value
    if not found.get("HOME"):
        found["HOME"] = home
    return found


def take_streams(plan: Plan, who: Identity) -> None:
    """Put the container's streams on 0, 1 and 2; a terminal also becomes the controlling one."""
    if plan.terminal is not None:
        ioctl(plan.terminal, termios.TIOCSCTTY, 0)
        rows, columns = plan.process.console_size
        if rows and columns:
            ioctl(plan.terminal, termios.TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))
        with contextlib.suppress(OSError):
            os.fchown(plan.terminal, who.uid, -1)
        for number in range(3):
            os.dup2(plan.terminal, number, inheritable=True)
        return
    # away from 0 to 2 first: they may be given in any order
    clear = [fcntl(fd, F_DUPFD_CLOEXEC, 10) for fd in plan.streams]
    for number, fd in enumerate(clear):
        # the user must be able to open /dev/stdout again; files and terminals of the host stay whose they are
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            with contextlib.suppress(OSError):
                os.fchown(fd, who.uid, -1)
        os.dup2(fd, number, inheritable=True)
        os.close(fd)


def become(who: Identity, keep: int) -> None:
    """Give up what the process may not have, for good: bounding set, groups, ids, then the sets themselves."""
    capabilities.bound(keep)
    calls.prctl(calls.PR_SET_KEEPCAPS, 1)
    os.setgroups(list(who.groups))
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    calls.prctl(calls.PR_SET_KEEPCAPS, 0)
    # another user than root would lose them at execve anyway, and must not search paths with them before
    _, permitted, _ = capabilities.own()
    capabilities.restrict(keep & permitted if who.uid == 0 else 0)


def reset_signals() -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and its parent may ignore more; a program expects the kernel's defaults."""
    calls.default_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def clamp(soft: int, hard: int, granted: int) -> tuple[int, int]:
    """What of a wanted limit can be had; a negative number is unlimited, as RLIM_INFINITY is."""
    above = (1 << 64) - 1
    wanted = [value if value >= 0 else above for value in (soft, hard)]
    most = granted if granted >= 0 else above
    lower = [min(value, most) for value in (min(wanted), wanted[1])]
    return (lower[0] if lower[0] < above else -1, lower[1] if lower[1] < above else -1)


def _limit(wanted: Rlimit, channel: ChildSide) -> None:
    number = getattr(resource, f"RLIMIT_{wanted.name.removeprefix('RLIMIT_').upper()}", None)
    if not isinstance(number, int):
        raise RunnerError(f"unknown resource limit {wanted.name}")
    try:
        resource.setrlimit(number, (wanted.soft, wanted.hard))
        return
    except (ValueError, OSError):
        pass  # raising one takes CAP_SYS_RESOURCE
    _, granted = resource.getrlimit(number)
    got = clamp(wanted.soft, wanted.hard, granted)
    channel.warn(
        f"limit {wanted.name}={wanted.soft}:{wanted.hard} is lowered to {got[0]}:{got[1]}: the host allows no more"
    )
    resource.setrlimit(number, got)


def make_directory(path: str) -> None:
    """Make the working directory if it is missing, as docker does."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(mkdir_in_root(root, path))
    except OSError as error:
        raise _cwd_error(path, error) from None
    finally:
        os.close(root)


def _enter_directory(root: int, path: str, *, may_wait: bool) -> bool:
    """Magic links are not followed: /proc/self/fd/N would lead out through a descriptor (CVE-2024-21626)."""
    if not path.startswith("/"):
        raise RunnerError(f"working directory {path!r} is not absolute")
    try:
        fd = open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
    except PermissionError as error:
        if may_wait:  # the user itself may be allowed what root is not, as on NFS
            return False
        raise _cwd_error(path, error) from None
    except OSError as error:
        raise _cwd_error(path, error) from None
    return True


def _cwd_error(path: str, error: OSError) -> RunnerError:
    text = "leads out of the container" if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
    return RunnerError(f'working directory "{path}": {text}')


def _must_be_inside(path: str) -> None:
    try:
        found = calls.getcwd()
    except OSError as error:
        raise _cwd_error(path, error) from None
    if not found.startswith(b"/"):
        raise RunnerError(f'working directory "{path}": leads out of the container')


# --- the program ------------------------------------------------------------------------------------------------------


def find_program(root: int, name: str, environment: Mapping[str, str]) -> str:
    """As a shell finds it in PATH, within the container. Raises CommandNotFound (127) or NotExecutable (126)."""
    if "/" in name:
        _must_be_program(root, name, name)
        return name
    for directory in environment.get("PATH", "").split(":"):
        path = f"{directory or '.'}/{name}"
        try:
            _must_be_program(root, path, name)
            return path
        except (CommandNotFound, NotExecutable):
            continue
    raise CommandNotFound(f'exec: "{name}": executable file not found in $PATH')


def _must_be_program(root: int, path: str, name: str, scripts: int = _SCRIPTS) -> None:
    base = root if path.startswith("/") else calls.AT_FDCWD
    resolve = calls.RESOLVE_NO_MAGICLINKS | (calls.RESOLVE_IN_ROOT if path.startswith("/") else 0)
    try:
        fd = calls.openat2(base, path, os.O_PATH, 0, resolve)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            text = os.strerror(error.errno).lower()
            raise CommandNotFound(f'exec: "{name}": stat {path}: {text}') from None
        if error.errno == errno.ELOOP:
            # /proc/self/exe is still the host's Python here; never run it inside (CVE-2019-5736)
            raise NotExecutable(f'exec: "{name}": permission denied: it leads out of the container') from None
        raise NotExecutable(f'exec: "{name}": {os.strerror(error.errno or 0).lower()}') from None
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    if stat.S_ISDIR(found.st_mode):
        raise NotExecutable(f'exec: "{name}": is a directory')
    if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
        raise NotExecutable(f'exec: "{name}": permission denied')
    interpreter = _interpreter(base, path, resolve) if scripts else ""
    if interpreter:
        with contextlib.suppress(CommandNotFound):  # execve tells it better
            _must_be_program(root, interpreter, name, scripts - 1)


def _interpreter(base: int, path: str, resolve: int) -> str:
    """What a "#!" line names; empty for another kind of program, or one that can't be read."""
    try:
        fd = calls.openat2(base, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, resolve)
    except OSError:
        return ""
    try:
        start = os.read(fd, 256)
    except OSError:
        return ""
    finally:
        os.close(fd)
    words = start.partition(b"\n")[0][2:].split() if start.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def _execute(root: int, arguments: list[str], asked: str, environment: Mapping[str, str]) -> None:
    if arguments[0] != asked:
        find_program(root, asked, environment)  # tell what is missing before the init program does
    path = find_program(root, arguments[0], environment)
    os.close(root)
    try:
        os.execve(path, arguments, environment)  # noqa: S606 -- no shell: this is the container's own program
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        if error.errno == errno.ENOENT:  # the file is there, so its interpreter or loader is not
            raise CommandNotFound(
                f'exec: "{asked}": {text}', hint="the interpreter or the loader that it names is missing in the image"
            ) from None
        if error.errno in (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ETXTBSY, errno.EPERM):
            raise NotExecutable(f'exec: "{asked}": {text}') from None
        raise RunnerError(f'exec: "{asked}": {text}') from None
