"""What the steps of one build hit and missed, and for a miss, what differs from the time before.

The time before is found through a record of the last build of the same names, or of the same context: for each step
the cache key that it had. Steps are matched by their text, then by their place; a step that has no such match is held
against the last one of the same definition in any build.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from builder.cache.report import CACHED, CANCELED, MISSED, SKIPPED, Reason, StepReport
from builder.plan.gitaddress import redacted
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
    canonical,
)
from registry.model import Digest
from registry.storage import ContentStore

if TYPE_CHECKING:
    from builder.cache.filemap import FileMap
    from builder.cache.parts import Input, Parts

_ALWAYS = {
    "new": "no step like it was built before",
    "no-cache": "--no-cache",
    "above": "the directories above its destination differ, or its layer is no longer in the store",
    "gone": "its inputs are those of the last time, but its layer is no longer in the store",
    "unrecorded": "the inputs of its last time were not recorded",
}
StepOp = CopyOp | RunOp | MkdirOp


class Mark(Struct, frozen=True):
    """A step of a build that was, and the cache key of what it gave; no key if it never gave anything."""

    name: str
    key: str


def identity(*words: object) -> Digest:
    """Names a build that may come again."""
    return Digest.of(canonical(["build", *words]))


def files_key(selection: str) -> Digest:
    return Digest.of(canonical(["files", selection]))


def definition_key(op: StepOp) -> Digest:
    return Digest.of(canonical(["definition", op.definition()]))


class _Entry:
    """What is known of one step so far."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seconds = 0.0
        self.outcome = ""
        self.reasons: tuple[Reason, ...] = ()
        self.key = ""
        self.keys: tuple[Digest, ...] = ()  # all under which its record is kept, `key` first


