"""One vertex: is its output known already, and if not, make it.

Gives:    Solver.solve and Solver.begin, for the scheduler.
Promises: a step whose layer is in the cache mounts nothing and unpacks nothing; of several builds that need the same
          layer at the same time, one makes it.
Not here: the order of vertices (scheduler.py), what a step does (ops/).
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.cache.ledger import Ledger
from builder.cache.report import CANCELED, FAILED
from builder.errors import BuilderError
from builder.ops.files import ContextFiles, Files, LateFiles, Selection, TreeFiles
from builder.ops.packing import packed
from builder.ops.workshop import Draft, Workshop, closing
from builder.plan.vertices import (
    ContextOp,
    CopyOp,
    GitOp,
    HttpOp,
    ImageOp,
    MkdirOp,
    RunOp,
    ScratchOp,
    SourcePath,
    Vertex,
)
from builder.progress import Event, Reporter, Step
from builder.snapshots import Snapshot
from builder.solver.keys import fast_key, slow_key
from builder.solver.results import MadeLayer, Tree
from builder.solver.scheduler import Canceled, VertexFailed
from builder.times import NANOSECONDS, OLDEST_NS, nanoseconds
from registry.errors import BlobUnknown, RegistryError
from registry.model import Digest
from runner.errors import RunnerError

if TYPE_CHECKING:
    from builder.cache.filemap import FileMap
    from builder.cache.foreign import Foreign
    from builder.cache.parts import Parts
    from builder.layers.borrowed import Borrowed
    from builder.ops.linking import Above

StepOp = CopyOp | RunOp | MkdirOp
_PLAIN = "linked to plain directories"  # in keys, in the place of the file system below


@dataclass
class _Look:
    """What is known of a step before it is done."""

    parent: Tree
    names: list[str | None]  # of its sources
    linked: bool = False
    keys: list[Digest] = field(default_factory=list)  # that were asked for, those that cost more later
    plain_keys: list[Digest] = field(default_factory=list)  # the same, of a linked copy to plain directories
    contents: list[Digest] = field(default_factory=list)
    above: "tuple[Above, ...]" = ()
    layer: MadeLayer | None = None
    draft: Draft | None = None  # or it was made already

    @property
    def last(self) -> Digest:
        """The key that was asked for last. If nothing was found, it is one that equal work has in every build."""
        return (self.plain_keys or self.keys)[-1]


@dataclass
class Solver:
    """Solves the vertices of one build. `made` collects the layers by their vertices' digests."""

    shop: Workshop
    reporter: Reporter
    open_context: Callable[[str], ContextFiles | LateFiles]
    ledger: Ledger
    made: dict[Digest, MadeLayer] = field(default_factory=dict)
    foreign: "Foreign | None" = None  # if caches of other machines are read or written

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.is_working = False  # something is done, and not just looked up
        self._begun: dict[Digest, Step] = {}  # linked copies that were done before there was anything below them
        self._drafts: dict[Digest, tuple[Draft, list[Digest]]] = {}  # … what they gave, and what they copied
        self._foreign: set[Digest] = set()  # keys found in other machines' caches

    def solve(self, vertex: Vertex, inputs: Sequence[Files]) -> Files:
        """For run_graph.

        Raises:
            VertexFailed: the operation failed. Canceled: the build ends.
        """
        found = self._solved(vertex, inputs)
        if self.foreign is not None:
            self.foreign.learn(vertex, found)
        return found

    def _solved(self, vertex: Vertex, inputs: Sequence[Files]) -> Files:
        if isinstance(vertex.op, ScratchOp):
            return TreeFiles(Tree(newest_ns=self._floor()))
        if isinstance(vertex.op, ContextOp):
            return self.open_context(vertex.op.name)
        self.shop.cancellation.check()
        step = self._begun.pop(vertex.digest, None) or self._started(vertex)
        with self._told(vertex, step):
            found, cached = self._solve(vertex, inputs, step)
        step.done(cached=cached)
        self.ledger.ended(vertex, step.seconds)
        return found

    def begin(self, vertex: Vertex, sources: Sequence[Files]) -> None:
        """For run_graph: look at sources whose content must be known in any case, and do a COPY --link.

        Raises:
            VertexFailed: a source is not there, or can't be copied. Canceled: the build ends.
        """
        op, names = vertex.op, [source.name for source in sources]
        alone = isinstance(op, CopyOp) and _needs_nothing_below(op)
        if not isinstance(op, CopyOp | RunOp) or not (alone or None in names):
            return
        if alone and (fast := fast_key(op, _PLAIN, names, self.shop.epoch)) is not None and self._known(fast, vertex):
            return
        try:
            contents = self._contents(op, sources, Step(0, _ignore))
        except Exception:
            self.shop.cancellation.check()
            with self._told(vertex, self._started(vertex)):
                raise
        if isinstance(op, CopyOp) and alone:
            self._copy_early(vertex, op, sources, contents)

    def leave(self) -> None:
        """Put away what was begun and not needed in the end, for what it stands on failed."""
        while self._begun:
            digest, step = self._begun.popitem()
            step.canceled()
            self.ledger.gave_up(digest, step.seconds)
        while self._drafts:
            self.shop.drop(self._drafts.popitem()[1][0])

    def _copy_early(self, vertex: Vertex, op: CopyOp, sources: Sequence[Files], contents: list[Digest]) -> None:
        """Do a linked copy as it comes out over directories that are plain or missing, which they mostly are."""
        names, epoch = [source.name for source in sources], self.shop.epoch
        key = slow_key(op, _PLAIN, contents, epoch)
        if self._known(key, vertex) is not None:
            return
        step = self._started(vertex)
        turn = nullcontext(enter_result=False) if vertex.no_cache else self.shop.alone(key, step)
        with self._told(vertex, step), turn as waited:
            if self._known(key, vertex) is None and not waited:
                draft = self._plain_draft(op, sources, step)
                if draft is not None and not self._is_unchanged(contents):
                    self.shop.drop(draft)
                elif draft is not None:
                    self._drafts[vertex.digest] = draft, contents
                    parts = self.ledger.parts(vertex, ["", *names], contents, epoch)
                    self._keep(draft.layer, vertex, parts, *self._plain_keys(op, names, contents))
        step.update("copied", "and waits for what is below")
        step.hold()
        self._begun[vertex.digest] = step

    def _plain_draft(self, op: CopyOp, sources: Sequence[Files], step: Step) -> Draft | None:
        """The layer of a linked copy, on nothing; None if it would be another one on plain directories."""
        from builder.ops.copying import copy_files
        from builder.ops.linking import are_plain, directories_above

        shop, plain = self.shop, True

        def change(snapshot: Snapshot) -> int:
            nonlocal plain
            newest = copy_files(op, sources, snapshot, shop, step)
            with closing(os.open(snapshot.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
                plain = are_plain(directories_above(op.destination, root))
            return newest

        draft = shop.draft_layer(change, self._floor())
        if not plain:
            shop.drop(draft)
        return draft if plain else None

    def _started(self, vertex: Vertex) -> Step:
        step = self.reporter.start(vertex.name)
        self.ledger.began(vertex, step.number)
        return step

    @contextmanager
    def _told(self, vertex: Vertex, step: Step) -> Iterator[None]:
        """Say how a step ends if it does not end well. Raises VertexFailed for what the user can act on."""
        try:
            yield
        except Canceled:
            step.canceled()
            self.ledger.ended(vertex, step.seconds, CANCELED)
            raise
        except (BuilderError, RegistryError, RunnerError, OSError) as error:
            step.failed(str(error).partition("\n")[0])
            self.ledger.ended(vertex, step.seconds, FAILED)
            raise VertexFailed(vertex, error) from error
        except BaseException as error:
            step.failed(type(error).__name__)
            self.ledger.ended(vertex, step.seconds, FAILED)
            raise

    def _solve(self, vertex: Vertex, inputs: Sequence[Files], step: Step) -> tuple[Files, bool]:
        match vertex.op:
            case ImageOp() as op:
                newest = max(self._floor(), nanoseconds(op.created))
                self.ledger.hit(vertex)
                return TreeFiles(Tree(op.layers, op.diff_ids, newest)), True
            case HttpOp() as op:
                from builder.ops.web import fetch

                with self.shop.alone(vertex.digest, step):
                    file, cached = fetch(op, self.shop, step)
                if cached:
                    self.ledger.hit(vertex)
                return file, cached
            case GitOp() as op:
                from builder.ops.gitfiles import git_files

                commit, cached = git_files(op, self.shop)
                if cached:
                    self.ledger.hit(vertex)
                return commit, cached
            case CopyOp() | RunOp() | MkdirOp() as op:
                return self._layer(vertex, op, inputs, step)
            case _:
                raise TypeError(f"no way to solve {type(vertex.op).__name__}")

    def _layer(self, vertex: Vertex, op: StepOp, inputs: Sequence[Files], step: Step) -> tuple[Files, bool]:
        """The step's layer: known by its definition, known by what it takes from its sources, or made."""
        below, *sources = inputs
        assert isinstance(below, TreeFiles), "a step stands on a file system"
        look = self._look(vertex, op, below.tree, sources, step)
        while look.layer is None and look.draft is None and not vertex.no_cache:
            with self.shop.alone(look.last, step) as waited:
                # Whoever did the same meanwhile was first: its layer is the result for all.
                look.layer = self._known(look.last, vertex) or self._by_buildkit(vertex, look)
                if look.layer is None and waited:
                    before, look = look.last, self._look(vertex, op, below.tree, sources, step)
                    if look.last != before:
                        continue  # files were edited while we waited: it is other work now
                layer, cached = self._settle(vertex, op, look, sources, step)
                break
        else:
            layer, cached = self._settle(vertex, op, look, sources, step)
        for digest in look.contents:
            self.shop.selections.pop(str(digest), None)
            self.shop.unchanged.pop(str(digest), None)
        with self._lock:
            self.made[vertex.digest] = layer
        return TreeFiles(below.tree.on_top(layer)), cached

    def _look(self, vertex: Vertex, op: StepOp, parent: Tree, sources: Sequence[Files], step: Step) -> _Look:
        """Find the step's layer in the cache, by what costs least first."""
        epoch = self.shop.epoch
        names = [source.name for source in sources]
        look = _Look(parent, names)
        linked = look.linked = isinstance(op, CopyOp) and op.link
        if (fast := fast_key(op, parent.chain, names, epoch)) is not None:
            look.keys.append(fast)
            look.layer = self._known(fast, vertex)
        if look.layer is None and not isinstance(op, MkdirOp) and (sources or linked):
            look.contents = self._contents(op, sources, step)  # also if it was looked at early: files may change
            look.keys.append(slow_key(op, parent.chain, look.contents, epoch))
            look.layer = self._known(look.last, vertex)
            if look.layer is None and isinstance(op, CopyOp) and linked:
                self._look_beside(vertex, op, look, step)
        if (early := self._drafts.pop(vertex.digest, None)) is not None:
            draft, contents = early
            if look.plain_keys and contents == look.contents and (look.layer is None or look.layer == draft.layer):
                look.draft, look.layer = draft, None
            else:
                self.shop.drop(draft)
        return look

    def _look_beside(self, vertex: Vertex, op: CopyOp, look: _Look, step: Step) -> None:
        """Find the layer of a linked copy that was made for another file system."""
        from builder.ops.linking import are_plain

        look.above = self._above(op, look.parent, step)
        look.keys.append(slow_key(op, f"linked {look.above}", look.contents, self.shop.epoch))
        look.layer = self._known(look.last, vertex)
        if look.layer is None and _needs_nothing_below(op) and are_plain(look.above):
            look.plain_keys += self._plain_keys(op, look.names, look.contents)
            look.layer = self._known(look.last, vertex)

    def _plain_keys(self, op: CopyOp, names: Sequence[str | None], contents: Sequence[Digest]) -> list[Digest]:
        fast = fast_key(op, _PLAIN, names, self.shop.epoch)
        return [*([] if fast is None else [fast]), slow_key(op, _PLAIN, contents, self.shop.epoch)]

    def _settle(
        self, vertex: Vertex, op: StepOp, look: _Look, sources: Sequence[Files], step: Step
    ) -> tuple[MadeLayer, bool]:
        """The layer that was found, or a new one; noted under every key that it was not known by."""
        shop, layer, parent = self.shop, look.layer, look.parent
        foreign = look.last in self._foreign
        if layer is not None and len(look.keys) == 1 and not foreign:
            self.ledger.hit(vertex, look.last)
            return packed(layer, shop.compression, shop.store, shop.lease), True
        # What lies below a linked layer is no reason to make it again.
        parts = self.ledger.parts(vertex, ["" if look.linked else parent.chain, *look.names], look.contents, shop.epoch)
        if layer is not None:
            keys = [*look.keys, *look.plain_keys]
            self.ledger.hit(vertex, *reversed(keys))
            self._keep(layer, vertex, parts, *(keys if foreign else keys[:-1]))
            return packed(layer, shop.compression, shop.store, shop.lease), True
        self.ledger.missed(vertex, parts, self._files_of)
        self.is_working = True
        layer = self._made(vertex, op, look, sources, step)
        keys = [*look.keys, *look.plain_keys]
        self._keep(layer, vertex, parts, *keys)
        self.ledger.made(vertex, *reversed(keys))
        return layer, False

    def _made(self, vertex: Vertex, op: StepOp, look: _Look, sources: Sequence[Files], step: Step) -> MadeLayer:
        """The step's layer, new."""
        shop, parent, draft = self.shop, look.parent, look.draft
        if draft is None and look.plain_keys and isinstance(op, CopyOp):
            draft = self._plain_draft(op, sources, step)
        if draft is not None:
            shop.put(draft, parent, step)
            return draft.layer
        look.plain_keys.clear()  # it gives plain directories another mode: what was there before matters
        from builder.layers.borrowed import Borrowed

        with Borrowed() as borrowed:
            lent = borrowed if vertex.digest in shop.unread else None
            change = self._change(op, sources, parent, step, above=look.above, borrowed=lent)
            return shop.make_layer(parent, step, change, self._floor() if look.linked else None, lent)

    def _is_unchanged(self, contents: Sequence[Digest]) -> bool:
        """Whether files of this machine that were just copied are those that the key speaks of."""
        checks = [self.shop.unchanged.get(str(digest)) for digest in contents]
        return all(check() for check in checks if check is not None)

    def _files_of(self, digest: str) -> "FileMap | None":
        files = self.shop.selections.get(digest)
        return None if files is None else files()

    def _contents(self, op: CopyOp | RunOp, sources: Sequence[Files], step: Step) -> list[Digest]:
        """What the step selects from each of its sources, in the order in which it names them."""
        if isinstance(op, RunOp):
            return [
                sources[mount.input - 1].digest(Selection([mount.source or "/"]), self.shop, step)
                for mount in op.mounts
                if mount.type == "bind" and mount.input is not None
            ]
        found: list[Digest] = []
        for number, files in enumerate(sources, 1):
            paths = [source.path for source in op.sources if isinstance(source, SourcePath) and source.input == number]
            found.append(files.digest(Selection(paths, op.excludes, op.parents), self.shop, step))
        return found

    def _above(self, op: CopyOp, parent: Tree, step: Step) -> "tuple[Above, ...]":
        """The only thing that a linked layer takes from the file system below."""
        from builder.ops.linking import directories_above

        with self.shop.view(parent, step) as root:
            return directories_above(op.destination, root)

    def _change(
        self,
        op: StepOp,
        sources: Sequence[Files],
        parent: Tree,
        step: Step,
        *,
        above: "tuple[Above, ...]",
        borrowed: "Borrowed | None",
    ) -> Callable[[Snapshot], int]:
        """What the step does to its snapshot. Imported here: a build that is all cached needs none of it."""
        shop = self.shop
        if isinstance(op, CopyOp):
            from builder.ops.copying import copy_files

            return lambda snapshot: copy_files(op, sources, snapshot, shop, step, above=above, borrowed=borrowed)
        if isinstance(op, RunOp):
            from builder.ops.run import run_command

            epoch = shop.step_epoch(parent)
            return lambda snapshot: run_command(op, sources, snapshot, shop, step, epoch=epoch)
        from builder.ops.mkdir import make_directory

        return lambda snapshot: make_directory(op, snapshot)

    def _known(self, key: Digest, vertex: Vertex) -> MadeLayer | None:
        """A layer of the cache, if its blob is still there; from now on it stays there until this build ends."""
        if vertex.no_cache:
            return None
        record = self.shop.store.cache_get(key)
        layer = MadeLayer.parse(record) if record is not None else None
        if layer is None or not self.shop.store.has(layer.descriptor.digest):
            return self._from_elsewhere(key)
        try:
            self.shop.lease.hold(layer.descriptor.digest)
        except BlobUnknown:  # somebody prunes at this moment
            return None
        return layer

    def _from_elsewhere(self, key: Digest) -> MadeLayer | None:
        """From a cache that --cache-from names; the caller makes it one of ours."""
        for cache in self.shop.remotes:
            if (layer := cache.find(key, self.shop.store, self.shop.lease)) is not None:
                self._foreign.add(key)
                return layer
        return None

    def _by_buildkit(self, vertex: Vertex, look: "_Look") -> MadeLayer | None:
        """From a cache of --cache-from, by BuildKit's key."""
        layer = self.foreign.find(vertex, look.parent) if self.foreign is not None else None
        if layer is not None:
            self._foreign.add(look.last)
        return layer

    def _keep(self, layer: MadeLayer, vertex: Vertex, parts: "Parts", *keys: Digest) -> None:
        from builder.cache.parts import to_json

        record = layer.to_bytes(name=vertex.name, parts=to_json(parts))
        for key in keys:
            self.shop.store.cache_put(key, record, [layer.descriptor.digest])

    def _floor(self) -> int:
        """The oldest time that files of a step get."""
        return OLDEST_NS if self.shop.epoch is None else min(OLDEST_NS, self.shop.epoch * NANOSECONDS)


def _needs_nothing_below(op: CopyOp) -> bool:
    """Whether a copy gives the same layer on any plain directories: those that it makes are root's and 0755."""
    is_roots = all(part in {"", "0", "root"} for part in op.chown.split(":"))
    return op.link and is_roots and op.chmod in {"", "755", "0755"}


def _ignore(event: Event) -> None:
    del event
