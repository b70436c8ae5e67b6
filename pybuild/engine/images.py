"""The images of the store as people handle them: list, tag, remove, inspect, history, save, load.

An image's ID is the digest of its config, as docker's is; one image may have several names, and a name may stand for an
index with an image for each of several platforms.
"""

import contextlib
import fnmatch
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pybuild.errors import Conflict, NotFound, UsageError
from registry.client import Progress
from registry.errors import ManifestUnknown, NameUnknown, RegistryError
from registry.layouts import UNNAMED
from registry.model import Digest, History, ImageConfig, Index, Manifest, Reference, parse_manifest
from registry.model.digest import chain_ids
from registry.model.media_types import IMAGE_CONFIGS, INDEX_TYPES
from registry.model.platform import best_match, native
from registry.storage import ContentStore, StoredImage, StoredManifest, StoredTag
from registry.storage.images import find_by_id, find_image, image_size

NONE = "<none>"
FORMATS = ("docker", "oci")
GRACE = 60.0  # seconds; content that just came may be another command's, not yet named
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
InUse = Callable[[Digest], str | None]  # an image's ID → the name of a container made from it


def used_by_nobody(image: Digest) -> str | None:
    del image
    return None


def containers_of(root: Path) -> InUse:
    """Who uses an image, by the records of containers below a state root."""
    from pybuild.engine.records import Records

    found: dict[str, str] = {}

    def name(image: Digest) -> str | None:
        if not found:
            records = Records(root)
            for container_id in records.ids():
                with contextlib.suppress(NotFound):  # removed meanwhile
                    record = records.load(container_id)
                    found.setdefault(record.image_id, record.name)
            found.setdefault("", "")
        return found.get(str(image))

    return name


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of the list of images: a name and what it stands for on this machine."""

    repository: str  # NONE where there is no name
    tag: str
    digest: Digest  # of the manifest or index
    id: Digest
    created: str | None  # RFC 3339
    size: int  # bytes of layers, as kept in the store
    platform: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def fits(self, wanted: str) -> bool:
        """Whether a filter lets it pass: dangling=true|false, reference=PATTERN, label=KEY[=VALUE]."""
        key, _, value = wanted.partition("=")
        if key == "dangling" and value in {"true", "false"}:
            return (self.tag == NONE) == (value == "true")
        if key == "reference" and value:
            return any(fnmatch.fnmatchcase(name, value) for name in (self.repository, f"{self.repository}:{self.tag}"))
        if key == "label" and value:
            name, equals, text = value.partition("=")
            return name in self.labels and (not equals or self.labels[name] == text)
        raise UsageError(
            f"not a filter for images: {wanted[:100]}", hint="dangling=true, reference=PATTERN or label=KEY[=VALUE]"
        )


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that a removal did: "Untagged" a name or "Deleted" an image ID."""

    action: str
    what: str

    def __str__(self) -> str:
        return f"{self.action}: {self.what}"


@dataclass(frozen=True, slots=True)
class Step:
    """A row of an image's history, last step first."""

    id: str  # the image's for its last step, else "<missing>"
    created: str | None
    created_by: str
    size: int
    comment: str


