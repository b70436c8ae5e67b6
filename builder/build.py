"""The builder's front: a request in, an image out.

Gives:    Builder.build(request, listener) → BuildResult. Safe to use from several processes on one state root.
Promises: a failed or interrupted build leaves no container, mount, network or half image; what its finished steps gave
          stays in the cache.
Not here: the command line and how progress looks (pybuild/cli).
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from builder.bases import StoreBases
from builder.cache.ledger import Ledger
from builder.cache.recording import Explain, recording
from builder.cache.report import CACHED
from builder.checking import check_build
from builder.checks.findings import Finding
from builder.dockerfile.ignore import IgnoreRules
from builder.dockerfile.instructions import Dockerfile, DockerfileError
from builder.dockerfile.memo import parse_remembered
from builder.errors import BuilderError, BuildFailed
from builder.excerpt import excerpt
from builder.exporters import Exporter, Output
from builder.exporters.annotations import Annotation, check
from builder.exporters.assemble import Image, assemble
from builder.opening import Opening
from builder.ops.context import Context
from builder.ops.files import ContextFiles, Files, LateFiles, TreeFiles
from builder.ops.output import StepFailed
from builder.ops.packing import parse_compression
from builder.ops.statcache import StatCache
from builder.ops.workshop import Secret, Workshop
from builder.plan.contexts import LAYOUT, NamedContexts
from builder.plan.options import BaseImage, PlanOptions
from builder.plan.planner import Plan, make_plan
from builder.plan.vertices import ContextOp, GitOp, HttpOp, ImageOp, RunOp, Vertex, in_order
from builder.progress import Listener, Reporter, Warned
from builder.solver.scheduler import Early, VertexFailed, run_graph
from builder.solver.solve import Solver
from builder.times import rfc3339
from registry.errors import RegistryError, StoreError
from registry.model import Descriptor, Digest, Platform, Reference
from registry.model.platform import native
from registry.storage import ContentStore, Lease
from registry.storage.images import find_image

if TYPE_CHECKING:
    from builder.cache.foreign import Foreign
    from builder.cache.places import CachePlace
    from builder.cache.remote import RemoteCache
    from builder.cache.transfer import Port

__all__ = ["BuildRequest", "BuildResult", "Builder", "Output", "Secret"]

_WORKERS = max(4, os.cpu_count() or 1)  # a step that runs a command mostly waits for it


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is asked for."""

    context: str  # a directory, an archive, or "-" for standard input
    tags: tuple[Reference, ...] = ()
    dockerfile: str | None = None  # None: Dockerfile in the context; "-": standard input
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)  # name, where it is
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)  # SSH agents: id, socket
    allow: frozenset[str] = frozenset()
    hosts: tuple[tuple[str, str], ...] = ()
    network: str = "default"
    platforms: tuple[Platform, ...] = field(default_factory=lambda: (native(),))  # several: an index of images
    no_cache: bool = False
    keep_going: bool = False  # after a step failed, do what does not need it
    pull: bool = False
    push: bool = False
    outputs: tuple[Output, ...] = ()  # none: the local store
    compression: str = "gzip"  # of layers, where an output does not say: gzip, zstd, uncompressed; with a level: zstd:9
    annotations: tuple[Annotation, ...] = ()  # of all outputs
    squash: bool = False  # the layers of this build into one
    epoch: int | None = None  # SOURCE_DATE_EPOCH
    caches_from: "tuple[Port, ...]" = ()  # cache mounts that are read in before
    caches_to: "tuple[Port, ...]" = ()  # … and written out after
    cache_from: "tuple[CachePlace, ...]" = ()  # caches of other machines that are asked
    cache_to: "tuple[CachePlace, ...]" = ()  # … and that get what this build has
    explain: Explain | None = None  # gets the report of what was cached and why not, however the build ends
    stdin: BinaryIO | None = None

    @property
    def platform(self) -> Platform:
        """The first, for what knows one only."""
        return self.platforms[0]

    @property
    def wanted(self) -> tuple[Output, ...]:
        """The outputs, with what --push asks for beside them."""
        outputs = self.outputs or (Output("image"),)
        if self.push:
            outputs = tuple(output.pushed() if output.keeps_image else output for output in outputs)
            if not any(output.pushes for output in outputs):
                outputs = (*outputs, Output("image").pushed())
        return outputs


