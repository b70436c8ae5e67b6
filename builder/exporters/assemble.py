"""A plan and the layers of its steps → the image for one platform. Pure, so that equal builds give equal images."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from builder.plan.planner import Plan, Step
from builder.solver.results import MadeLayer, Tree
from builder.times import NANOSECONDS, rfc3339
from registry.model import Digest, History, ImageConfig, Platform, RootFs

_CACHE = "moby.buildkit.cache.v0"


@dataclass(frozen=True, slots=True)
class Image:
    """The image for one platform, before an output says how it is packed and named."""

    platform: Platform  # as asked for
    config: ImageConfig
    tree: Tree
    own: int = 0  # how many of its layers this build made; the ones below are the base image's
    cache: bytes = b""  # records of BuildKit's form that go into the config (`--cache-to type=inline`)

    def config_content(self) -> bytes:
        content = self.config.to_bytes()
        if not self.cache:
            return content
        found = json.loads(content) | {_CACHE: base64.b64encode(self.cache).decode()}
        return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


def assemble(plan: Plan, tree: Tree, made: Mapping[Digest, MadeLayer], *, epoch: str | None) -> Image:
    """Put the image together.

    Args:
        plan: the config, times and layers aside, and the steps.
        tree: the file system of the result.
        made: the layer of each step's vertex, by the vertex's digest.
        epoch: RFC 3339; stands for every time of this build if the user gave one. Otherwise the image is as old as
            the newest of what it was made from, and so is each of its layers (docs/adr/0003).
    """
    steps = _timed(plan.steps, made, epoch)
    base = plan.base.config.history if plan.base else ()
    created = epoch or rfc3339(tree.newest_ns // NANOSECONDS)
    history = (*base, *(step if step.created else replace(step, created=created) for step in steps))
    config = replace(plan.config, rootfs=RootFs(tree.diff_ids), history=history, created=created)
    return Image(plan.platform, config, tree, sum(step.vertex is not None for step in plan.steps))


def _timed(steps: tuple[Step, ...], made: Mapping[Digest, MadeLayer], epoch: str | None) -> list[History]:
    """The history with the time of each layer; a step without one has that of the layer before it, if there is one."""
    latest = epoch
    found: list[History] = []
    for step in steps:
        if step.vertex is not None and epoch is None:
            latest = made[step.vertex.digest].created
        found.append(replace(step.history, created=latest))
    return found
