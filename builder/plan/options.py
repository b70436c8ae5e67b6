"""What a build is asked for, as far as the plan depends on it, and what the plan asks of the world."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from builder.dockerfile.instructions import Position
from registry.model import Descriptor, Digest, ImageConfig, Platform
from registry.model.platform import native


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What FROM found: an image whose config is in the store."""

    name: str
    digest: Digest
    layers: tuple[Descriptor, ...]
    config: ImageConfig
    index: Digest | None = None  # which led to it


class Bases(Protocol):
    """Finds images for FROM, --from and --mount=from: in the store, else from a registry."""

    def resolve(self, name: str, at: Position, platform: Platform) -> BaseImage: ...


@dataclass(frozen=True, slots=True)
class PlanOptions:
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=native)
    several: bool = False  # platforms are built: names of steps tell theirs
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)  # --build-context: name, where it is
    allow: frozenset[str] = frozenset()  # network.host, security.insecure
    no_cache: bool = False
