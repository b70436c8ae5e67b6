"""Random builds by dockerd's BuildKit and by us. For each of them:

1. the same files, 2. the same configuration and history, or both refuse; then by us alone, each the same image:
3. without the cache, 4. again, all from the cache, 5. again after every file was touched; and after one was edited
6. what is done again is what BuildKit does again, or less, and gives what a build without the cache gives.

FUZZ_BUILDS=FIRST-LAST names the seeds; `make fuzz-diff` is the long form. What differs is shrunk into FUZZ_FOUND.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.build import Builder, BuildRequest
from builder.errors import BuilderError
from builder.progress import StepDone, StepStarted
from registry.model import Reference
from registry.storage import ContentStore
from tests.fuzz.random_builds import RandomBuild, random_build, smaller
from tests.interop.build_context import set_times
from tests.interop.images import Image, images_in
from tests.interop.peers import Tool
from tests.interop.test_builds_equal_buildkits import compared, make_bases, touch_all

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(3600)]

_FIRST, _, _LAST = os.environ.get("FUZZ_BUILDS", "1-8").partition("-")
SEEDS = range(int(_FIRST), int(_LAST or _FIRST) + 1)
# The arguments of the stage below were not told with a RUN; now they are (dockerfile2llb/convert.go, init).
_INHERITED = re.compile(r"ours \(.RUN (\|\d+ .*)(?P<step>/bin/sh .*), theirs \(.RUN (\|\d+ .*)?(?P=step)$")
_VERTEX = re.compile(r"^(#\d+) \[(.*?)\] ", re.MULTILINE)
_ENDED = re.compile(r"^(#\d+) (CACHED|DONE)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """One build by one of the two: its image's digest, or why there is none; and the steps that were done."""

    digest: str
    refusal: str = ""
    done: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Compared:
    """All that came of one seed."""

    build: RandomBuild
    theirs: Outcome
    ours: Outcome
    fresh: Outcome
    again: Outcome
    touched: Outcome
    edited: Outcome
    edited_fresh: Outcome
    their_edited: Outcome
    differences: dict[str, str]

    def faults(self) -> list[str]:
        """What does not hold."""
        if self.theirs.refusal or self.ours.refusal:
            both = bool(self.theirs.refusal) == bool(self.ours.refusal)
            return (
                [] if both else [f"ours: {self.ours.refusal or 'built'}", f"theirs: {self.theirs.refusal or 'built'}"]
            )
        found = [f"{what}: {how}" for what, how in self.differences.items()]
        for what in ("fresh", "again", "touched"):
            outcome: Outcome = getattr(self, what)
            if (outcome.digest, outcome.refusal) != (self.ours.digest, ""):
                found.append(f"{what}: another image, or none: {outcome.refusal}")
        for what in ("again", "touched"):
            found += [f"{what}: done again: {step}" for step in sorted(getattr(self, what).done)]
        return found + self._after_the_edit()

    def _after_the_edit(self) -> list[str]:
        found = []
        if self.edited.digest != self.edited_fresh.digest:
            found.append(f"edited: {self.edited} is not what a build without cache gives: {self.edited_fresh}")
        if not self.their_edited.refusal:
            more = self._steps(self.edited) - self._steps(self.their_edited)
            if "ONBUILD " in self.build.dockerfile and len(self.edited.done) <= len(self.their_edited.done):
                more = set()  # the two number triggers differently
            found += [f"edited: done again: {step}" for step in sorted(more)]
        return found

    def _steps(self, outcome: Outcome) -> set[str]:
        """Of one stage BuildKit tells the name only if an image is copied from."""
        alone = sum(line.startswith("FROM ") for line in self.build.lines) == 1
        return {step.rpartition(" ")[2] if alone else step for step in outcome.done}


