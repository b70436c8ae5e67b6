"""Writing a result out: the store, archives, plain files."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from builder.errors import BuilderError
from builder.exporters.assemble import Assembled
from builder.exporters.outputs import STDOUT, Output
from builder.ops.workshop import Workshop
from builder.progress import Reporter, Step
from builder.solver.results import Tree
from registry.model import Reference


@dataclass(frozen=True)
class Exporter:
    """Writes the result of one build out, in one or several ways."""

    image: Assembled
    tree: Tree
    shop: Workshop
    tags: Sequence[Reference]
    reporter: Reporter

    def export(self, outputs: Sequence[Output], *, push: bool = False) -> None:
        """All outputs, in order; then to the registries.

        Raises:
            BuilderError: an output can't be written. RegistryError: a registry does not take it.
        """
        push = push or any(output.pushes for output in outputs)
        if push or any(output.keeps_image for output in outputs):
            self._store(self.tags)
        for output in outputs:
            if not output.keeps_image:
                self._export(output)
        for name in self.tags if push else ():
            self._push(name)

    def _store(self, tags: Sequence[Reference]) -> None:
        """Put config and manifest into the store, and point all tags to it; without tags it is kept unnamed."""
        image, store = self.image, self.shop.store
        store.put(image.config_content, image.config_digest, self.shop.lease)
        names: dict[str, list[str]] = {}
        for tag in tags:
            names.setdefault(tag.repository, []).append(tag.tagged.tag or "latest")
        if not names:
            from registry.layouts import UNNAMED

            names[UNNAMED] = []
        for repository, its_tags in names.items():
            store.put_manifest(repository, image.manifest_content, image.manifest.media_type, tags=its_tags, adopt=True)

    def _export(self, output: Output) -> None:
        step = self.reporter.start(f"exporting to {output.type}" + (f" {output.dest}" if output.dest != STDOUT else ""))
        try:
            if output.needs_image:
                with self._in_store():
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

    def _push(self, name: Reference) -> None:
        from registry.client import push

        step = self.reporter.start(f"pushing {name}")
        try:
            push(self.shop.store, name, progress=step)
        except BaseException as error:
            step.failed(str(error))
            raise
        step.done()

    @contextmanager
    def _in_store(self) -> Iterator[None]:
        """An archive is written from the store: the image is there meanwhile, and stays only if it was asked for."""
        from registry.layouts import UNNAMED

        store, digest = self.shop.store, self.image.digest
        if store.find_manifests("manifest", str(digest)):
            yield
            return
        self._store(())
        try:
            yield
        finally:
            store.delete_manifest(UNNAMED, digest)

    def _archive(self, output: Output) -> None:
        from registry.layouts import write_docker_archive, write_oci_layout

        store, digest = self.shop.store, self.image.digest
        names: list[Reference | None] = [Reference.parse(name).tagged for name in output.names]
        images = [(name, digest) for name in names or self.tags or [None]]
        if output.type == "oci" and output.options.get("tar") in {"false", "0"}:
            if output.dest == STDOUT:
                raise BuilderError("an OCI layout that is no tar needs a directory", hint="add dest=DIRECTORY")
            write_oci_layout(store, images, Path(output.dest))
            return
        with _stream(output.dest) as stream:
            (write_oci_layout if output.type == "oci" else write_docker_archive)(store, images, stream)

    def _files(self, output: Output, step: Step) -> None:
        from builder.layers import write_tree
        from builder.ops.copy import CopyRequest, Source, copy_into

        with self.shop.view(self.tree, step) as root:
            if output.type == "tar":
                with _stream(output.dest) as stream:
                    write_tree(root, stream)
                return
            os.makedirs(output.dest, exist_ok=True)
            target = os.open(output.dest, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                copy_into(target, CopyRequest((Source(root, "/", keep_owner=True),), "/"))
            finally:
                os.close(target)


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
