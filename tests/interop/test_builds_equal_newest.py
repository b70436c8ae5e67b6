"""Dockerfiles with what dockerd 20.10 does not know yet, and the images that BuildKit v0.34.2 made of them.

The answers are recorded (newest/answers.json): settings, history, and each path outside of /bin as [kind, mode, owner,
content, attributes, time or 0 if the build made it, all its names if it has several].
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.interop.build_context import build_bases, make_context
from tests.interop.images import Image, differences, images_in
from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600, func_only=True)]

FOLDER = Path(__file__).with_name("newest")
ANSWERS: dict[str, dict[str, Any]] = json.loads((FOLDER / "answers.json").read_text("utf-8"))
NEW = 1_100_000_000  # files of the context and of the bases are older, what a build makes is newer


@pytest.fixture(scope="module")
def images(work: Path, pybuild: Tool) -> dict[str, Image]:
    build_bases(work / "bases-newest", pybuild)
    context = work / "context-newest"
    context.mkdir()
    make_context(context)
    (work / "secret").write_text("secret\n")
    for name in ANSWERS:
        words = FOLDER / f"{name}.args"
        more = words.read_text("utf-8").replace("SECRET", f"{work}/secret").split() if words.exists() else []
        file = FOLDER / f"{name}.Dockerfile"
        pybuild("build", "--network=none", "-t", f"{name}:newest", "-f", str(file), *more, str(context))
    archive = work / "newest.tar"
    pybuild("save", "-o", str(archive), *(f"{name}:newest" for name in ANSWERS))
    return {name.removesuffix(":newest"): image for name, image in images_in(archive).items()}


def test_each_dockerfile_has_its_answer() -> None:
    assert sorted(ANSWERS) == sorted(file.stem for file in FOLDER.glob("*.Dockerfile"))


@pytest.mark.parametrize("name", ANSWERS)
def test_the_same_image(name: str, images: dict[str, Image]) -> None:
    theirs, ours = ANSWERS[name], images[name]
    assert ours.settings == theirs["settings"]
    assert [list(step) for step in ours.history] == theirs["history"]
    found = differences(tree(ours, theirs["tree"]), theirs["tree"])
    assert not found, "\n".join(f"{path}: {how}" for path, how in found.items())


def tree(image: Image, theirs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Told as the answers are; times where the build did not make them."""
    return {
        path: [
            node.kind, node.mode, list(node.owner), node.content, [list(pair) for pair in node.xattrs],
            0 if node.mtime >= NEW or theirs.get(path, [0] * 7)[5] == 0 else node.mtime,
            list(node.same) if len(node.same) > 1 else [],
        ]
        for path, node in image.tree().items()
        if not path.startswith("bin/")
    }  # fmt: skip