class Images:
    def __init__(self, store: ContentStore, in_use: InUse = used_by_nobody) -> None:
        self._store = store
        self._in_use = in_use

    def find(self, name: str) -> StoredImage:
        """The image for this machine under a name, or by (a part of) its ID. Raises NotFound."""
        try:
            return find_image(self._store, Reference.parse(name))
        except RegistryError as error:
            if not _ID.fullmatch(name):
                raise _not_found(name, error) from None
        try:
            return find_by_id(self._store, name)
        except ManifestUnknown as error:
            raise _not_found(name, error) from None

    def listing(self, *, every: bool = False, name: str | None = None, filters: Sequence[str] = ()) -> list[Listed]:
        """All names, newest image first, then images without a name; `every`: each platform of an index by itself.

        Args:
            every: a row for each image of an index that is here.
            name: only this repository, or this repository and tag.
            filters: all must fit; see `Listed.fits`.
        """
        wanted = Reference.parse(name) if name else None
        rows = [
            row
            for stored in self._everything()
            if wanted is None
            or (stored.repository == wanted.repository and (wanted.tag is None or stored.tag == wanted.tag))
            for row in self._rows(stored, every=every)
            if all(row.fits(one) for one in filters)
        ]
        return sorted(rows, key=lambda row: (row.created or "", row.repository, row.tag), reverse=True)

    def tag(self, source: str, target: str) -> None:
        """Give an image another name; one that the name had is untagged. Raises NotFound, NameInvalid."""
        new = Reference.parse(target)
        if new.digest:
            raise UsageError(f"a new name has no digest: {target}", hint="write name:tag")
        repository, top = self._top(source)
        for found in self._tree(repository, top):
            self._store.put_manifest(
                new.repository,
                found.content,
                found.media_type,
                tags=[new.tagged.tag or "latest"] if found.digest == top else [],
                expected=found.digest,
                sparse=True,
                adopt=True,
            )
        if repository == UNNAMED:
            self._drop_spare(UNNAMED, self._tree(UNNAMED, top))

    def remove(self, name: str, *, force: bool = False, grace_seconds: float = GRACE) -> list[Removed]:
        """Take a name away, and the image with its last name; an ID means all names.

        Args:
            name: a name, or (a part of) an image ID.
            force: though a container uses it, or an ID has names in several repositories.
            grace_seconds: content younger than that stays until the next collection.

        Raises:
            NotFound, Conflict.
        """
        names = self._names_to_remove(name, force=force)
        unpacked = self._chains(names)
        done = [removed for stored in names for removed in self._remove_one(stored)]
        self._forget_unpacked(unpacked, grace_seconds)
        self._store.collect(grace_seconds=grace_seconds)
        return done

    def prune(self, *, every: bool = False, grace_seconds: float = GRACE) -> tuple[list[Removed], int]:
        """Remove images without a name, with `every` also named ones that no container uses.

        Returns:
            What was removed, and how many bytes that freed.
        """
        going = [
            stored
            for stored in [*(self._store.images() if every else []), *self._store.untagged()]
            if not any(self._in_use(image) for image in self._ids(stored))
        ]
        unpacked = self._chains(going)
        done = [removed for stored in going for removed in self._remove_one(stored)]
        self._forget_unpacked(unpacked, grace_seconds)
        return done, self._store.collect(grace_seconds=grace_seconds).bytes

    def inspect(self, name: str) -> dict[str, Any]:
        """All there is to know, in the shape of `docker image inspect`. Raises NotFound."""
        image = self.find(name)
        raw = json.loads(self._store.read(image.config_digest))
        tags, digests = self._names_of(image)
        size = image_size(self._store, image.manifest)
        return {
            "Id": str(image.config_digest),
            "RepoTags": tags,
            "RepoDigests": digests,
            "Parent": "",
            "Comment": (image.config.history[-1].comment if image.config.history else ""),
            "Created": image.config.created or "",
            "DockerVersion": raw.get("docker_version", ""),
            "Author": image.config.author,
            "Config": _EMPTY_CONFIG | (raw.get("config") or {}),
            "Architecture": image.config.platform.architecture,
            "Variant": image.config.platform.variant,
            "Os": image.config.platform.os,
            "Size": size,
            "VirtualSize": size,
            "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in image.config.rootfs.diff_ids]},
            "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
            "Descriptor": {
                "mediaType": image.manifest.media_type,
                "digest": str(image.index_digest or image.digest),
                "size": len(self._store.manifest(image.reference.repository, image.digest).content),
            },
        }

    def history(self, name: str) -> list[Step]:
        """How the image was made, last step first. Raises NotFound."""
        image = self.find(name)
        sizes = iter([layer.size for layer in image.manifest.layers])
        history = image.config.history or tuple(History() for _ in image.manifest.layers)
        steps = [
            Step("<missing>", step.created, step.created_by, 0 if step.empty_layer else next(sizes, 0), step.comment)
            for step in history
        ]
        if steps:
            last = steps[-1]
            steps[-1] = Step(str(image.config_digest), last.created, last.created_by, last.size, last.comment)
        return steps[::-1]

    def save(self, names: Sequence[str], out: Path | BinaryIO, form: str = "docker", *, folder: bool = False) -> None:
        """Write images to a file or a stream. Raises NotFound, BlobUnknown.

        Args:
            names: names or IDs.
            out: a file appears when it is whole.
            form: "docker" or "oci".
            folder: `out` is a folder for an OCI layout, made or added to.
        """
        from registry.layouts import write_docker_archive, write_oci_layout

        images: list[tuple[Reference | None, Digest]] = []
        for name in names:
            _, top = self._top(name)
            images += [(reference, top) for reference in self._references(name, top)] or [(None, top)]
        if folder and form != "oci":
            raise UsageError("a docker archive is one file", hint="give --format oci for a folder, or a file's name")
        if form == "oci":
            write_oci_layout(self._store, images, out, folder=folder)
        else:
            write_docker_archive(self._store, images, out)

    def load(self, source: Path | BinaryIO, progress: Progress | None = None) -> list[Reference | Digest]:
        """Take images from an archive or a layout; see `registry.layouts.load_archive`."""
        from registry.layouts import load_archive

        return load_archive(self._store, source, progress)

    # -- names and what they stand for ------------------------------------------------------------------------------

    def _top(self, name: str) -> tuple[str, Digest]:
        """Repository and digest that a name stands for: of the whole index, if it is one."""
        try:
            reference = Reference.parse(name).tagged
            found = self._store.manifest(reference.repository, reference.digest or reference.tag or "latest")
            return reference.repository, found.digest
        except RegistryError as error:
            if not _ID.fullmatch(name):
                raise _not_found(name, error) from None
        image = self.find(name)
        return image.reference.repository, image.digest

    def _references(self, name: str, top: Digest) -> list[Reference]:
        """The names to save an image under: the one that was given; for an ID or a digest, all tags that it has."""
        given = None if _is_bare_id(name) else Reference.parse(name)
        if given is not None and given.digest is None and self._has(given.tagged):
            return [given.tagged]
        return [
            Reference.parse(f"{stored.repository}:{stored.tag}")
            for stored in self._store.images()
            if stored.digest == top and (given is None or given.digest is None or given.repository == stored.repository)
        ]

    def _has(self, reference: Reference) -> bool:
        try:
            self._store.manifest(reference.repository, reference.tag or "latest")
        except RegistryError:
            return False
        return True

    def _tree(self, repository: str, top: Digest) -> list[StoredManifest]:
        """A manifest and those below it that are here, children first."""
        ordered: dict[Digest, StoredManifest] = {}

        def visit(digest: Digest) -> None:
            found = self._store.manifest(repository, digest)
            parsed = parse_manifest(found.content, found.media_type)
            for child in parsed.manifests if isinstance(parsed, Index) else ():
                if child.digest not in ordered:
                    try:
                        visit(child.digest)
                    except ManifestUnknown:
                        continue  # another platform's, never fetched
            ordered[digest] = found

        visit(top)
        return list(ordered.values())

    def _images_of(self, stored: StoredTag) -> list[tuple[StoredManifest, Manifest]]:
        parsed = [
            (found, parse_manifest(found.content, found.media_type))
            for found in self._tree(stored.repository, stored.digest)
        ]
        return [
            (found, manifest)
            for found, manifest in parsed
            if isinstance(manifest, Manifest) and manifest.config.media_type in IMAGE_CONFIGS
        ]

    def _ids(self, stored: StoredTag) -> list[Digest]:
        return [manifest.config.digest for _, manifest in self._images_of(stored)]

    def _rows(self, stored: StoredTag, *, every: bool) -> Iterator[Listed]:
        """What a name stands for: of an index, the image for this machine, or else the first that is here."""
        images = []
        for _, manifest in self._images_of(stored):
            with contextlib.suppress(RegistryError):  # its config is not here: no image to run
                images.append((manifest, ImageConfig.parse(self._store.read(manifest.config.digest))))
        if not every and len(images) > 1:
            best = best_match(native(), [config.platform for _, config in images])
            images = [images[best or 0]]
        for manifest, config in images:
            yield Listed(
                repository=NONE if stored.repository == UNNAMED else stored.repository,
                tag=stored.tag or NONE,
                digest=stored.digest,
                id=manifest.config.digest,
                created=config.created,
                size=image_size(self._store, manifest),
                platform=str(config.platform),
                labels=config.config.labels,
            )

    def _names_of(self, image: StoredImage) -> tuple[list[str], list[str]]:
        """All tags that lead to an image, and its repositories with the digest that each knows it by."""
        tags, digests = set(), set()
        for stored in self._leading_to(image.config_digest):
            if stored.tag:
                tags.add(f"{stored.repository}:{stored.tag}")
            if stored.repository != UNNAMED:
                digests.add(f"{stored.repository}@{stored.digest}")
        return sorted(tags), sorted(digests)

    def _everything(self) -> list[StoredTag]:
        return [*self._store.images(), *self._store.untagged()]

    def _leading_to(self, image: Digest) -> list[StoredTag]:
        """The tags and untagged manifests that are, or list, an image."""
        direct = set(self._store.find_manifests("config", str(image)))
        return [
            stored
            for stored in self._everything()
            if (stored.repository, stored.digest) in direct
            or (stored.media_type in INDEX_TYPES and image in self._ids(stored))
        ]

    # -- removing ---------------------------------------------------------------------------------------------------

    def _names_to_remove(self, name: str, *, force: bool) -> list[StoredTag]:
        """The tags (or untagged manifests) that go, if nothing speaks against it."""
        try:
            given = Reference.parse(name).tagged
            top = self._store.manifest(given.repository, given.digest or given.tag or "latest")
        except RegistryError as error:
            if not _ID.fullmatch(name):
                raise _not_found(name, error) from None
            names = self._names_by_id(name, force=force)
        else:
            names = [
                stored
                for stored in self._everything()
                if stored.repository == given.repository
                and stored.digest == top.digest
                and (given.digest is not None or stored.tag == given.tag)
            ] or [StoredTag(given.repository, "", top.digest, top.media_type)]
        if not force:
            self._check_unused(names)
        return names

    def _names_by_id(self, name: str, *, force: bool) -> list[StoredTag]:
        image = self.find(name)
        names = self._leading_to(image.config_digest)
        repositories = sorted({stored.repository for stored in names})
        if len(repositories) > 1 and not force:
            raise Conflict(
                f"image {image.config_digest.short} has names in several repositories: {', '.join(repositories)}",
                hint="remove them by name, or give --force",
            )
        return names

    def _check_unused(self, going: Sequence[StoredTag]) -> None:
        """A container needs one name of its image, whichever."""
        for image in {image for stored in going for image in self._ids(stored)}:
            container = self._in_use(image)
            if container and all(stored in going for stored in self._leading_to(image)):
                raise Conflict(
                    f"image {image.short} is used by container {container}",
                    hint=f"remove the container first (pybuild rm {container}), or give --force",
                )

    def _remove_one(self, stored: StoredTag) -> Iterator[Removed]:
        """Untag, and delete what nothing accounts for any more."""
        tree = self._tree(stored.repository, stored.digest)
        images = self._ids(stored)
        if stored.tag:
            self._store.untag(stored.repository, stored.tag)
            yield Removed("Untagged", f"{stored.repository}:{stored.tag}")
        self._drop_spare(stored.repository, tree)
        for image in images:
            if not self._store.find_manifests("config", str(image)):
                yield Removed("Deleted", str(image))

    def _drop_spare(self, repository: str, tree: Sequence[StoredManifest]) -> None:
        """Delete those that nothing accounts for any more, an index before what it lists."""
        for found in reversed(tree):
            spare = {(other.repository, other.digest) for other in self._store.untagged()}
            if (repository, found.digest) in spare:
                self._store.delete_manifest(repository, found.digest)

    def _chains(self, names: Sequence[StoredTag]) -> set[str]:
        """The names of the file systems that these images unpack to."""
        found: set[str] = set()
        for image in {image for stored in names for image in self._ids(stored)}:
            with contextlib.suppress(RegistryError):  # its config is not here
                diff_ids = ImageConfig.parse(self._store.read(image)).rootfs.diff_ids
                found.update(map(str, chain_ids(diff_ids) if diff_ids else ()))
        return found

    def _forget_unpacked(self, chains: set[str], idle_seconds: float) -> None:
        """Remove unpacked file systems that only the removed images had, unless somebody stands on them."""
        if not chains or not (self._store.root / "snapshots").exists():
            return
        from builder.snapshots import Snapshots

        gone = chains - self._chains(self._everything())
        with Snapshots(self._store.root) as snapshots:
            snapshots.sweep(lambda name: name not in gone, idle_seconds=idle_seconds)


def _is_bare_id(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


def _not_found(name: str, error: RegistryError) -> NotFound:
    if isinstance(error, ManifestUnknown | NameUnknown):
        return NotFound(f"no such image: {name}", hint=error.hint or "see `pybuild images`, or pull it")
    return NotFound(f"no such image: {name} ({error})", hint=error.hint)


_EMPTY_CONFIG: dict[str, Any] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None,
}  # fmt: skip
