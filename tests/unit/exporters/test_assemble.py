"""Config and manifest of a build: times, layers, media types."""

from dataclasses import dataclass, field

from builder.exporters.assemble import assemble
from builder.plan.options import BaseImage
from builder.plan.planner import Plan, Step
from builder.plan.vertices import MkdirOp, ScratchOp, Vertex
from builder.solver.results import MadeLayer, Tree
from registry.model import Descriptor, Digest, History, ImageConfig, MediaType, RootFs
from registry.model.platform import native

OLD, FIRST, SECOND = "2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
SCRATCH = Vertex(ScratchOp())
ONE = Vertex(MkdirOp("/1"), (SCRATCH,))
TWO = Vertex(MkdirOp("/2"), (ONE,))


def layer(name: str, created: str) -> MadeLayer:
    return MadeLayer(
        Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(name.encode()), 1),
        Digest.of(f"{name} diff".encode()),
        0,
        created,
    )


MADE = {ONE.digest: layer("one", FIRST), TWO.digest: layer("two", SECOND)}
TREE = Tree().on_top(MADE[ONE.digest]).on_top(MADE[TWO.digest])


def plan(base: BaseImage | None = None) -> Plan:
    steps = (
        Step(History(created_by="ENV a", empty_layer=True)),
        Step(History(created_by="one"), ONE),
        Step(History(created_by="ENV b", empty_layer=True)),
        Step(History(created_by="two"), TWO),
    )
    return Plan(TWO, ImageConfig(native()), base, steps)


@dataclass
class Clock:
    """Says now, and remembers for which configs it did."""

    now: str
    asked: list[bytes] = field(default_factory=list)

    def __call__(self, config: bytes) -> str:
        self.asked.append(config)
        return self.now


def test_a_step_without_a_layer_has_the_time_of_the_layer_before_it() -> None:
    image = assemble(plan(), TREE, MADE, epoch=None, time_of=Clock("2026-02-02T00:00:00Z"))
    assert [step.created for step in image.config.history] == ["2026-02-02T00:00:00Z", FIRST, FIRST, SECOND]
    assert image.config.created == "2026-02-02T00:00:00Z"


def test_the_time_of_making_is_asked_for_by_a_config_that_does_not_hold_it() -> None:
    one, two = Clock("2026-02-02T00:00:00Z"), Clock("2027-02-02T00:00:00Z")
    assemble(plan(), TREE, MADE, epoch=None, time_of=one)
    assemble(plan(), TREE, MADE, epoch=None, time_of=two)
    assert one.asked == two.asked


def test_an_epoch_is_every_time_and_nobody_is_asked() -> None:
    clock = Clock("never")
    image = assemble(plan(), TREE, MADE, epoch=OLD, time_of=clock)
    assert {step.created for step in image.config.history} == {OLD}
    assert image.config.created == OLD
    assert clock.asked == []


def test_the_history_of_the_base_comes_first_and_keeps_its_times() -> None:
    base_layer = Descriptor(MediaType.DOCKER_LAYER_GZIP, Digest.of(b"base"), 5)
    config = ImageConfig(native(), rootfs=RootFs((Digest.of(b"base diff"),)), history=(History(OLD, "base"),))
    base = BaseImage("debian", Digest.of(b"m"), (base_layer,), config)
    tree = Tree((base_layer,), config.rootfs.diff_ids).on_top(MADE[ONE.digest]).on_top(MADE[TWO.digest])
    image = assemble(plan(base), tree, MADE, epoch=FIRST, time_of=Clock("x"))
    assert [(step.created, step.created_by) for step in image.config.history][:2] == [(OLD, "base"), (FIRST, "ENV a")]
    assert len(image.config.rootfs.diff_ids) == len(image.manifest.layers) == 3


def test_layers_of_a_docker_image_are_named_as_oci_names_them() -> None:
    base_layer = Descriptor(MediaType.DOCKER_LAYER_GZIP, Digest.of(b"base"), 5)
    image = assemble(
        Plan(SCRATCH, ImageConfig(native()), None, ()),
        Tree((base_layer,), (ONE.digest,)),
        {},
        epoch=OLD,
        time_of=Clock("x"),
    )
    assert image.manifest.layers == (Descriptor(MediaType.OCI_LAYER_GZIP, base_layer.digest, 5),)
