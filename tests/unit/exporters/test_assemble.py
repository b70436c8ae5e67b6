"""The image of a build: times, history, layers."""

from builder.exporters.assemble import assemble
from builder.plan.options import BaseImage
from builder.plan.planner import Plan, Step
from builder.plan.vertices import MkdirOp, ScratchOp, Vertex
from builder.solver.results import MadeLayer, Tree
from registry.model import Descriptor, Digest, History, ImageConfig, MediaType, RootFs
from registry.model.platform import native

OLD, FIRST, SECOND = "2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
SECOND_NS = 1767312000 * 10**9
SCRATCH = Vertex(ScratchOp())
ONE = Vertex(MkdirOp("/1"), (SCRATCH,))
TWO = Vertex(MkdirOp("/2"), (ONE,))


def layer(name: str, created: str, newest_ns: int = 0) -> MadeLayer:
    return MadeLayer(
        Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(name.encode()), 1),
        Digest.of(f"{name} diff".encode()),
        newest_ns,
        created,
    )


MADE = {ONE.digest: layer("one", FIRST), TWO.digest: layer("two", SECOND, SECOND_NS + 999)}
TREE = Tree().on_top(MADE[ONE.digest]).on_top(MADE[TWO.digest])


def plan(base: BaseImage | None = None) -> Plan:
    steps = (
        Step(History(created_by="ENV a", empty_layer=True)),
        Step(History(created_by="one"), ONE),
        Step(History(created_by="ENV b", empty_layer=True)),
        Step(History(created_by="two"), TWO),
    )
    return Plan(TWO, ImageConfig(native()), base, steps)


def test_an_image_is_as_old_as_the_newest_of_what_it_was_made_from() -> None:
    assert assemble(plan(), TREE, MADE, epoch=None).config.created == SECOND


def test_a_step_without_a_layer_has_the_time_of_the_layer_before_it() -> None:
    image = assemble(plan(), TREE, MADE, epoch=None)
    assert [step.created for step in image.config.history] == [SECOND, FIRST, FIRST, SECOND]


def test_an_epoch_is_every_time() -> None:
    image = assemble(plan(), TREE, MADE, epoch=OLD)
    assert {step.created for step in image.config.history} == {OLD}
    assert image.config.created == OLD


def test_the_history_of_the_base_comes_first_and_keeps_its_times() -> None:
    base_layer = Descriptor(MediaType.DOCKER_LAYER_GZIP, Digest.of(b"base"), 5)
    config = ImageConfig(native(), rootfs=RootFs((Digest.of(b"base diff"),)), history=(History(OLD, "base"),))
    base = BaseImage("debian", Digest.of(b"m"), (base_layer,), config)
    tree = Tree((base_layer,), config.rootfs.diff_ids).on_top(MADE[ONE.digest]).on_top(MADE[TWO.digest])
    image = assemble(plan(base), tree, MADE, epoch=FIRST)
    assert [(step.created, step.created_by) for step in image.config.history][:2] == [(OLD, "base"), (FIRST, "ENV a")]
    assert len(image.config.rootfs.diff_ids) == 3
    assert image.own == 2
