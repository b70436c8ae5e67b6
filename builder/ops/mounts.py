"""`RUN --mount`: what each kind mounts, and how it is put away (reference §1.6).

Sources are handed to the runner as detached mounts: nothing is attached anywhere on the host, so nothing is left behind
whatever happens.
"""

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.cache.mounts import mount_name, mounts_directory, note_use
from builder.errors import BuilderError
from builder.ops.agents import forwarded
from builder.ops.files import Files, Mountable, WebFile
from builder.ops.workshop import Secret, Workshop, closing
from builder.plan.vertices import RunMount, RunOp
from builder.progress import Step
from builder.snapshots.trees import remove_tree
from runner.container.spec import Mount
from runner.kernel import mounts

_SECRET_LIMIT = 500 * 1024  # bytes, as BuildKit's
_POLL = 0.1  # seconds between two looks at a lock that another build holds
_IN_MEMORY = ("/dev/shm", "/run")


@dataclass
class Parts:
    """What the container is made of, gathered while its mounts are prepared."""

    mounts: list[Mount] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def add_fd(self, fd: int) -> str:
        self.fds.append(fd)
        return f"fd:{len(self.fds) - 1}"


@dataclass
class MountMaker:
    """Prepares the mounts of one step; what they need lives until `undo` is closed."""

    op: RunOp
    sources: Sequence[Files]
    shop: Workshop
    step: Step
    parts: Parts
    undo: contextlib.ExitStack
    caches: dict[str, Path] = field(default_factory=dict)  # by id

    def add_all(self) -> None:
        kinds = {
            "bind": self._bind,
            "cache": self._cache,
            "tmpfs": self._tmpfs,
            "secret": self._secret,
            "ssh": self._ssh,
        }
        self._lock_caches()
        for mount in self.op.mounts:
            kinds[mount.type](mount)
        for script in self.op.scripts:
            self._add_file(f"/dev/pipes/{script.name}", script.content.encode(), 0o755)

    def _bind(self, mount: RunMount) -> None:
        source = self._source(mount)
        opened = source.opened(self.shop, self.step, mount.source or "/", writable=not mount.read_only)
        try:
            tree = self.undo.enter_context(opened)
        except FileNotFoundError:
            raise BuilderError(
                f"mount of {mount.target}: {mount.source!r} was not found", hint="check source= and from="
            ) from None
        self._add_tree(mount.target, tree, read_only=mount.read_only)

    def _cache(self, mount: RunMount) -> None:
        tree = self.undo.enter_context(closing(mounts.bind(str(self.caches[mount.id]))))
        self._add_tree(mount.target, tree, read_only=mount.read_only)

    def _tmpfs(self, mount: RunMount) -> None:
        size = (f"size={mount.size}",) if mount.size else ()
        self.parts.mounts.append(Mount(mount.target, "tmpfs", "tmpfs", ("nosuid", "nodev", *size), "dir"))

    def _secret(self, mount: RunMount) -> None:
        secret = self.shop.secrets.get(mount.id)
        if secret is None:
            if mount.required:
                raise BuilderError(f"secret {mount.id!r} was not given", hint=f"add --secret id={mount.id},src=FILE")
            if mount.env:
                self.parts.env[mount.env] = ""
            return
        content = read_secret(secret)
        if mount.env:
            try:
                self.parts.env[mount.env] = content.decode()
            except UnicodeDecodeError:
                raise BuilderError(f"secret {mount.id!r} is no text, so it can't be a variable") from None
        if mount.target:
            self._add_file(mount.target, content, mount.mode or 0o400, mount.uid, mount.gid)

    def _ssh(self, mount: RunMount) -> None:
        socket = self.shop.agents.get(mount.id)
        if socket is None:
            if mount.required:
                raise BuilderError(f"no SSH agent {mount.id!r} was given", hint=f"add --ssh {mount.id}")
            return
        if not os.path.exists(socket):
            raise BuilderError(f"there is no SSH agent at {socket}", hint="start one, or name its socket with --ssh")
        own = self.undo.enter_context(forwarded(socket, mount, memory_directory()))
        tree = self.undo.enter_context(closing(mounts.bind(own)))
        self.parts.mounts.append(Mount(mount.target, "bind", self.parts.add_fd(tree), ("nosuid", "nodev"), "file"))
        self.parts.env.setdefault("SSH_AUTH_SOCK", mount.target)

    def _source(self, mount: RunMount) -> Mountable:
        found = self.sources[(mount.input or 0) - 1]
        assert not isinstance(found, WebFile), "no mount comes from a download"
        return found

    def _add_tree(self, target: str, tree: int, *, read_only: bool) -> None:
        kind = "dir" if os.path.isdir(f"/proc/self/fd/{tree}") else "file"
        access = ("ro",) if read_only else ()
        self.parts.mounts.append(Mount(target, "bind", self.parts.add_fd(tree), (*access, "nosuid", "nodev"), kind))

    def _add_file(self, target: str, content: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
        tree = self.undo.enter_context(memory_file(content, mode, uid, gid))
        options = ("ro", "nosuid", "nodev")
        self.parts.mounts.append(Mount(target, "bind", self.parts.add_fd(tree), options, "file"))

    def _lock_caches(self) -> None:
        """Each once, and in one order for all steps: two that wait for each other would wait for ever."""
        for mount in sorted((mount for mount in self.op.mounts if mount.type == "cache"), key=lambda mount: mount.id):
            if mount.id not in self.caches:
                self.caches[mount.id] = self.undo.enter_context(self._locked_cache(mount))

    @contextlib.contextmanager
    def _locked_cache(self, mount: RunMount) -> Iterator[Path]:
        """The directory of a cache, held as `sharing` says: together, alone, or another one if it is taken."""
        name = mount_name(mount.id)
        base = mounts_directory(self.shop.root)
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = 0
        while True:
            path = base / (f"{name}.{number}" if number else name)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with closing(lock):
                if self._acquire(lock, mount):
                    note_use(lock, mount.id)
                    self._set_up(path, mount)
                    yield path
                    return
            number += 1

    def _acquire(self, lock: int, mount: RunMount) -> bool:
        """False if a private cache is in use. A build that ends stops waiting."""
        kind = fcntl.LOCK_SH if mount.sharing == "shared" else fcntl.LOCK_EX
        told = False
        while True:
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if mount.sharing == "private":
                    return False
            else:
                if told:
                    self.step.update("waiting", "is over")
                return True
            if not told:
                told = True
                self.step.update("waiting", f"for the cache {mount.id}, which another step uses")
            self.shop.cancellation.wait(_POLL)

    def _set_up(self, path: Path, mount: RunMount) -> None:
        """A new cache starts empty, or with what `from` has; it appears whole. Then it is as this step wants it."""
        if not path.is_dir():
            self._make(path, mount)
        os.chown(path, mount.uid, mount.gid)  # steps of several users may have one cache
        os.chmod(path, mount.mode if mount.mode is not None else 0o755)

    def _make(self, path: Path, mount: RunMount) -> None:
        with closing(os.open(f"{path}.new.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two steps that share a new cache come here at once
            if path.is_dir():
                return
            draft = path.with_name(f"{path.name}.new")
            remove_tree(str(draft))  # of a build that was killed
            draft.mkdir()
            if mount.input is not None:
                with self._source(mount).opened(self.shop, self.step, mount.source or "/", writable=False) as seed:
                    copy_seed(seed, draft)
            draft.rename(path)


def read_secret(secret: Secret) -> bytes:
    """Its value now. Raises BuilderError: it can't be read, or is too long for a secret."""
    if secret.file is None:
        value = os.environb.get(os.fsencode(secret.variable))
        if value is None:
            raise BuilderError(f"secret {secret.id!r}: the variable {secret.variable} is not set")
        return value
    try:
        with secret.file.open("rb") as file:
            content = file.read(_SECRET_LIMIT + 1)
    except OSError as error:
        raise BuilderError(f"secret {secret.id!r}: can't read {secret.file}: {error.strerror}") from None
    if len(content) > _SECRET_LIMIT:
        raise BuilderError(f"secret {secret.id!r} is longer than {_SECRET_LIMIT // 1024} KiB")
    return content


@contextlib.contextmanager
def memory_file(content: bytes, mode: int, uid: int = 0, gid: int = 0) -> Iterator[int]:
    """A file that is in memory only, as a detached mount. On Linux 6.15 and newer it has no name anywhere."""
    with contextlib.ExitStack() as undo:
        directory = undo.enter_context(closing(mounts.filesystem("tmpfs", ("mode=700",))))
        try:
            tree = undo.enter_context(_file_mount(directory, content, mode, (uid, gid)))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Older kernels clone only what is mounted somewhere: a private directory in memory will do.
            place = undo.enter_context(tempfile.TemporaryDirectory(prefix=".pybuild-", dir=memory_directory()))
            named = undo.enter_context(closing(os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)))
            tree = undo.enter_context(_file_mount(named, content, mode, (uid, gid)))
        yield tree


@contextlib.contextmanager
def _file_mount(directory: int, content: bytes, mode: int, owner: tuple[int, int]) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(os.open("file", flags, 0o600, dir_fd=directory)) as file:
        with open(file, "wb", closefd=False) as stream:
            stream.write(content)
        os.fchown(file, *owner)
        os.fchmod(file, mode)
    # Not through the descriptor above: what is open for writing can't be executed, and scripts are.
    with closing(mounts.bind("file", directory=directory)) as tree:
        yield tree


def memory_directory() -> str:
    """A directory in memory: a secret must not touch a disk, not even for a moment."""
    for directory in _IN_MEMORY:
        if _is_tmpfs(directory):
            return directory
    raise BuilderError(
        "neither /dev/shm nor /run is in memory", hint="mount a tmpfs on /run; secrets are kept there only"
    )


def _is_tmpfs(directory: str) -> bool:
    """As /proc/self/mountinfo says; the last mount on a place is the one that is seen."""
    kinds = [
        line.partition(" - ")[2].split()[0]
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        if line.split()[4] == directory
    ]
    return bool(kinds) and kinds[-1] in {"tmpfs", "ramfs"}


def copy_seed(seed: int, directory: Path) -> None:
    """What a cache starts with."""
    from builder.ops.copy import CopyRequest, Source, copy_into

    with closing(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as target:
        copy_into(target, CopyRequest((Source(seed, "/", keep_owner=True),), "/"))
