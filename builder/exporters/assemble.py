"""A plan and the layers that its steps gave → config and manifest. Pure, so that equal builds give equal images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from builder.plan.planner import Plan, Step
from builder.solver.results import MadeLayer, Tree
from registry.model import Descriptor, Digest, History, ImageConfig, Manifest, MediaType, RootFs

_AS_OCI: dict[str, str] = {
    MediaType.DOCKER_LAYER: MediaType.OCI_LAYER,
    MediaType.DOCKER_LAYER_GZIP: MediaType.OCI_LAYER_GZIP,
    MediaType.DOCKER_LAYER_ZSTD: MediaType.OCI_LAYER_ZSTD,
    MediaType.DOCKER_FOREIGN_LAYER: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
}


@dataclass(frozen=True)
class Assembled:
    """An image, not stored yet."""

    config: ImageConfig
    config_content: bytes
    manifest: Manifest
    manifest_content: bytes

    @property
    def config_digest(self) -> Digest:
        return self.manifest.config.digest

    @cached_property
    def digest(self) -> Digest:
        """Of the manifest."""
        return Digest.of(self.manifest_content)


def assemble(
    plan: Plan,
    tree: Tree,
    made: Mapping[Digest, MadeLayer],
    *,
    epoch: str | None,
    time_of: Callable[[bytes], str],
) -> Assembled:
    """Put the image together.

    Args:
        plan: the config, times and layers aside, and the steps.
        tree: the file system of the result.
        made: the layer of each step's vertex, by the vertex's digest.
        epoch: RFC 3339; stands for every time of this build if the user gave one.
        time_of: says when an image was made, from its config without that time. It must say the same for the same
            config, so that a build that is all cached gives the image that is there.
    """
    steps = tuple(_timed(plan.steps, made, epoch))
    base = plan.base.config.history if plan.base else ()
    config = replace(plan.config, rootfs=RootFs(tree.diff_ids), history=(*base, *steps))
    created = epoch or time_of(config.to_bytes())
    history = tuple(step if step.created else replace(step, created=created) for step in steps)
    config = replace(config, created=created, history=(*base, *history))
    content = config.to_bytes()
    manifest = Manifest(
        MediaType.OCI_MANIFEST,
        Descriptor(MediaType.OCI_CONFIG, Digest.of(content), len(content)),
        tuple(replace(layer, media_type=_AS_OCI.get(layer.media_type, layer.media_type)) for layer in tree.layers),
    )
    return Assembled(config, content, manifest, manifest.to_bytes())


def _timed(steps: tuple[Step, ...], made: Mapping[Digest, MadeLayer], epoch: str | None) -> list[History]:
    """The history with the time of each layer; a step without one has that of the layer before it, if there is one."""
    latest = epoch
    found: list[History] = []
    for step in steps:
        if step.vertex is not None and epoch is None:
            latest = made[step.vertex.digest].created
        found.append(replace(step.history, created=latest))
    return found
