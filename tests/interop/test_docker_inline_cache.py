"""Inline caches between Debian's docker (BuildKit 0.8) and us: an image that one built spares the other the work."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.slow]
DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base
ENV A=b
WORKDIR /w
COPY sub .
RUN cat a > c
COPY sub/a /
"""
STEPS, BEFORE_RUN = 6, 1


@pytest.fixture(scope="module")
def context(work: Path) -> Path:
    made = work / "context"
    (made / "sub").mkdir(parents=True)
    shutil.copy("/bin/busybox", made / "busybox")
    (made / "sub" / "a").write_text("a\n")
    (made / "Dockerfile").write_text(DOCKERFILE)
    return made


@pytest.fixture
def buildkit(docker: Tool) -> Tool:
    return Tool(docker.words, {**docker.env, "DOCKER_BUILDKIT": "1"})


def hits(progress: str) -> int:
    names = dict(re.findall(r"^#(\d+) (\[(?!internal).*)$", progress, re.MULTILINE))
    return sum(number in names for number in re.findall(r"^#(\d+) CACHED", progress, re.MULTILINE))


def test_what_docker_built_spares_us_the_work(buildkit: Tool, pybuild: Tool, registry: str, context: Path) -> None:
    name = f"{registry}/theirs:1"
    arguments = ["--network=none", "-t", name, "--build-arg", "BUILDKIT_INLINE_CACHE=1"]
    buildkit("build", *arguments, str(context))
    buildkit("push", name)
    done = pybuild.run("build", "--progress=plain", "--network=none", "--cache-from", name, str(context))
    assert hits(done.stderr) == STEPS, done.stderr


def test_what_we_built_spares_docker_the_work(buildkit: Tool, pybuild: Tool, registry: str, context: Path) -> None:
    name = f"{registry}/ours:1"
    pybuild("build", "--network=none", "-t", name, "--push", "--cache-to", "type=inline", "--no-cache", str(context))
    buildkit("builder", "prune", "-af")
    done = buildkit.run("build", "--progress=plain", "--network=none", "--cache-from", name, str(context))
    assert hits(done.stderr) == BEFORE_RUN, done.stderr  # its keys of RUN are not those of today's BuildKit


def test_an_image_with_a_cache_is_an_image(pybuild: Tool, registry: str, context: Path) -> None:
    name = f"{registry}/ours:2"
    pybuild("build", "-q", "--network=none", "-t", name, str(context))
    plain = json.loads(pybuild("image", "inspect", name))
    pybuild("build", "-q", "--network=none", "-t", name, "--cache-to", "type=inline", str(context))
    cached = json.loads(pybuild("image", "inspect", name))
    assert plain[0]["RootFS"] == cached[0]["RootFS"]
    assert plain[0]["Id"] != cached[0]["Id"]