class Ledger:
    """Told by the solver, from several threads.

    Args:
        store: keeps the records.
        identities: names of this build, the best first.
        vertices: of the graph, in the order of the Dockerfile.
        declared: the instruction (ARG or ENV) that makes a variable.
    """

    def __init__(
        self,
        store: ContentStore,
        identities: Sequence[Digest],
        vertices: Iterable[Vertex],
        declared: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._identities = tuple(identities)
        self._vertices = tuple(vertices)
        self._steps = [vertex for vertex in self._vertices if isinstance(vertex.op, StepOp)]
        self._declared = declared or {}
        self._lock = threading.RLock()
        self._entries: dict[Digest, _Entry] = {}
        self._found: dict[Digest, str] | None = None
        self._maps: dict[str, bytes] = {}  # packed maps of files to keep, by the selection's digest
        self._made: dict[Digest, str] = {}  # keys of new steps, by the key of their definition

    # -- told by the solver

    def began(self, vertex: Vertex, number: int) -> None:
        with self._lock:
            self._entries[vertex.digest] = _Entry(number)

    def hit(self, vertex: Vertex, *keys: Digest | None) -> None:
        """No key: it never had one, as a base image."""
        with self._lock:
            self._entries[vertex.digest].outcome = CACHED
            self._note(vertex, keys)

    def missed(self, vertex: Vertex, parts: "Parts", find: "Callable[[str], FileMap | None]") -> None:
        """The step will be done. `find` gives the files of this build's own selections."""
        with self._lock:
            entry = self._entries[vertex.digest]
            entry.outcome = MISSED
            entry.reasons = tuple(self._reasons(vertex, parts, find))

    def made(self, vertex: Vertex, *keys: Digest | None) -> None:
        with self._lock:
            self._note(vertex, keys)
            if (key := self._entries[vertex.digest].key) and isinstance(vertex.op, StepOp):
                self._made[definition_key(vertex.op)] = key

    def _note(self, vertex: Vertex, keys: Sequence[Digest | None]) -> None:
        entry = self._entries[vertex.digest]
        entry.keys = tuple(dict.fromkeys(key for key in keys if key is not None))
        entry.key = str(entry.keys[0]) if entry.keys else ""

    def keys(self, vertex: Vertex) -> tuple[Digest, ...]:
        """Under which the step's record is kept; none if it gave nothing."""
        with self._lock:
            entry = self._entries.get(vertex.digest)
            return entry.keys if entry is not None else ()

    def ended(self, vertex: Vertex, seconds: float, outcome: str = "") -> None:
        """`outcome`, if it is neither a hit nor a miss that went well."""
        with self._lock:
            entry = self._entries[vertex.digest]
            entry.seconds = seconds
            entry.outcome = outcome or entry.outcome or MISSED
            if isinstance(vertex.op, HttpOp | GitOp) and entry.outcome == MISSED:
                entry.reasons = (Reason("download", "fetched: it was new, or the server gave other content"),)

    def gave_up(self, vertex: Digest, seconds: float) -> None:
        """What a step stands on never came."""
        with self._lock:
            entry = self._entries[vertex]
            entry.seconds, entry.outcome = seconds, CANCELED

    # -- what a step's key is made of

    def parts(
        self, vertex: Vertex, names: Sequence[str | None], contents: Sequence[Digest], epoch: int | None
    ) -> "Parts":
        """Args: names and contents as the keys have them, the names with that of the file system below in front."""
        from builder.cache.parts import Parts, Selection, definition_of  # a build that is all cached needs none of it

        op = vertex.op
        assert isinstance(op, StepOp), "only steps have keys"
        inputs = [self._input(below, name) for below, name in zip(vertex.inputs, names, strict=True)]
        taken = [Selection(inputs[at].title, str(digest)) for at, digest in zip(_taken(op), contents, strict=False)]
        return Parts(definition_of(op), inputs[0], tuple(inputs[1:]), tuple(taken), epoch)

    def _input(self, vertex: Vertex, name: str | None) -> "Input":
        from builder.cache.parts import Input

        match vertex.op:
            case ImageOp() as op:
                return Input("image", op.name, name or "", str(op.digest))
            case ContextOp() as op:
                return Input("context", f"the context {op.name}" if op.name else "the build context")
            case HttpOp() as op:
                return Input("http", redacted(op.url), name or "")
            case GitOp() as op:
                return Input("git", redacted(op.address.remote), name or "")
            case ScratchOp():
                return Input("scratch", "scratch", name or "")
            case _:
                with self._lock:
                    entry = self._entries.get(vertex.digest)
                return Input("step", f"#{entry.number} {vertex.name}" if entry else vertex.name, name or "")

    # -- why

    def _reasons(self, vertex: Vertex, parts: "Parts", find: "Callable[[str], FileMap | None]") -> list[Reason]:
        from builder.cache.filemap import pack
        from builder.cache.reasons import compare

        own: dict[str, FileMap] = {}
        for selection in parts.selections:
            if (files := find(selection.digest)) is not None:
                own[selection.digest] = files
                self._maps[selection.digest] = pack(files)
        if vertex.no_cache:
            return [_always("no-cache")]
        key = self._before().get(vertex.digest) or self._nearest(vertex)
        if not key:
            return [_always("new")]
        record = self._store.cache_get(Digest.parse(key))
        if record is None:
            return [_always("gone")]
        before = parts_of(record)
        if before is None:
            return [_always("unrecorded")]
        found = compare(before, parts, lambda digest: own.get(digest) or self._files(digest), self._declared)
        linked = isinstance(vertex.op, CopyOp) and vertex.op.link
        return found or [_always("above" if linked else "gone")]

    def _before(self) -> dict[Digest, str]:
        """The cache keys that the steps had the last time."""
        if self._found is None:
            marks = next((found for name in self._identities if (found := self._marks(name))), [])
            self._found = _matched(self._steps, marks)
        return self._found

    def _marks(self, name: Digest) -> list[Mark]:
        record = self._store.cache_get(name)
        try:
            return msgspec.json.decode(record, type=list[Mark]) if record else []
        except msgspec.MsgspecError:
            return []

    def _nearest(self, vertex: Vertex) -> str:
        assert isinstance(vertex.op, StepOp), "only steps miss"
        record = self._store.cache_get(definition_key(vertex.op))
        return record.decode() if record else ""

    def _files(self, selection: str) -> "FileMap | None":
        from builder.cache.filemap import unpack

        record = self._maps.get(selection) or self._store.cache_get(files_key(selection))
        try:
            return unpack(record) if record else None
        except ValueError:
            return None

    # -- at the end

    def keep(self) -> None:
        """Leave for the next build what it needs to tell its misses; note what was of use."""
        with self._lock:
            for selection, packed in self._maps.items():
                self._put(files_key(selection), packed, "files")
            for key, step in self._made.items():
                self._put(key, step.encode(), "pointer")
            marks = [Mark(_plain(vertex), self._key(vertex)) for vertex in self._steps]
            record = msgspec.json.encode(marks)
            for name in self._identities:
                self._put(name, record, "build")
            keys = [entry.key for entry in self._entries.values() if entry.key]
            self._store.cache_touch([*map(Digest.parse, keys), *self._identities])

    def _key(self, vertex: Vertex) -> str:
        entry = self._entries.get(vertex.digest)
        return entry.key if entry is not None and entry.key else self._before().get(vertex.digest, "")

    def _put(self, key: Digest, record: bytes, kind: str) -> None:
        if self._store.cache_get(key) != record:
            self._store.cache_put(key, record, kind=kind, durable=False)

    def steps(self) -> list[StepReport]:
        """Every step of the graph; those that never began are skipped ones."""
        found: list[StepReport] = []
        with self._lock:
            for vertex in self._vertices:
                line = vertex.at.line if vertex.at is not None else 0
                entry = self._entries.get(vertex.digest)
                if entry is not None:
                    found.append(
                        StepReport(
                            entry.number, vertex.name, line, entry.outcome, entry.reasons, round(entry.seconds, 3)
                        )
                    )
                elif isinstance(vertex.op, StepOp):
                    why = Reason("unreached", "the build ended before it")
                    found.append(StepReport(0, vertex.name, line, SKIPPED, (why,)))
        return found


def parts_of(record: bytes) -> "Parts | None":
    """Of a step's record in the cache; None if it has none."""
    from builder.cache.parts import from_json

    try:
        found = json.loads(record)
    except ValueError:
        return None
    return from_json(found.get("parts")) if isinstance(found, dict) else None


def _always(kind: str) -> Reason:
    return Reason(kind, _ALWAYS[kind])


def _taken(op: StepOp) -> list[int]:
    """The number of the input that each selection comes from, in the order of the contents in the slow key."""
    if isinstance(op, RunOp):
        return [mount.input for mount in op.mounts if mount.type == "bind" and mount.input is not None]
    if isinstance(op, CopyOp):
        return sorted({source.input for source in op.sources if isinstance(source, SourcePath)})
    return []


def _plain(vertex: Vertex) -> str:
    """`[build 2/4] RUN make` without the counter."""
    place, _, text = vertex.name.partition("] ")
    return f"{place.rpartition(' ')[0]} {text}"


def _matched(steps: Sequence[Vertex], marks: Sequence[Mark]) -> dict[Digest, str]:
    """Equal texts in order; between them, what takes the place of what."""
    import difflib

    names, before = [_plain(step) for step in steps], [mark.name for mark in marks]
    found: dict[Digest, str] = {}
    for kind, start, end, at, until in difflib.SequenceMatcher(None, before, names, autojunk=False).get_opcodes():
        if kind in {"equal", "replace"}:
            for mark, step in zip(marks[start:end], steps[at:until], strict=False):
                if mark.key:
                    found[step.digest] = mark.key
    return found
