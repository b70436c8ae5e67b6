"""Writing a result out: the store, registries, archives, plain files."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from builder.errors import BuilderError
from builder.exporters import annotations as notes
from builder.exporters.annotations import Annotation
from builder.exporters.assemble import Image
from builder.exporters.outputs import STDOUT, Output
from builder.exporters.packaging import Form, Package, package
from builder.ops.packing import repacked
from builder.ops.workshop import Workshop
from builder.progress import Reporter, Step
from registry.model import Descriptor, Digest, Reference

if TYPE_CHECKING:
    from registry.client import ClientSettings


@dataclass
class Exporter:
    """Writes the result of one build out, in one or several ways."""

    images: Sequence[Image]  # one a platform
    shop: Workshop
    tags: Sequence[Reference]
    reporter: Reporter
    annotations: Sequence[Annotation] = ()
    packing: str = "gzip"  # of outputs that do not say
    _packages: dict[Form, Package] = field(default_factory=dict)

    def export(self, outputs: Sequence[Output]) -> tuple[Package, tuple[Reference, ...]]:
        """All outputs, in order; then to the registries.

        Returns:
            The image as the first output with one has it, and all its names in the store.

        Raises:
            BuilderError: an output can't be written. RegistryError: a registry does not take it.
        """
        names: dict[Reference, None] = {}
        for output in outputs:
            if output.keeps_image:
                names |= dict.fromkeys(self._keep(output))
            elif not output.is_nothing:
                self._export(output)
        first = next((output for output in outputs if output.needs_image), Output())
        return self._package(first), tuple(names)

    def _package(self, output: Output) -> Package:
        form = output.form(self.packing, self.annotations)
        if form not in self._packages:
            notes.check(form.annotations, [image.platform for image in self.images])
            self._packages[form] = package(self.images, form, self._repacked)
        return self._packages[form]

    def _repacked(self, layer: Descriptor, diff_id: Digest, packing: str) -> Descriptor:
        return repacked(layer, diff_id, packing, self.shop.store, self.shop.lease)

    # -- the store and registries

    def _keep(self, output: Output) -> Sequence[Reference]:
        """Put the image into the store under the output's names, and from there into their registries.

        Returns:
            The names that it has in the store.
        """
        made = self._package(output)
        by_digest = output.flag("push-by-digest")
        names = list(dict.fromkeys((*self.tags, *(Reference.parse(name).tagged for name in output.names))))
        if output.pushes and not names:
            raise BuilderError("nothing to push: the image has no name", hint="give it one with the registry in it")
        if output.flag("unpack"):
            for image in self.images:
                self.shop.unpacked(image.tree)
        stored = output.flag("store", default=True)
        if stored:
            self._store(made, names, output.options.get("dangling-name-prefix"), tagged=not by_digest)
        if by_digest:
            names = [Reference(name.domain, name.path, None, made.top.digest) for name in names]
        if output.pushes:
            # By its digest: somebody may move the tag meanwhile.
            here: AbstractContextManager[Reference]
            here = nullcontext(names[0].with_digest(made.top.digest)) if stored else self._in_store(made)
            with here as source:
                for name in names:
                    self._push(name, source, insecure=output.flag("registry.insecure"))
        return names if stored else ()

    def _store(self, made: Package, tags: Sequence[Reference], unnamed: str | None, *, tagged: bool) -> None:
        """Put configs and manifests into the store, and point all tags to the top; without tags it is kept unnamed."""
        names: dict[str, list[str]] = {}
        for tag in tags:
            names.setdefault(tag.repository, []).extend([tag.tagged.tag or "latest"] if tagged else [])
        if not names:
            from registry.layouts import UNNAMED

            names[Reference.parse(unnamed).repository if unnamed else UNNAMED] = []
        for repository, its_tags in names.items():
            self._put(made, repository, its_tags)

    def _put(self, made: Package, repository: str, tags: Sequence[str]) -> None:
        store = self.shop.store
        for config, manifest in zip(made.configs, made.manifests, strict=True):
            store.put(config, Digest.of(config), self.shop.lease)
            own = () if made.index is not None else tags
            store.put_manifest(repository, manifest, made.manifest_type, tags=own, adopt=True)
        if made.index is not None:
            store.put_manifest(repository, made.index, made.top.media_type, tags=tags)

    @contextmanager
    def _in_store(self, made: Package) -> Iterator[Reference]:
        """The image under a name that is ours alone, and gone after; what else names it does not matter."""
        name = Reference.parse(f"pybuild-export/{uuid4().hex}:latest")
        self._put(made, name.repository, [name.tag or ""])
        store = self.shop.store
        try:
            yield name
        finally:
            for digest in dict.fromkeys((made.top.digest, *map(Digest.of, made.manifests))):
                store.delete_manifest(name.repository, digest)

    def _push(self, name: Reference, here: Reference, *, insecure: bool) -> None:
        from registry.client import push

        step = self.reporter.start(f"pushing {name}")
        try:
            push(self.shop.store, name, source=here, progress=step, settings=self._settings(name, insecure=insecure))
        except BaseException as error:
            step.failed(str(error))
            raise
        step.done()

    def _settings(self, name: Reference, *, insecure: bool) -> "ClientSettings | None":
        if not insecure:
            return None
        from dataclasses import replace

        from msgspec.structs import replace as changed

        from registry.client import ClientSettings

        known = ClientSettings.load(self.shop.store.root)
        one = changed(known.of(name.domain), insecure=True)
        return replace(known, registries={**known.registries, name.domain: one})

    # -- files

    def _export(self, output: Output) -> None:
        step = self.reporter.start(f"exporting to {output.type}" + (f" {output.dest}" if output.dest != STDOUT else ""))
        try:
            if output.needs_image:
                self._archive(output)
            else:
                self._files(output, step)
        except OSError as error:
            step.failed(str(error))
            if isinstance(error, BrokenPipeError):
                raise  # whoever read it has enough
            where = error.filename or ("standard output" if output.dest == STDOUT else output.dest)
            raise BuilderError(f"can't write to {where}: {error.strerror}", hint="choose another dest=") from error
        except BaseException as error:
            step.failed(str(error))
            raise
        step.done()

    def _archive(self, output: Output) -> None:
        from registry.layouts import write_docker_archive, write_oci_layout

        made, store = self._package(output), self.shop.store
        if output.type == "docker" and made.index is not None:
            raise BuilderError("a docker archive holds one platform's image", hint="use type=oci, or one --platform")
        names: list[Reference | None] = [Reference.parse(name).tagged for name in output.names]
        images = [(name, made.top.digest) for name in names or self.tags or [None]]
        with self._in_store(made), _place(output) as place:
            if output.type == "oci":
                write_oci_layout(store, images, place, about=made.top.annotations)
            else:
                write_docker_archive(store, images, place, folder=True)

    def _files(self, output: Output, step: Step) -> None:
        split = output.flag("platform-split", default=len(self.images) > 1)
        parts = [(image, str(image.platform).replace("/", "_") if split else "") for image in self.images]
        with ExitStack() as opened:
            trees = [(part, opened.enter_context(self.shop.view(image.tree, step))) for image, part in parts]
            if output.type == "tar":
                from builder.layers import write_trees

                with _stream(output.dest) as stream:
                    write_trees(trees, stream, seconds=self.shop.epoch)
                return
            from builder.exporters.folder import write_folder

            write_folder(trees, output.dest, clear=output.options.get("mode") == "delete", seconds=self.shop.epoch)


@contextmanager
def _place(output: Output) -> Iterator[Path | BinaryIO]:
    if output.is_folder:
        yield Path(output.dest)
        return
    with _stream(output.dest) as stream:
        yield stream


@contextmanager
def _stream(dest: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears under its name when it is whole."""
    if dest == STDOUT:
        if sys.stdout.isatty():
            raise BuilderError("the output is an archive, and standard output a terminal", hint="add dest=FILE")
        with open(1, "wb", closefd=False) as stream:
            yield stream
        return
    from registry.layouts.write import replaced

    with replaced(Path(dest)) as stream:
        yield stream
