"""Our vertices as BuildKit's operations; that the keys are its own, tests/interop/test_buildkit_cache.py holds."""

from builder.cache.llb import Namer
from builder.plan.gitaddress import parse_git
from builder.plan.vertices import ContextOp, CopyOp, GitOp, ImageOp, MkdirOp, RunOp, SourcePath, Vertex
from registry.model import Digest

LAYERS = Digest.of(b"layer")
IMAGE = Vertex(ImageOp("base", Digest.of(b"manifest"), (), (LAYERS,), None, "linux/amd64"))
CONTEXT = Vertex(ContextOp())


def run(below: Vertex, platform: str = "linux/amd64", **words: str) -> Vertex:
    return Vertex(RunOp(("true",), (), "/", "", platform=platform, **words), (below,))


def test_an_image_is_known_by_its_index_if_one_led_to_it() -> None:
    by_index = Vertex(ImageOp("base", Digest.of(b"manifest"), (), (LAYERS,), None, "linux/amd64", Digest.of(b"index")))
    names = [Namer().operation(each) for each in (IMAGE, by_index)]
    assert all(names)
    assert names[0].digests[0] != names[1].digests[0]
    assert names[0].digests[1] == names[1].digests[1]  # the layers


def test_a_step_on_what_has_no_name_has_none_either() -> None:
    nameless = Vertex(CopyOp((SourcePath(1, "a\\b"),), "/"), (IMAGE, CONTEXT))
    namer = Namer()
    assert namer.operation(nameless) is None
    assert namer.operation(run(nameless)) is None
    assert namer.operation(run(run(nameless))) is None


def test_a_base_image_without_a_platform_gives_no_names_and_no_error() -> None:
    assert Namer().operation(run(IMAGE, platform="")) is None


def test_a_long_dockerfile_is_no_deeper_than_pythons_recursion_limit() -> None:
    vertex = IMAGE
    for number in range(3000):
        vertex = Vertex(MkdirOp(f"/{number}"), (vertex,))
    assert Namer().operation(vertex) is not None


def test_files_of_a_repository_have_no_key_but_their_content() -> None:
    repository = Vertex(GitOp(parse_git("https://example.com/x.git")))
    found = Namer().operation(repository)
    assert found is not None
    assert found.digests == ()


def test_the_epoch_is_in_what_is_made_at_that_time() -> None:
    vertex = Vertex(MkdirOp("/w"), (IMAGE,))
    names = [namer.operation(vertex) for namer in (Namer(), Namer(5), Namer(6))]
    assert len({name.digests for name in names if name is not None}) == 3
