"""A planner on text, with images that exist only here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import DockerfileError, Position
from builder.plan.options import BaseImage, PlanOptions
from builder.plan.planner import Plan, make_plan
from registry.model import Descriptor, Digest, History, ImageConfig, Platform, RootFs, RunConfig
from registry.model.platform import native


@dataclass
class KnownImages:
    """Bases by name; remembers what was asked for."""

    images: dict[str, BaseImage] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, **run: object) -> BaseImage:
        layer = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(f"{name} layer".encode()), 9)
        config = ImageConfig(
            native(),
            RunConfig(**run),
            RootFs((Digest.of(f"{name} diff".encode()),)),
            (History(created_by=f"making {name}"),),
            "2026-01-02T03:04:05Z",
        )
        self.images[name] = BaseImage(name, Digest.of(name.encode()), (layer,), config)
        return self.images[name]

    def resolve(self, name: str, at: Position, platform: Platform) -> BaseImage:
        """The same files for every platform, in another image each."""
        self.asked.append(name)
        if name not in self.images:
            raise DockerfileError(f"no image {name}", at=at)
        found = self.images[name]
        if platform == native():
            return found
        return replace(
            found, digest=Digest.of(f"{name} {platform}".encode()), config=replace(found.config, platform=platform)
        )


@pytest.fixture
def images() -> KnownImages:
    known = KnownImages()
    known.add("debian", env=("PATH=/bin", "LANG=C"), cmd=("bash",), working_dir="/home")
    known.add("alpine", env=("PATH=/bin",))
    return known


@pytest.fixture
def plan(images: KnownImages) -> Callable[..., Plan]:
    def make(text: str, *, build_args: Mapping[str, str] | None = None, **options: object) -> Plan:
        return make_plan(parse_dockerfile(text), PlanOptions(build_args=build_args or {}, **options), images)

    return make
