"""The cases of build_cases.py, built by dockerd's BuildKit and by us: the same files, configuration and history.

Then by us again: all from the cache though every file of the context was touched, and without the cache on one core.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.interop import build_cases
from tests.interop.build_cases import CASES, ODD, Case
from tests.interop.build_context import build_bases, make_context, set_times
from tests.interop.images import Image, Node, differences, images_in
from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600, func_only=True)]

BUILT = [case for case in CASES if not case.odd.fails]
FAILING = [case for case in CASES if case.odd.fails]
NEW = 1_100_000_000  # files of the context and of the bases are older, what a build makes is newer


@dataclass(frozen=True)
class Result:
    """What came of one command line."""

    code: int
    output: str
    image_id: str = ""


@dataclass(frozen=True)
class Builds:
    """All cases, by name."""

    theirs: dict[str, Result]
    ours: dict[str, Result]
    again: dict[str, Result]  # files touched
    afresh: dict[str, Result]  # --no-cache on one core
    their_images: dict[str, Image]
    our_images: dict[str, Image]
    fresh_images: dict[str, Image]


@dataclass(frozen=True)
class Workplace:
    """Where the Dockerfiles and their context lie."""

    work: Path

    def context(self, which: str) -> Path:
        return self.work / f"context-{which}"

    def prepare(self, cases: Sequence[Case]) -> None:
        for which in ("ours", "theirs"):
            self.context(which).mkdir()
            make_context(self.context(which))
        (self.work / "secret").write_text("secret\n")
        for case in cases:
            for which, given in (("ours", case.dockerfile), ("theirs", case.older or case.dockerfile)):
                shutil.copy(given, self.file(case, which))
                if case.ignore:
                    shutil.copy(case.ignore, f"{self.file(case, which)}.dockerignore")

    def file(self, case: Case, which: str) -> Path:
        return self.work / f"{case.name}.{which}"

    def words(self, case: Case, which: str, tag: str) -> list[str]:
        args = [word.replace("SECRET", f"{self.work}/secret") for word in case.odd.args]
        file = str(self.file(case, which))
        return ["build", "--network=none", "-t", f"{case.name}:{tag}", "-f", file, *args, str(self.context(which))]


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest) -> list[Case]:
    """Those of the tests that were asked for; only they are built."""
    asked = {item.callspec.params["case"].name for item in request.session.items if hasattr(item, "callspec")
             and isinstance(item.callspec.params.get("case"), Case)}  # fmt: skip
    return [case for case in CASES if case.name in asked]


@pytest.fixture(scope="module")
def place(work: Path, cases: list[Case]) -> Workplace:
    place = Workplace(work)
    place.prepare(cases)
    return place


@pytest.fixture(scope="module")
def bases(work: Path, pybuild: Tool, docker: Tool) -> None:
    make_bases(work, pybuild, docker)


def make_bases(work: Path, pybuild: Tool, docker: Tool) -> None:
    """The same base images for both."""
    build_bases(work / "bases", pybuild)
    pybuild("save", "-o", str(work / "bases.tar"), *build_cases.BASES)
    docker("load", "-i", str(work / "bases.tar"))


@pytest.fixture(scope="module")
def builds(cases: list[Case], place: Workplace, bases: None, pybuild: Tool, docker: Tool) -> Builds:
    buildkit = Tool(docker.words, {**docker.env, "DOCKER_BUILDKIT": "1"})
    one_core = Tool(("taskset", "-c", "0", *pybuild.words), pybuild.env)

    def with_docker(case: Case) -> Result:
        return result(buildkit.run(*place.words(case, "theirs", "theirs"), "--progress=plain"))

    def with_pybuild(case: Case) -> Result:
        return built(pybuild, case, "ours")

    def without_cache(case: Case) -> Result:
        return built(one_core, case, "fresh", "--no-cache")

    def built(tool: Tool, case: Case, tag: str, *more: str) -> Result:
        name = place.work / f"{case.name}.{tag}.id"
        done = tool.run(*place.words(case, "ours", tag), "--progress=plain", f"--iidfile={name}", *more)
        return result(done, name)

    good = [case for case in cases if not case.odd.fails]
    # Ours one after the other: of two that make one step at the same time, the cache would keep only one's date.
    with ThreadPoolExecutor(1) as ours_pool, ThreadPoolExecutor(2) as theirs_pool:
        their_runs = theirs_pool.map(with_docker, cases)
        ours = by_name(cases, ours_pool.map(with_pybuild, cases))
        touch_all(place.context("ours"))
        again = by_name(good, ours_pool.map(with_pybuild, good))
        set_times(place.context("ours"))
        afresh = by_name(good, ours_pool.map(without_cache, good))
        theirs = by_name(cases, their_runs)

    def images(tool: Tool, tag: str, results: dict[str, Result]) -> dict[str, Image]:
        archive = place.work / f"{tag}.tar"
        names = [f"{name}:{tag}" for name, done in results.items() if not done.code]
        tool("save", "-o", str(archive), *names)
        return {name.removesuffix(f":{tag}"): image for name, image in images_in(archive).items()}

    return Builds(
        theirs, ours, again, afresh,
        images(docker, "theirs", theirs), images(pybuild, "ours", ours), images(pybuild, "fresh", afresh),
    )  # fmt: skip


def result(done: CompletedProcess[str], id_file: Path | None = None) -> Result:
    image_id = id_file.read_text() if id_file and id_file.exists() else ""
    return Result(done.returncode, done.stdout + done.stderr, image_id)


def touch_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.touch()


def by_name(cases: Sequence[Case], results: Iterator[Result]) -> dict[str, Result]:
    return {case.name: done for case, done in zip(cases, results, strict=True)}


def pytest_ids(case: Case) -> str:
    return case.name


def test_each_oddity_belongs_to_a_case() -> None:
    assert sorted(set(ODD) - {case.name for case in CASES}) == []


@pytest.mark.parametrize("case", BUILT, ids=pytest_ids)
def test_the_same_image(case: Case, builds: Builds) -> None:
    for done in (builds.theirs[case.name], builds.ours[case.name]):
        assert done.code == 0, done.output[-3000:]
    found = compared(builds.our_images[case.name], builds.their_images[case.name], history=not case.older)
    unexplained = [
        f"{what}: {how}" for what, how in found.items() if not any(fnmatchcase(what, key) for key in case.odd.differ)
    ]
    assert not unexplained, "\n".join([case.name, *unexplained])
    idle = [pattern for pattern in case.odd.differ if not any(fnmatchcase(what, pattern) for what in found)]
    assert idle == []  # what no longer differs needs no reason


@pytest.mark.parametrize("case", FAILING, ids=pytest_ids)
def test_the_same_refusal(case: Case, builds: Builds) -> None:
    ours = builds.ours[case.name]
    assert (builds.theirs[case.name].code == 0) is ("refusal" in case.odd.differ)
    assert ours.code != 0
    assert re.search(case.odd.fails, ours.output), ours.output[-3000:]
    assert "Traceback" not in ours.output


@pytest.mark.parametrize("case", BUILT, ids=pytest_ids)
def test_cached_though_touched(case: Case, builds: Builds) -> None:
    again = builds.again[case.name]
    steps = dict(re.findall(r"^(#\d+) (\[.*)", again.output, re.MULTILINE))
    done = [f"{steps[number]}: {how}" for number, how in re.findall(r"^(#\d+) DONE(.*)", again.output, re.MULTILINE)]
    assert [step for step in done if "[internal]" not in step and "exporting" not in step] == []
    assert again.image_id == builds.ours[case.name].image_id


@pytest.mark.parametrize("case", BUILT, ids=pytest_ids)
def test_the_same_layers_without_cache_on_one_core(case: Case, builds: Builds) -> None:
    first, fresh = builds.our_images[case.name], builds.fresh_images[case.name]
    assert fresh.diff_ids == first.diff_ids


def compared(ours: Image, theirs: Image, *, history: bool) -> dict[str, str]:
    """All that differs, each with its name."""
    found = {f"tree {path}": how for path, how in differences(nodes(ours, theirs), nodes(theirs, theirs)).items()}
    found |= {f"settings {key}": how for key, how in differences(ours.settings, theirs.settings).items()}
    if ours.config.get("author", "") != theirs.config.get("author", ""):
        found["author"] = f"ours {ours.config.get('author')!r}, theirs {theirs.config.get('author')!r}"
    if history:
        found |= differences(steps(ours), steps(theirs))
    if history and len(ours.layers) != len(theirs.layers):
        found["layers"] = f"ours {len(ours.layers)}, theirs {len(theirs.layers)}"
    return found


def steps(image: Image) -> dict[str, tuple[str, bool]]:
    return {f"history {number}": step for number, step in enumerate(image.history)}


def nodes(image: Image, theirs: Image) -> dict[str, Node]:
    """The files, with times where the build did not make them: BuildKit gives those the time of day."""
    other = theirs.tree()
    return {
        path: replace(node, mtime=0) if path not in other or other[path].mtime >= NEW else node
        for path, node in image.tree().items()
    }
