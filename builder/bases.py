"""Base images for a build: from the store, else from a registry or a layout; each for the platform that asks."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.dockerfile.instructions import DockerfileError, Position
from builder.errors import BuilderError
from builder.plan.contexts import LAYOUT, split_layout
from builder.plan.options import BaseImage
from builder.progress import Reporter, Step
from builder.solver.keys import pull_key
from registry.errors import ManifestUnknown, RegistryError
from registry.model import Digest, Platform, Reference
from registry.storage import ContentStore, StoredImage
from registry.storage.images import find_image

if TYPE_CHECKING:
    from builder.build import BuildRequest

_PIECE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class StoreBases:
    """Base images: from the store, and from their registry if they are not there or `--pull` asks for the newest."""

    store: ContentStore
    request: "BuildRequest"
    reporter: Reporter
    others: ContentStore | None = None  # where to look next
    found: dict[tuple[str, Platform], BaseImage] = field(default_factory=dict)  # by the name in the Dockerfile

    def resolve(self, name: str, at: Position, platform: Platform) -> BaseImage:
        if name.startswith(LAYOUT):
            found, shown = self._in_layout(name, at, platform), name
        else:
            found, shown = self._named(name, at, platform)
        if len(found.manifest.layers) != len(found.config.rootfs.diff_ids):
            raise BuilderError(f"image {shown} is broken: its config and manifest differ in layers", hint="pull it")
        self.found[name, platform] = BaseImage(
            shown, found.digest, found.manifest.layers, found.config, found.index_digest
        )
        return self.found[name, platform]

    def _named(self, name: str, at: Position, platform: Platform) -> tuple[StoredImage, str]:
        try:
            reference = Reference.parse(name).tagged
        except RegistryError as error:
            raise DockerfileError(f"{name!r} names no image: {error}", at=at, hint=error.hint) from None
        found = None if self.request.pull else self._local(reference, platform)
        return found or self._pulled(reference, at, platform), str(reference)

    def _local(self, reference: Reference, platform: Platform) -> StoredImage | None:
        try:
            return find_image(self.store, reference, platform)
        except ManifestUnknown:
            return None if self.others is None else self._taken_over(self.others, reference, platform)

    def _taken_over(self, others: ContentStore, reference: Reference, platform: Platform) -> StoredImage | None:
        """From the other store, with all its content."""
        try:
            found = find_image(others, reference, platform)
        except ManifestUnknown:
            return None
        for blob in found.manifest.children:
            with others.open_blob(blob.digest) as source, self.store.ingest(blob.digest.algorithm) as copy:
                while piece := source.read(_PIECE):
                    copy.write(piece)
                copy.commit(blob.digest, blob.size)
        stored = others.manifest(found.reference.repository, found.digest)
        tags = [reference.tag] if reference.tag and not reference.digest else []
        self.store.put_manifest(reference.repository, stored.content, stored.media_type, tags=tags, adopt=True)
        return found

    def _in_layout(self, place: str, at: Position, platform: Platform) -> StoredImage:
        from registry.layouts import load_from_layout

        folder, wanted = split_layout(place)
        step = self.reporter.start(f"[internal] load {place}")
        try:
            which = Digest.parse(wanted) if ":" in wanted else wanted
            reference = load_from_layout(self.store, Path(folder), which, step)
            found = find_image(self.store, reference, platform)
        except RegistryError as error:
            step.failed(str(error))
            raise BuilderError(f"{at.file}:{at.line}: can't get the image {place}: {error}", hint=error.hint) from error
        step.done()
        return found

    def _fetched(self, reference: Reference, platform: Platform, step: Step) -> StoredImage:
        """As BuildKit does: an image that is no index is taken for what it is, and a build check tells."""
        from registry.client import pull

        try:
            pull(self.store, reference, platform=platform, progress=step)
            return find_image(self.store, reference, platform)
        except ManifestUnknown:
            with suppress(RegistryError):
                pull(self.store, reference, progress=step)
                found = find_image(self.store, reference)
                if found.index_digest is None:
                    return found
            raise

    def _pulled(self, reference: Reference, at: Position, platform: Platform) -> StoredImage:
        from builder.solver.turns import turn

        step = self.reporter.start(f"[internal] pull {reference}")
        try:
            with turn(self.store.root, pull_key(reference, platform), step.update):
                # Another build may have been first.
                known = None if self.request.pull else self._local(reference, platform)
                found = known or self._fetched(reference, platform, step)
        except RegistryError as error:
            step.failed(str(error))
            hint = self._here(reference) or error.hint or "check the name, or pull it by hand to see more"
            raise BuilderError(f"{at.file}:{at.line}: can't get the image {reference}: {error}", hint=hint) from error
        except BaseException:
            step.canceled()
            raise
        step.done()
        return found

    def _here(self, reference: Reference) -> str | None:
        """What to do if it is here, but for another platform."""
        with suppress(RegistryError):
            platform = find_image(self.store, reference).config.platform
            return f"it is here for {platform} only; for another platform build it, or pull it where it can be had"
        return None