@dataclass(frozen=True, slots=True)
class Idle:
    """What a build took that had nothing to do: of this machine one directory, and images of the store."""

    context: str  # no link in it
    rules: IgnoreRules
    bases: tuple[tuple[str, str, Digest], ...]  # repository, tag, what it points to
    began_ns: int  # before anything was looked at


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What came out. With outputs of files only, the image that it would be is not stored."""

    image_id: Digest  # of the config, as docker's; of several platforms that of the index
    descriptor: Descriptor  # of the manifest or the index
    tags: tuple[Reference, ...] = ()
    findings: tuple[Finding, ...] = ()  # of the build checks
    log: str = field(default="", compare=False, repr=False)  # the name of its directory below builds/
    idle: Idle | None = field(default=None, compare=False, repr=False)  # if there was nothing to do

    @property
    def digest(self) -> Digest:
        """Of the manifest or the index."""
        return self.descriptor.digest


class Builder:
    """Builds on one state root. A context manager."""

    def __init__(self, root: Path, store: ContentStore | None = None, *, images: ContentStore | None = None) -> None:
        """`images`: another store, whose base images are taken where `store` has none."""
        self._root = root
        self._images = images
        self._resources = ExitStack()
        self._store = store or self._resources.enter_context(ContentStore.open(root))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def build(self, request: BuildRequest, listener: Listener | None = None) -> BuildResult:
        """Build, store and export.

        Raises:
            DockerfileError: the Dockerfile asks for what can't be.
            BuildFailed: a step failed; the message shows where and why.
            ContextError, NotYet, RegistryError, BuilderError: what else can go wrong.
        """
        return _Build(self._root, self._store, request, Reporter(listener), self._images).run()


class _Build:
    """One build."""

    def __init__(
        self,
        root: Path,
        store: ContentStore,
        request: BuildRequest,
        reporter: Reporter,
        images: ContentStore | None = None,
    ) -> None:
        self._root = root
        self._store = store
        self._images = images
        self._request = request
        self._reporter = reporter
        self._resources = ExitStack()
        self._opening = Opening(root, store, request, reporter)
        self._contexts: dict[str, ContextFiles | LateFiles] = {}
        self._findings: tuple[Finding, ...] = ()
        self._bases: Mapping[tuple[str, Platform], BaseImage] = {}
        self._began_ns = time.time_ns()
        named = [name for output in request.outputs for name in output.names]
        self._tags = tuple(dict.fromkeys((*request.tags, *(Reference.parse(name).tagged for name in named))))

    def run(self) -> BuildResult:
        request = self._request
        if request.push and not self._tags:
            raise BuilderError("nothing to push: the image has no name", hint="give it one with the registry in it")
        if request.compression != "gzip":
            parse_compression(request.compression)  # a wrong one is told now, not after the first step
        for output in request.wanted:
            if output.options.get("mode") == "delete" and _is_within(request.context, output.dest):
                raise BuilderError("mode=delete would remove the build context", hint="choose another dest=")
            if output.packing:
                parse_compression(output.packing)
            check((*request.annotations, *output.annotations), request.platforms)
        with self._resources:
            main = self._resources.enter_context(self._opening.main(self._stat_cache))
            self._contexts[""] = ContextFiles(main)
            assert main.dockerfile is not None, "a main context has a Dockerfile"
            text, name = main.dockerfile
            lines = text.decode(errors="replace")
            dockerfile = parse_remembered(text, name, self._root / "parsed")
            if frontend := request.build_args.get("BUILDKIT_SYNTAX", dockerfile.syntax):
                self._reporter.notice(f"syntax {frontend}: the language is built in, no image is fetched for it")
            plans = self._plans(dockerfile, lines, main)
            wanted = [plan.result for plan in plans]
            with self._workshop(wanted) as shop, self._recording(wanted, dockerfile, shop) as ledger:
                self._import_caches()
                solver = Solver(shop, self._reporter, self._context, ledger, foreign=self._foreign(shop))
                files = self._solve(wanted, solver, lines)
                result = self._finish(plans, files, solver)
                self._write_cache(wanted, solver)
                idle = self._idle(wanted, ledger, main)
            self._export_caches(wanted)
            return replace(result, idle=idle, log=shop.logs.name)

    def _idle(self, wanted: Sequence[Vertex], ledger: Ledger, main: Context) -> Idle | None:
        if len(wanted) > 1 or not os.path.isdir(self._request.context):
            return None
        if any(step.outcome != CACHED for step in ledger.steps()):
            return None
        for vertex in in_order(wanted):
            if isinstance(vertex.op, GitOp | HttpOp) or (isinstance(vertex.op, ContextOp) and vertex.op.name):
                return None
        bases: list[tuple[str, str, Digest]] = []
        for (name, _), used in self._bases.items():
            if name.startswith(LAYOUT):
                return None
            reference = Reference.parse(name).tagged
            if reference.digest is None and reference.tag is not None:
                top = self._store.manifest(reference.repository, reference.tag).digest
                if find_image(self._store, reference.with_digest(top), used.config.platform).digest != used.digest:
                    return None  # somebody has moved the tag meanwhile
                bases.append((reference.repository, reference.tag, top))
        return Idle(str(main.root), main.rules, tuple(bases), self._began_ns)

    def _recording(
        self, wanted: Sequence[Vertex], dockerfile: Dockerfile, shop: Workshop
    ) -> AbstractContextManager[Ledger]:
        request = self._request
        return recording(
            self._store,
            dockerfile,
            wanted,
            context=request.context,
            file=request.dockerfile or "",
            target=request.target,
            tags=[str(tag) for tag in self._tags],
            logs=lambda: shop.logs,
            explain=request.explain,
        )

    def _remotes(self) -> "list[RemoteCache]":
        """The caches of --cache-from; one that is not there or damaged is told, and the build goes on without."""
        found: list[RemoteCache] = []
        for place in self._request.cache_from:
            from builder.cache.remote import RemoteCache as Remote

            try:
                cache = Remote(place, self._request.platforms)
            except (RegistryError, OSError) as error:
                self._reporter.notice(f"no cache from {place.where}: {error}")
            else:
                self._resources.callback(cache.close)
                found.append(cache)
        return found

    def _foreign(self, shop: Workshop) -> "Foreign | None":
        """Steps by BuildKit's names: for those who read or write caches elsewhere."""
        if not shop.remotes and not self._request.cache_to:
            return None
        from builder.cache.foreign import Foreign as Names

        return Names(shop)

    def _write_cache(self, wanted: Sequence[Vertex], solver: Solver) -> None:
        for place in self._request.cache_to:
            if place.type == "inline":
                continue  # it is in the image
            from builder.cache.export import CacheExporter

            step = self._reporter.start(f"exporting cache to {place.where}")
            try:
                CacheExporter.of(solver, wanted).export(place, step)
            except (BuilderError, RegistryError, OSError) as error:
                step.failed(str(error))
                if not place.ignore_error:
                    raise
            except BaseException:
                step.canceled()
                raise
            else:
                step.done()

    def _with_cache(self, image: Image, result: Vertex, solver: Solver) -> Image:
        """With BuildKit's records in its config, if they are asked for."""
        if all(place.type != "inline" for place in self._request.cache_to):
            return image
        from builder.cache.export import CacheExporter

        return replace(image, cache=CacheExporter.of(solver, [result]).inline(image.tree))

    def _import_caches(self) -> None:
        if self._request.caches_from:
            from builder.cache.transfer import import_mounts

            import_mounts(self._root, self._request.caches_from, self._reporter.notice)

    def _export_caches(self, wanted: Sequence[Vertex]) -> None:
        if self._request.caches_to:
            from builder.cache.transfer import export_mounts

            commands = [vertex.op for vertex in in_order(wanted) if isinstance(vertex.op, RunOp)]
            used = [mount.id for op in commands for mount in op.mounts if mount.type == "cache"]
            export_mounts(self._root, self._request.caches_to, used, self._reporter.notice)

    @cached_property
    def _stat_cache(self) -> StatCache:
        return self._resources.enter_context(StatCache.open(self._root / "statcache.db"))

    def _context(self, name: str) -> ContextFiles | LateFiles:
        """The build context, or the one that --build-context calls so; opened when a step asks for it."""
        if name not in self._contexts:
            place = NamedContexts(self._request.contexts, self._request.platform).at(name)
            files = self._opening.named(name, place, self._stat_cache)
            self._contexts[name] = files
            self._resources.callback(files.close)
        return self._contexts[name]

    def _plans(self, dockerfile: Dockerfile, text: str, main: Context) -> list[Plan]:
        """One a platform, over one graph: equal vertices are the same work."""
        request = self._request
        options = partial(
            PlanOptions,
            target=request.target, build_args=request.build_args, labels=request.labels, network=request.network,
            hosts=request.hosts, contexts=request.contexts, allow=request.allow, no_cache=request.no_cache,
            several=len(request.platforms) > 1,
        )  # fmt: skip
        bases = StoreBases(self._store, request, self._reporter, self._images)
        try:
            plans = [make_plan(dockerfile, options(platform=each), bases) for each in request.platforms]
        except DockerfileError as error:
            shown = excerpt(text, error.at)
            raise DockerfileError(error.problem, at=error.at, hint=error.hint, excerpt=shown) from None
        of_the_first = {name: base for (name, platform), base in bases.found.items() if platform == request.platform}
        self._check(dockerfile, text, main, of_the_first)
        self._bases = bases.found
        return plans

    def _check(self, dockerfile: Dockerfile, text: str, main: Context, bases: Mapping[str, BaseImage]) -> None:
        """Tell what the build checks find. Raises DockerfileError: the file's check directive makes an error of it."""
        report = check_build(dockerfile, self._request, main, bases, self._root / "parsed")
        self._findings = report.findings
        for found in report.findings:
            self._reporter.warn(Warned(str(found), found.about.description, found.about.url, excerpt(text, found.at)))
        if report.violated:
            at = next(found.at for found in report.findings if found.rule in report.violated)
            raise DockerfileError(
                f"lint violation found for rules: {', '.join(report.violated)}",
                at=at,
                hint="# check=error=true makes warnings errors",
                excerpt=excerpt(text, at),
            )

    def _workshop(self, wanted: Sequence[Vertex]) -> Workshop:
        request = self._request
        lease = self._store.lease()
        self._resources.callback(_let_go, lease)
        vertices = list(in_order(wanted))
        # Somebody may remove the base image while we build on it; its layers are ours too.
        below = {layer.digest for vertex in vertices if isinstance(vertex.op, ImageOp) for layer in vertex.op.layers}
        lease.hold(*filter(self._store.has, below))
        return Workshop(
            root=self._root,
            store=self._store,
            lease=lease,
            compression=next((output.packing for output in request.wanted if output.packing), request.compression),
            epoch=request.epoch,
            secrets=request.secrets,
            agents=request.agents,
            remotes=self._remotes(),
            unread=self._unread(wanted, vertices),
            has_commands=any(isinstance(vertex.op, RunOp) for vertex in vertices),
        )

    def _unread(self, wanted: Sequence[Vertex], vertices: Sequence[Vertex]) -> frozenset[Digest]:
        """Results that go into archives only, and that no other step stands on."""
        outputs = self._request.wanted
        if not outputs or not all(output.is_archive for output in outputs):
            return frozenset()
        used = {below.digest for vertex in vertices for below in vertex.inputs}
        return frozenset(vertex.digest for vertex in wanted) - used

    def _solve(self, wanted: Sequence[Vertex], solver: Solver, dockerfile: str) -> Mapping[Digest, Files]:
        try:
            return run_graph(
                wanted,
                solver.solve,
                workers=_WORKERS,
                cancellation=solver.shop.cancellation,
                early=Early(solver.begin, lambda: solver.is_working),  # a build that is all cached needs none of it
                keep_going=self._request.keep_going,
            )
        except VertexFailed as error:
            raise explained(error, dockerfile) from error.reason
        finally:
            solver.leave()

    def _finish(self, plans: Sequence[Plan], files: Mapping[Digest, Files], solver: Solver) -> BuildResult:
        request = self._request
        epoch = None if request.epoch is None else rfc3339(request.epoch)
        images: list[Image] = []
        for plan in plans:
            found = files[plan.result.digest]
            assert isinstance(found, TreeFiles), "the result of a build is a file system"
            image = assemble(plan, found.tree, solver.made, epoch=epoch)
            images.append(self._with_cache(image, plan.result, solver))
        if request.squash:
            from builder.exporters.squash import squashed

            images = [squashed(image, solver.shop) for image in images]
        exporter = Exporter(images, solver.shop, request.tags, self._reporter, request.annotations, request.compression)
        made, names = exporter.export(request.wanted)
        return BuildResult(made.image_id, made.top, names, self._findings)


