"""What is kept of containers on disk: one directory each, and the links that make names unique.

    root/containers/
      <id>/config.json     what the container is; its name, limits and restart policy may change
      <id>/state.json      how it is (runner/container/state.py)
      <id>/network.json    its address and ports while it is attached
      <id>/{hostname,hosts,resolv.conf}, json.log…
      names/<name>         a link whose text is the id; a link to nothing is free to be taken
      .new-<id>.<pid>.<start time>, .gone-<id>   half made, half removed: swept up by whoever comes next

Promises: a container is there whole or not at all; a name has one container, however many processes try.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from pybuild.engine.names import is_id_prefix, random_name
from pybuild.engine.options import RunOptions
from pybuild.errors import Conflict, EngineError, NotFound
from runner.container.state import State, start_time, write_state
from runner.kernel.locks import locked


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount as it is: the volume or path of the host that was chosen, and where it appears."""

    type: str  # bind, volume, tmpfs
    source: str
    destination: str
    name: str = ""  # of the volume
    read_only: bool = False
    options: tuple[str, ...] = ()
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A container's config.json: what was asked for, and what came of it together with the image."""

    id: str
    name: str
    created: str
    image: str  # as it was asked for
    image_id: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    user: str
    labels: dict[str, str]
    exposed_ports: tuple[str, ...]
    stop_signal: str
    stop_timeout: int
    options: RunOptions
    mounts: tuple[MountPoint, ...] = ()
    platform: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        return (*self.entrypoint, *self.cmd)

    @property
    def hostname(self) -> str:
        return self.options.hostname or self.id[:12]

    @property
    def snapshot(self) -> str:
        return f"container-{self.id}"


@dataclass(frozen=True, slots=True)
class PublishedPort:
    container_port: int
    protocol: str
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """What a container has on its network now."""

    network: str
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    mac: str = ""
    ports: tuple[PublishedPort, ...] = field(default_factory=tuple)


class Records:
    """The directory of containers of one state root."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "containers"
        self._names = self.directory / "names"

    def of(self, container_id: str) -> Path:
        return self.directory / container_id

    def ids(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.directory) if len(name) == 64]
        except FileNotFoundError:
            return []

    def load(self, container_id: str) -> Record:
        """Raises NotFound, or EngineError when what is there is not ours to read."""
        path = self.of(container_id) / "config.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            raise _unknown(container_id) from None
        except msgspec.DecodeError as error:
            raise EngineError(
                f"{path} is damaged, or of another version of pybuild: {error}",
                hint=f"use the pybuild that made it, or remove {path.parent}",
            ) from None

    def find(self, text: str) -> str:
        """The id of the container called `text`: a name, an id, or a part of an id that fits one only.

        Raises:
            NotFound: none, or several.
        """
        text = text.removeprefix("/")
        try:
            found = os.readlink(self._names / text)
            if self.of(found).exists():
                return found
        except OSError:
            pass
        if not is_id_prefix(text):
            raise _unknown(text)
        fitting = [container_id for container_id in self.ids() if container_id.startswith(text)]
        if len(fitting) > 1:
            raise NotFound(f"several containers have ids that begin with {text}", hint="write more digits")
        if not fitting:
            raise _unknown(text)
        return fitting[0]

    def announce(self, container_id: str) -> None:
        """Before anything is made for a new container: should we die, `leftovers` tells of it."""
        self._names.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._draft(container_id).mkdir(mode=0o700)

    def withdraw(self, container_id: str) -> None:
        """What was announced will not come."""
        shutil.rmtree(self._draft(container_id), ignore_errors=True)

    def add(self, record: Record) -> Record:
        """Keep an announced container, under a made-up name if it has none. Raises Conflict when the name is taken."""
        draft = self._draft(record.id)
        with locked(self.directory / ".lock"):
            record = self._named(record)
            with open(draft / "config.json", "wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            write_state(draft, State())
            draft.rename(self.of(record.id))
        return record

    def rename(self, record: Record, name: str) -> Record:
        """The same container under another name. The caller holds its lock. Raises Conflict when it is taken."""
        renamed = replace(record, name=name)
        with locked(self.directory / ".lock"):
            self._named(renamed)
            self.put(renamed)
            (self._names / record.name).unlink(missing_ok=True)
        return renamed

    def put(self, record: Record) -> None:
        """Replace what is kept of a container. The caller holds its lock."""
        path = self.of(record.id) / "config.json"
        draft = path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(record))
        draft.rename(path)

    def remove(self, container_id: str, name: str) -> None:
        """Forget a container: its name is free at once; the rest may take a moment. Idempotent."""
        gone = self.directory / f".gone-{container_id}"
        with locked(self.directory / ".lock"):
            with contextlib.suppress(FileNotFoundError):
                self.of(container_id).rename(gone)
            with contextlib.suppress(OSError):
                if os.readlink(self._names / name) == container_id:
                    (self._names / name).unlink()

    def erase(self, container_id: str) -> None:
        """The rest of `remove`."""
        shutil.rmtree(self.directory / f".gone-{container_id}", ignore_errors=True)

    def removed(self, container_id: str) -> Record | None:
        """The record of a container whose removal was begun, if it is still there."""
        try:
            content = (self.directory / f".gone-{container_id}" / "config.json").read_bytes()
            return msgspec.json.decode(content, type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def leftovers(self) -> list[str]:
        """Ids of what was half made or half removed by a process that is no more; ready for `erase`."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        found = [name.removeprefix(".gone-") for name in names if name.startswith(".gone-")]
        for name in names:
            if name.startswith(".new-"):
                container_id, pid, started = name.removeprefix(".new-").split(".")
                if start_time(int(pid)) != int(started):
                    with contextlib.suppress(FileNotFoundError):
                        (self.directory / name).rename(self.directory / f".gone-{container_id}")
                    found.append(container_id)
        return found

    @contextlib.contextmanager
    def locked(self, container_id: str, *, wait: bool = True) -> Iterator[bool]:
        """Be the only process that starts, cleans up or removes a container; yields False if another one is.

        NotFound: it is not there (anymore).
        """
        path = self.of(container_id)
        try:
            fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise _unknown(container_id) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not path.exists():  # removed while we waited
                raise _unknown(container_id)
            yield True
        finally:
            os.close(fd)

    def network(self, container_id: str) -> NetworkRecord | None:
        try:
            return msgspec.json.decode((self.of(container_id) / "network.json").read_bytes(), type=NetworkRecord)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def set_network(self, container_id: str, network: NetworkRecord | None) -> None:
        path = self.of(container_id) / "network.json"
        if network is None:
            path.unlink(missing_ok=True)
            return
        draft = path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(network))
        draft.rename(path)

    def _draft(self, container_id: str) -> Path:
        return self.directory / f".new-{container_id}.{os.getpid()}.{start_time(os.getpid())}"

    def _named(self, record: Record) -> Record:
        attempt = 0
        while True:
            name = record.name or random_name(attempt)
            try:
                os.symlink(record.id, self._names / name)
                return replace(record, name=name)
            except FileExistsError:
                holder = os.readlink(self._names / name)
                if not self.of(holder).exists():  # its maker died in between
                    (self._names / name).unlink()
                elif record.name:
                    raise Conflict(
                        f'Conflict. The container name "/{name}" is already in use by container "{holder}"',
                        hint=f"remove that one (`pybuild rm {name}`), or choose another name",
                    ) from None
                attempt += 1


def _unknown(text: str) -> NotFound:
    return NotFound(f"No such container: {text}", hint="`pybuild ps -a` lists all there are")
