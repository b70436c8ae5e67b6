"""What every step works with: the store, the snapshots, the user's wishes; and the way from a change to a layer."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from builder.ops.packing import parse_compression
from builder.progress import Step
from builder.solver.results import MadeLayer, Tree
from builder.solver.scheduler import Cancellation
from builder.times import NANOSECONDS, clamp, rfc3339
from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, RootFs
from registry.model.platform import native
from registry.storage import ContentStore, Lease
from runner.errors import MissingPrivilege

if TYPE_CHECKING:
    from builder.cache.filemap import FileMap
    from builder.cache.remote import RemoteCache
    from builder.layers.borrowed import Borrowed
    from builder.ops.network import NetworkPool
    from builder.snapshots import Snapshot, Snapshots
    from registry.client.progress import Progress
    from runner.container.client import Supervisor

_POLL = 0.05  # seconds between two looks at a lock of another build


@dataclass(frozen=True, slots=True)
class Secret:
    """A value for `--mount=type=secret`: in a file or in the builder's environment, read when a step asks for it."""

    id: str
    file: Path | None = None
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A layer whose snapshot has no name yet."""

    snapshot: "Snapshot"
    layer: MadeLayer


@dataclass
class Workshop:
    """The surroundings of one build. Used by several threads at once."""

    root: Path
    store: ContentStore
    lease: Lease
    compression: str = "gzip"  # maybe with a level: zstd:9
    cancellation: Cancellation = field(default_factory=Cancellation)
    epoch: int | None = None  # SOURCE_DATE_EPOCH in seconds, if the user gave one
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)  # --ssh: id, path of the agent's socket
    selections: "dict[str, Callable[[], FileMap]]" = field(default_factory=dict)  # files behind a digest just taken
    unchanged: dict[str, Callable[[], bool]] = field(default_factory=dict)  # whether they still are what they were
    remotes: "Sequence[RemoteCache]" = ()  # caches of other machines
    unread: frozenset[Digest] = frozenset()  # vertices whose layer is wanted, and whose file system nobody looks at
    has_commands: bool = False  # some step may run one: its supervisor is started while other steps work

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._opened = contextlib.ExitStack()
        self._supervisor: Supervisor | None = None
        self._snapshots: Snapshots | None = None
        self._networks: NetworkPool | None = None
        self._logs: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def snapshots(self) -> "Snapshots":
        """Opened by the first step that must really be done, which also removes what killed builds have left."""
        from builder.snapshots import Snapshots
        from builder.solver.turns import sweep_turns

        with self._lock:
            if self._snapshots is None:
                must_be_able_to_mount()
                self._snapshots = self._opened.enter_context(Snapshots(self.root))
                self._snapshots.sweep()
                sweep_turns(self.root)
                if self.has_commands:
                    _ = self.supervisor  # returns before it is ready
            return self._snapshots

    @property
    def supervisor(self) -> "Supervisor":
        """The parent of this build's containers; it and they end with us."""
        from runner.container.client import Supervisor

        with self._lock:
            if self._supervisor is None:
                self._supervisor = self._opened.enter_context(Supervisor.private())
            return self._supervisor

    @property
    def networks(self) -> "NetworkPool":
        from builder.ops.network import NetworkPool

        with self._lock:
            if self._networks is None:
                self._networks = NetworkPool(self.root)
                self._opened.callback(self._networks.close)
            return self._networks

    @property
    def logs(self) -> Path:
        """Where this build's output goes; made when something is printed for the first time."""
        from builder.ops.output import log_directory

        with self._lock:
            if self._logs is None:
                self._logs = self._opened.enter_context(log_directory(self.root))
            return self._logs

    def at_the_end(self, clean_up: Callable[[], None]) -> None:
        """Have it called when the build is over."""
        with self._lock:
            self._opened.callback(clean_up)

    def unpacked(self, tree: Tree, step: Step | None = None) -> str | None:
        """The name of the snapshot that holds `tree`, made from its layers if it is not there."""
        if tree.chain is None or self.snapshots.exists(tree.chain):
            return tree.chain
        from builder.layers import unpack_image

        # Only the layers and their diff IDs matter for unpacking; the config blob is not looked at.
        manifest = Manifest(MediaType.OCI_MANIFEST, Descriptor(MediaType.OCI_CONFIG, _NO_CONFIG, 0), tree.layers)
        config = ImageConfig(native(), rootfs=RootFs(tree.diff_ids))
        return unpack_image(self.store, self.snapshots, manifest, config, self.until_canceled(step), wait=self._doze)

    def until_canceled(self, step: Step | None) -> "Progress":
        """For something long that tells how far it is, and that ends when the build does."""
        return _UntilCanceled(self.cancellation, step)

    def alone(self, work: Digest, step: Step) -> contextlib.AbstractContextManager[bool]:
        """While the body runs, no other step of any build on this root does the work of that key: see turn().

        Raises Canceled: this build ended while it waited; the other one knows nothing of that.
        """
        from builder.solver.turns import turn

        return turn(self.root, work, step.update, self._doze)

    def _doze(self, holder: int) -> None:
        del holder
        self.cancellation.wait(_POLL)

    def is_unpacked(self, tree: Tree) -> bool:
        """Whether a view of it costs next to nothing. An all-cached build does not even look."""
        return tree.chain is None or (self._snapshots is not None and self._snapshots.exists(tree.chain))

    @contextlib.contextmanager
    def view(self, tree: Tree, step: Step | None = None) -> Iterator[int]:
        """The file system of `tree`, read-only, as a descriptor; nothing is mounted anywhere."""
        from runner.kernel.mounts import bind, overlay_tree

        lower = self.snapshots.view(self.unpacked(tree, step))
        if tree.chain is None:
            fd = bind(lower[0])  # an empty directory
        else:
            # overlayfs takes a single directory only with an upper one
            fd = overlay_tree(lower if len(lower) > 1 else (*lower, *self.snapshots.view(None)))
        with closing(fd):
            yield fd

    @contextlib.contextmanager
    def scratch(self, parent: str | None = None) -> "Iterator[Snapshot]":
        """A snapshot to write to that nobody will see again."""
        key = f"build-{uuid4().hex}"
        snapshot = self.snapshots.prepare(key, parent)
        try:
            yield snapshot
        finally:
            self._drop(snapshot)

    def make_layer(
        self,
        parent: Tree,
        step: Step,
        change: "Callable[[Snapshot], int]",
        oldest_ns: int | None = None,
        borrowed: "Borrowed | None" = None,
    ) -> MadeLayer:
        """Let `change` work on a copy-on-write child of `parent`, and keep what it did as a layer.

        Args:
            parent: the file system below.
            step: told about unpacking.
            change: does the work, leaves nothing mounted, and says how new its newest input is (ns; 0 if it has none).
            oldest_ns: how old the layer's own times may be; None: as the newest of the file system below.
            borrowed: what `change` has only lent to the snapshot, which is then of no use to others.
        """
        below = self.unpacked(parent, step)
        oldest = parent.newest_ns if oldest_ns is None else oldest_ns
        draft = self._drafted(below, change, oldest, borrowed)
        if borrowed:
            self._drop(draft.snapshot)
            return draft.layer
        with self._dropping(draft.snapshot):
            self.snapshots.commit(draft.snapshot.key, parent.on_top(draft.layer).chain or "")
        return draft.layer

    def draft_layer(self, change: "Callable[[Snapshot], int]", oldest_ns: int) -> "Draft":
        """As make_layer(), for a change that sees nothing below: it can be put on whatever there will be.

        The caller puts or drops it.
        """
        return self._drafted(None, change, oldest_ns)

    def put(self, draft: "Draft", parent: Tree, step: Step) -> None:
        """Have a snapshot of the draft's layer on `parent`, which none of its files is touched for."""
        below = self.unpacked(parent, step)
        with self._dropping(draft.snapshot):
            self.snapshots.commit(draft.snapshot.key, parent.on_top(draft.layer).chain or "", onto=below)

    def drop(self, draft: "Draft") -> None:
        self._drop(draft.snapshot)

    def _drafted(
        self,
        below: str | None,
        change: "Callable[[Snapshot], int]",
        oldest_ns: int,
        borrowed: "Borrowed | None" = None,
    ) -> "Draft":
        from builder.layers import write_layer

        snapshot = self.snapshots.prepare(f"build-{uuid4().hex}", below)
        with self._dropping(snapshot):
            began = _stamped(snapshot.work)
            newest = max(oldest_ns, change(snapshot))
            check = self.cancellation.check
            check()
            times = clamp(began, newest, self.epoch)
            packing = parse_compression(self.compression)
            written = write_layer(
                snapshot, self.store, packing, clamp=times, lease=self.lease, check=check, borrowed=borrowed
            )
            newest = max(newest, written.newest_ns)
            made = MadeLayer(written.descriptor, written.diff_id, newest, self._created(newest))
        return Draft(snapshot, made)

    @contextlib.contextmanager
    def _dropping(self, snapshot: "Snapshot") -> Iterator[None]:
        """Drop it if the body fails."""
        try:
            yield
        except BaseException:
            self._drop(snapshot)
            raise

    def _drop(self, snapshot: "Snapshot") -> None:
        """Files before the row: on a full disk the row can't even be deleted until they are gone."""
        from builder.snapshots.trees import remove_tree

        remove_tree(snapshot.upper)
        self.snapshots.remove(snapshot.key)

    def step_epoch(self, parent: Tree) -> int:
        """Seconds since 1970 for SOURCE_DATE_EPOCH in a step on `parent`: what its files' times will be."""
        return self.epoch if self.epoch is not None else parent.newest_ns // NANOSECONDS

    def _created(self, newest_ns: int) -> str:
        """RFC 3339: as old as the newest of what the layer was made from; the user's epoch if there is one."""
        return rfc3339(newest_ns // NANOSECONDS if self.epoch is None else self.epoch)


@dataclass(frozen=True, slots=True)
class _UntilCanceled:
    """Progress of something long that ends with the build."""

    cancellation: Cancellation
    step: Step | None

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        self.cancellation.check()
        if self.step is not None:
            self.step.update(what, status, current, total)


def must_be_able_to_mount() -> None:
    """Raises MissingPrivilege: the first step that works on files would fail, and not say why."""
    from runner.kernel import capabilities

    missing = {"CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_MKNOD"} - set(capabilities.names(capabilities.own()[0]))
    if missing:
        raise MissingPrivilege(
            f"building needs {', '.join(sorted(missing))}, which this process does not have",
            hint="run as root, for example with sudo",
        )


def _stamped(directory: str) -> int:
    """The time, in ns, that the file system stamps files with now: its own clock, not that of this process."""
    probe = f"{directory}/now"
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        return os.stat(probe).st_mtime_ns
    finally:
        os.unlink(probe)


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


_NO_CONFIG = Digest.of(b"")