def _is_within(path: str, folder: str) -> bool:
    """Whether a directory of this machine is another or lies below it."""
    place, above = os.path.realpath(path), os.path.realpath(folder)
    return os.path.isdir(path) and os.path.commonpath([place, above]) == above


def _let_go(lease: Lease) -> None:
    """A full disk may refuse even this; the lease then ends with its time, and the build's own error is told."""
    with suppress(StoreError):
        lease.release()


def explained(error: VertexFailed, dockerfile: str) -> BuildFailed:
    """The failure as the user reads it: what, the Dockerfile's lines, the last output, where there is more.

    If several steps failed, all are told, each with its own hint.
    """
    failures = (error, *error.others)
    hints = [getattr(each.reason, "hint", None) for each in failures]
    told = [_told(each, dockerfile) for each in failures]
    if len(told) == 1:
        return BuildFailed(told[0], hint=hints[0])
    ended = [f"{text}\nhint: {hint}" if hint else text for text, hint in zip(told, hints, strict=True)]
    return BuildFailed("\n\nerror: ".join(ended))


def _told(error: VertexFailed, dockerfile: str) -> str:
    reason = error.reason
    parts = [str(reason)]
    if error.vertex.at is not None:
        parts.append(excerpt(dockerfile, error.vertex.at))
    if isinstance(reason, StepFailed) and reason.tail:
        parts.append("last output:\n" + "\n".join(f"  {line}" for line in reason.tail))
    return "\n".join(parts)
