"""Writing this build's steps for other machines (`--cache-to`): to a folder, a registry, or the image itself.

What is written is a cache of BuildKit's, newest form (an OCI manifest whose config lists the records), with BuildKit's
keys for all steps that BuildKit has, and ours for all. Nothing in it tells the Dockerfile or what the build was given.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import uuid4

import msgspec

from builder.cache.chains import ChainLayer, Config, Writer, spell
from builder.cache.folder import write_folder
from builder.cache.foreign import Foreign
from builder.cache.ledger import Ledger
from builder.cache.places import CachePlace
from builder.cache.remote import AS_OCI, CONFIG_TYPE, CREATED, DIFF_ID
from builder.ops.packing import repacked
from builder.ops.workshop import Workshop
from builder.plan.vertices import ImageOp, Vertex, in_order
from builder.solver.results import MadeLayer, Tree
from builder.solver.solve import Solver
from builder.times import NANOSECONDS, nanoseconds, rfc3339
from registry.errors import RegistryError
from registry.model import Descriptor, Digest, Manifest, MediaType, Reference

if TYPE_CHECKING:
    from builder.progress import Step

_LONG_AGO = "1970-01-01T00:00:00Z"


class CachedStep(NamedTuple):
    """A step to export: its records by their keys, its layer, and the file system that it gave."""

    vertex: Vertex
    keys: tuple[Digest, ...]
    layer: MadeLayer
    tree: Tree


class CacheExporter:
    """Writes the steps of one build, to several places if there are several."""

    def __init__(
        self, shop: Workshop, foreign: Foreign, results: Sequence[Vertex], made: Mapping[Digest, MadeLayer],
        ledger: Ledger,
    ) -> None:  # fmt: skip
        self._store, self._lease = shop.store, shop.lease
        self._foreign = foreign
        self._results = results
        graph = list(in_order(results))
        images = [vertex.op for vertex in graph if isinstance(vertex.op, ImageOp)]
        self._base = {
            diff_id: rfc3339(nanoseconds(op.created) // NANOSECONDS) for op in images for diff_id in op.diff_ids
        }
        self._made = {layer.diff_id: layer.created for layer in made.values()}
        self._steps = [
            CachedStep(vertex, ledger.keys(vertex), made[vertex.digest], tree)
            for vertex in graph
            if vertex.digest in made and (tree := foreign.tree(vertex)) is not None
        ]

    @classmethod
    def of(cls, solver: Solver, results: Sequence[Vertex]) -> Self:
        assert solver.foreign is not None, "who writes a cache has the names of its steps"
        return cls(solver.shop, solver.foreign, results, solver.made, solver.ledger)

    def _wanted(self, *, every: bool) -> Sequence[CachedStep]:
        """Those of the results only, unless every one is wanted."""
        if every:
            return self._steps
        own = {vertex.digest for result in self._results for vertex in _standing_on(result)}
        return [step for step in self._steps if step.vertex.digest in own]

    def export(self, place: CachePlace, progress: "Step | None" = None) -> None:
        """Raises BuilderError, RegistryError: it can't be written there."""
        config, layers = self._cache(place)
        content = spell(config)
        blob = Descriptor(CONFIG_TYPE, self._store.put(content, lease=self._lease), len(content))
        manifest = Manifest(MediaType.OCI_MANIFEST, blob, tuple(layers)).to_bytes()
        # Ours alone: others may write the very same cache.
        here = Reference.parse(f"pybuild-cache/{uuid4().hex}:latest")
        digest = self._store.put_manifest(
            here.repository, manifest, MediaType.OCI_MANIFEST, tags=["latest"], adopt=True
        )
        try:
            if place.type == "registry":
                from registry.client import push

                push(self._store, Reference.parse(place.where).tagged, source=here, progress=progress)
            else:
                write_folder(self._store, place, digest, [child.digest for child in (blob, *layers)])
        finally:  # a cache is no image of this machine
            with contextlib.suppress(RegistryError):
                self._store.delete_manifest(here.repository, digest)

    def inline(self, tree: Tree) -> bytes:
        """The records for an image's config: they count the image's own layers."""
        writer = Writer(self._foreign.cheap_content)
        writer.place(self._chain(tree, ""))
        for step in self._wanted(every=False):
            if step.tree.diff_ids == tree.diff_ids[: len(step.tree.diff_ids)]:
                self._add(writer, step, "", force=False)
        return msgspec.json.encode(writer.config().records)

    def _cache(self, place: CachePlace) -> tuple[Config, list[Descriptor]]:
        writer = Writer(self._foreign.cheap_content)
        own = []
        for step in self._wanted(every=place.every):
            layer = self._add(writer, step, place.compression, force=place.force)
            # Not the parts of its key, which we keep ourselves: they have the values of build arguments.
            own += [{"key": str(key), **json.loads(layer.to_bytes())} for key in step.keys]
        layers = [
            replace(
                each.descriptor,
                media_type=AS_OCI.get(each.descriptor.media_type, each.descriptor.media_type),
                annotations={DIFF_ID: str(each.diff_id), CREATED: each.created},
            )
            for each in writer.blobs.values()
        ]
        return writer.config(own), layers

    def _add(self, writer: Writer, step: CachedStep, compression: str, *, force: bool) -> MadeLayer:
        """Tell a step by BuildKit's key, if it has one; give its layer as it is packed there."""
        chain = self._chain(step.tree, compression, force=force)
        if not all(self._store.has(layer.descriptor.digest) for layer in chain):
            chain = chain[-1:]  # the base image's layers went meanwhile: only we find this one
        elif (operation := self._foreign.operation(step.vertex)) is not None:
            writer.add(operation, chain)
        writer.place(chain)
        return replace(step.layer, descriptor=chain[-1].descriptor)

    def _chain(self, tree: Tree, compression: str, *, force: bool = False) -> list[ChainLayer]:
        return [
            self._layer(descriptor, diff_id, compression, force=force)
            for descriptor, diff_id in zip(tree.layers, tree.diff_ids, strict=True)
        ]

    def _layer(self, descriptor: Descriptor, diff_id: Digest, compression: str, *, force: bool) -> ChainLayer:
        found = Descriptor(AS_OCI.get(descriptor.media_type, descriptor.media_type), descriptor.digest, descriptor.size)
        if compression and (force or diff_id not in self._base):
            found = repacked(found, diff_id, compression, self._store, self._lease)
        created = self._made.get(diff_id) or self._base.get(diff_id) or _LONG_AGO
        return ChainLayer(found, diff_id, created)


def _standing_on(result: Vertex) -> Iterator[Vertex]:
    """The vertex and those whose layers are below its own."""
    yield result
    while result.inputs:
        result = result.inputs[0]
        yield result
