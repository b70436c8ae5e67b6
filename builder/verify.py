"""Is an image what its Dockerfile makes? Built again where nothing is cached, and compared.

Promises: the store gets nothing of it, and no step of an earlier build is believed; base images are those of the store.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from builder.build import Builder, BuildRequest, Output
from builder.comparing import Difference, Side, first_difference
from builder.errors import BuilderError, BuildFailed
from builder.progress import Listener
from registry.model import Digest, Index, Reference, parse_manifest
from registry.model.media_types import INDEX_TYPES
from registry.storage import ContentStore, StoredManifest
from registry.storage.images import find_image
from registry.storage.processes import Owner

_PREFIX = "verify-"
_OF_THE_FORM = {"compression", "compression-level", "force-compression", "oci-mediatypes"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`difference` is None if the images are the same, byte for byte."""

    digest: Digest
    rebuilt: Digest
    difference: Difference | None


def verify(
    root: Path, store: ContentStore, image: Reference, request: BuildRequest, listener: Listener | None = None
) -> Verdict:
    """Build again and compare.

    Args:
        root: of the state; the build gets a state of its own below it.
        store: has the image, and the base images that are not to be fetched.
        image: its name in the store.
        request: as it was built; where the result goes does not matter, how it is packed does.
        listener: told about the build.

    Raises:
        ManifestUnknown: there is no such image here. Whatever Builder.build() raises.
    """
    name = image.tagged
    top = store.manifest(name.repository, name.digest or name.tag or "latest")
    with _scratch(root) as place, ContentStore.open(place) as own:
        try:
            result = Builder(place, own, images=store).build(_again(request), listener)
        except BuildFailed as error:  # its log is gone with the scratch root
            raise BuildFailed(str(error), hint="`pybuild build` keeps the whole output of a step") from error
        repository, digest = own.find_manifests("manifest", str(result.digest))[0]
        rebuilt = own.manifest(repository, digest)
        if top.media_type in INDEX_TYPES and len(request.platforms) == 1:
            # One image of an index: that for the platform of the build.
            one = find_image(store, name, request.platform).digest
            top = store.manifest(name.repository, one)
        difference = _compared((store, name.repository, top), (own, repository, rebuilt))
    return Verdict(top.digest, rebuilt.digest, difference)


def _again(request: BuildRequest) -> BuildRequest:
    """The same build with its result in the store of its own, and nothing else."""
    image = next((output for output in request.wanted if output.needs_image), Output())
    options = {key: value for key, value in image.options.items() if key in _OF_THE_FORM}
    output = Output("image", "", options, image.annotations)
    inline = tuple(place for place in request.cache_to if place.type == "inline")  # it is in the image
    return replace(
        request, tags=(), outputs=(output,), push=False, explain=None, cache_from=(), cache_to=inline, caches_to=(),
        pull=False, no_cache=False,
    )  # fmt: skip


_Stored = tuple[ContentStore, str, StoredManifest]


def _compared(built: _Stored, rebuilt: _Stored) -> Difference | None:
    mine, theirs = _images(built), _images(rebuilt)
    for platform in dict.fromkeys((*mine, *theirs)):
        if platform not in mine or platform not in theirs:
            who = "the image" if platform not in mine else "the rebuilt one"
            return Difference("index", f"{platform} is not in {who}")
        one = Side("the image", built[0], mine[platform])
        found = first_difference(one, Side("the rebuilt one", rebuilt[0], theirs[platform]))
        if found is not None:
            return replace(found, where=f"{platform}: {found.where}") if len(theirs) > 1 else found
    if built[2].content == rebuilt[2].content:
        return None
    return Difference("index", "the images are the same, but the index has other annotations, types or entries")


def _images(stored: _Stored) -> dict[str, bytes]:
    """The manifest of each platform's image; of an image that is no index there is one."""
    store, repository, top = stored
    parsed = parse_manifest(top.content, top.media_type)
    if not isinstance(parsed, Index):
        return {"": top.content}
    return {
        str(entry.platform): store.manifest(repository, entry.digest).content
        for entry in parsed.manifests
        if entry.platform is not None and entry.platform.os != "unknown"  # what BuildKit attests
    }


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A state root that is gone after; those of verifications that were killed go, too."""
    from builder.snapshots.trees import remove_tree
    from runner.network import Networks

    above = root / "tmp"
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in above.glob(f"{_PREFIX}*"):
        owner = Owner.parse(old.name.removeprefix(_PREFIX).rpartition("-")[0])
        if owner is None or owner.is_dead():
            networks = Networks(old / "networks")
            for name in networks.attached():
                networks.detach(name)
            remove_tree(str(old))
    made = above / f"{_PREFIX}{Owner.self()}-{token_hex(4)}"
    made.mkdir(mode=0o700)
    try:
        yield made
    finally:
        try:
            remove_tree(str(made))
        except OSError as error:
            raise BuilderError(f"can't remove {made}: {error.strerror}") from error