@dataclass(frozen=True)
class Bench:
    """Where random builds are built."""

    work: Path
    store: ContentStore
    docker: Tool
    pybuild: Tool

    def compare(self, build: RandomBuild, name: str) -> Compared:
        (place := self.work / name).mkdir()
        for which in ("ours", "theirs"):
            (place / which).mkdir()
            build.write_context(place / which)
        (place / "Dockerfile").write_text(build.dockerfile)
        (place / "Dockerfile.dockerignore").write_text("".join(f"{rule}\n" for rule in build.ignore))
        theirs = self._with_docker(build, place, f"{name}:theirs")
        ours = self._with_pybuild(build, place, f"{name}:ours")
        fresh = self._with_pybuild(build, place, no_cache=True)
        again = self._with_pybuild(build, place)
        touch_all(place / "ours")
        touched = self._with_pybuild(build, place)
        edited = edited_fresh = their_edited = Outcome("")
        if build.edit and not ours.refusal:
            for which in ("ours", "theirs"):
                set_times(place / which)  # a cached layer has the times of when it was made
                build.make_edit(place / which)
            edited = self._with_pybuild(build, place)
            edited_fresh = self._with_pybuild(build, place, no_cache=True)
            their_edited = self._with_docker(build, place, f"{name}:edited")
        differences = {} if theirs.refusal or ours.refusal else self._differences(place, name)
        return Compared(build, theirs, ours, fresh, again, touched, edited, edited_fresh, their_edited, differences)

    def _differences(self, place: Path, name: str) -> dict[str, str]:
        images: dict[str, Image] = {}
        for tool, tag in ((self.docker, f"{name}:theirs"), (self.pybuild, f"{name}:ours")):
            tool("save", "-o", str(place / "image.tar"), tag)
            images |= images_in(place / "image.tar")
        found = compared(images[f"{name}:ours"], images[f"{name}:theirs"], history=True)
        return {what: how for what, how in found.items() if not (what.startswith("history ") and _INHERITED.match(how))}

    def _with_docker(self, build: RandomBuild, place: Path, tag: str) -> Outcome:
        args = [f"--build-arg={key}={value}" for key, value in build.args]
        done = self.docker.run("build", "--network=none", "--progress=plain", "-t", tag, *args, "-f",
                               f"{place}/Dockerfile", f"{place}/theirs")  # fmt: skip
        if done.returncode:
            return Outcome("", done.stderr[-1000:] or "no words")
        names = dict(_VERTEX.findall(done.stderr))
        ended = {names[number] for number, how in _ENDED.findall(done.stderr) if how == "DONE" and number in names}
        return Outcome(tag, done=frozenset(ended))

    def _with_pybuild(self, build: RandomBuild, place: Path, tag: str = "", *, no_cache: bool = False) -> Outcome:
        names: dict[int, str] = {}
        done: set[str] = set()

        def hear(event: object) -> None:
            if isinstance(event, StepStarted) and (match := re.match(r"\[(.*?)\] ", event.name)):
                names[event.step] = match[1]
            elif isinstance(event, StepDone) and not event.cached and event.step in names:
                done.add(names[event.step])

        request = BuildRequest(
            context=str(place / "ours"), dockerfile=str(place / "Dockerfile"), build_args=dict(build.args),
            tags=(Reference.parse(tag).tagged,) if tag else (), network="none", no_cache=no_cache,
            epoch=1_100_000_000,
        )  # fmt: skip
        try:
            result = Builder(self.work / "root", self.store).build(request, hear)
        except BuilderError as error:
            return Outcome("", str(error) or "no words", frozenset(done))
        return Outcome(str(result.digest), done=frozenset(done))


@pytest.fixture(scope="module")
def bench(work: Path, pybuild: Tool, docker: Tool) -> Iterator[Bench]:
    make_bases(work, pybuild, docker)
    with ContentStore.open(work / "root") as store:
        yield Bench(work, store, Tool(docker.words, {**docker.env, "DOCKER_BUILDKIT": "1"}), pybuild)


@pytest.fixture(scope="module")
def all_compared(bench: Bench) -> dict[int, Compared]:
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda seed: bench.compare(random_build(seed), f"seed{seed}"), SEEDS)
        return dict(zip(SEEDS, found, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_build(seed: int, all_compared: dict[int, Compared], bench: Bench) -> None:
    compared = all_compared[seed]
    faults = compared.faults()
    if faults and (kept := os.environ.get("FUZZ_FOUND")):
        _keep(Path(kept), _shrunk(compared, bench))
    assert faults == [], compared.build.dockerfile


def _shrunk(compared: Compared, bench: Bench) -> Compared:
    """Leave out what is not needed for a fault of the same kind."""
    kinds = {_kind(fault) for fault in compared.faults()}
    tries = 0
    again = True
    while again and tries < 60:
        again = False
        for build in smaller(compared.build):
            tries += 1
            with suppress(OSError):
                found = bench.compare(build, f"seed{build.seed}-{tries}")
                if kinds & {_kind(fault) for fault in found.faults()}:
                    compared, again = found, True
                    break
            if tries >= 60:
                break
    return compared


def _kind(fault: str) -> str:
    return " ".join(fault.split()[:1])


def _keep(folder: Path, compared: Compared) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    build = compared.build
    text = [build.dockerfile, f"ignore: {build.ignore}", f"args: {build.args}", f"edit: {build.edit}"]
    text += [str(node) for node in build.context]
    text += ["", *compared.faults()]
    (folder / f"build-{build.seed}").write_text("\n".join(text) + "\n")
