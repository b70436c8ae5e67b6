"""Volumes: directories that outlive containers, filled from the image when they are new.

    root/volumes/<name>/_data      named ones, and anonymous ones under 64 hex digits
    root/volumes/<name>/anonymous  there if it goes with its container
    root/volumes/<name>/labels     JSON, if it was made with some

Promises: a volume is filled once, by one process; nothing outside the image is copied, whatever links it holds.
"""

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pybuild.engine.names import check_name
from pybuild.engine.options import MountOption
from pybuild.engine.records import MountPoint
from pybuild.errors import Conflict, NotFound, UsageError
from runner.kernel.locks import locked
from runner.kernel.mounts import overlay_tree
from runner.kernel.paths import open_in_root

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as listings show it. `created`: nanoseconds since 1970."""

    name: str
    path: Path
    anonymous: bool
    labels: Mapping[str, str]
    created: int


class Volumes:
    """The volumes of one state root."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "volumes"

    def mount_points(
        self, wanted: Iterable[MountOption], image_volumes: Sequence[str], lower: Sequence[str]
    ) -> tuple[MountPoint, ...]:
        """Choose or make what each mount needs on the host.

        Args:
            wanted: as the user asked; a later one of the same target wins.
            image_volumes: targets that the image wants as volumes; anonymous ones unless the user mounts there.
            lower: the image's directories, topmost first, to fill new volumes from.

        Raises:
            UsageError: the host's path is not there.
        """
        options = {f"/{target.strip('/')}": None for target in image_volumes if target.strip("/")}
        chosen: dict[str, MountOption] = {target: MountOption(type="volume", target=target) for target in options} | {
            option.target: option for option in wanted
        }
        return tuple(self._mount_point(option, lower) for option in chosen.values())

    def _mount_point(self, option: MountOption, lower: Sequence[str]) -> MountPoint:
        if option.type == "tmpfs":
            return MountPoint("tmpfs", "", option.target, read_only=option.read_only, options=option.options)
        if option.type == "bind":
            self._host_path(option)
            return MountPoint("bind", option.source, option.target, "", option.read_only, option.options)
        name = option.source or secrets.token_hex(32)
        data = self.create(name, anonymous=not option.source)
        if not option.no_copy:
            with locked(data.parent):
                if not any(data.iterdir()):
                    _fill(data, option.target, lower)
        return MountPoint(
            "volume", str(data), option.target, name, option.read_only, option.options, anonymous=not option.source
        )

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            with contextlib.suppress(NotFound):  # removed meanwhile
                found.append(self.get(name))
        return found

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        directory = self._directory / name
        data = directory / "_data"
        try:
            created = data.stat().st_ctime_ns if not name.startswith(".") and "/" not in name else None
        except OSError:
            created = None
        if created is None:
            raise NotFound(f"get {name}: no such volume", hint="`pybuild volume ls` lists all there are")
        try:
            labels = json.loads((directory / "labels").read_bytes())
        except (OSError, ValueError):
            labels = {}
        return Volume(name, data, (directory / "anonymous").exists(), labels, directory.stat().st_mtime_ns)

    def make(self, name: str, labels: Mapping[str, str]) -> Volume:
        """A volume of the user's; one that is there already stays as it is. Raises UsageError for a bad name."""
        name = check_name(name) if name else secrets.token_hex(32)
        with contextlib.suppress(NotFound):
            return self.get(name)
        data = self.create(name)
        if labels:
            draft = data.parent / "labels.new"
            draft.write_text(json.dumps(dict(labels)))
            draft.rename(data.parent / "labels")
        return self.get(name)

    def remove(self, name: str, users: Iterable[str]) -> None:
        """Remove a volume that no container (`users`: names of those that have it) needs. Raises NotFound, Conflict."""
        self.get(name)
        if found := sorted(users):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(found)}]")
        gone = self._directory / f".gone-{secrets.token_hex(8)}"
        (self._directory / name).rename(gone)  # at once, so that nobody finds half of it
        shutil.rmtree(gone, ignore_errors=True)

    def create(self, name: str, *, anonymous: bool = False) -> Path:
        """The directory of a volume, made if it is not there."""
        data = self._directory / name / "_data"
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        data.parent.mkdir(mode=0o711, exist_ok=True)
        data.mkdir(mode=0o755, exist_ok=True)
        if anonymous:
            (data.parent / "anonymous").touch()
        return data

    def remove_anonymous(self, mounts: Iterable[MountPoint]) -> None:
        """Remove the volumes that were made for one container only. Idempotent."""
        for mount in mounts:
            if mount.type == "volume" and mount.anonymous:
                shutil.rmtree(self._directory / mount.name, ignore_errors=True)

    @staticmethod
    def _host_path(option: MountOption) -> None:
        if os.path.lexists(option.source):
            return
        if not option.create_source:
            raise UsageError(
                f"bind source path does not exist: {option.source}", hint="make it, or use -v, which makes a directory"
            )
        os.makedirs(option.source, exist_ok=True)


def _fill(data: Path, target: str, lower: Sequence[str]) -> None:
    """Copy what the image has at `target`, with owners, modes, times and extended attributes."""
    root = overlay_tree(lower, None, None)
    try:
        try:
            source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return  # nothing there, or no directory: the volume stays empty
        into = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _copy_directory(source, into)
        finally:
            os.close(into)
            os.close(source)
    finally:
        os.close(root)


def _copy_directory(source: int, into: int) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            _copy_entry(source, into, entry.name, found)
    _copy_attributes(source, into, os.fstat(source))


def _copy_entry(source: int, into: int, name: str, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=into)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=into, follow_symlinks=False)
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=into, follow_symlinks=False)
        return
    if stat.S_ISDIR(found.st_mode):
        os.mkdir(name, 0o700, dir_fd=into)
    elif not stat.S_ISREG(found.st_mode):
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=into)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=into, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=into)
        return
    is_directory = stat.S_ISDIR(found.st_mode)
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_DIRECTORY if is_directory else 0)
    old = os.open(name, os.O_RDONLY | flags, dir_fd=source)
    try:
        new = os.open(
            name, flags | (os.O_RDONLY if is_directory else os.O_WRONLY | os.O_CREAT | os.O_EXCL), 0o600, dir_fd=into
        )
        try:
            if is_directory:
                _copy_directory(old, new)
            else:
                while os.copy_file_range(old, new, _BLOCK):
                    pass
                _copy_attributes(old, new, found)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_attributes(source: int, into: int, found: os.stat_result) -> None:
    """Owner first: it clears set-user-ID bits and capabilities, which mode and attributes bring back."""
    os.chown(into, found.st_uid, found.st_gid)
    os.chmod(into, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            with contextlib.suppress(OSError):  # the volume's filesystem may not know this kind
                os.setxattr(into, name, os.getxattr(source, name))
    os.utime(into, ns=(found.st_atime_ns, found.st_mtime_ns))
