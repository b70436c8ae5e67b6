"""The web example built by dockerd's BuildKit and by us: the same files, modes, owners, links and configuration.

The steps download packages, so this module stays in the machine's own network namespace; nothing listens and no rule
is made: both builders use the host's network.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.images import Image, Node, differences, images_in
from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "Containerfiles" / "examples" / "web"
# Files whose bytes tell the time or the order of things, for any builder, twice in a row; the rest of them is compared.
RESTLESS = re.compile(
    r"var/log/|.*\.pyc$|var/cache/(ldconfig/aux-cache|debconf/|apt/)|var/lib/dpkg/(status|triggers/)|etc/ssl/certs/java"
    r"|var/lib/apt/extended_states|.*/direct_url\.json$|.*/RECORD$"
)


@pytest.fixture(scope="module")
def net() -> None:
    """The machine's own network: see above."""
    return


@pytest.fixture(scope="module")
def built(work: Path, pybuild: Tool, docker: Tool) -> dict[str, Image]:
    """Both images."""
    subprocess.run(
        [REPOSITORY / "Containerfiles" / "bases", "debian"],
        env={**os.environ, **pybuild.env, "PYBUILD": str(Path(sys.executable).with_name("pybuild"))},
        check=True, capture_output=True,
    )  # fmt: skip
    pybuild("save", "-o", str(work / "base.tar"), "debian:latest")
    docker("load", "-i", str(work / "base.tar"))
    pybuild("build", "--network", "host", "-t", "web:ours", str(EXAMPLE), timeout=400)
    buildkit = Tool(docker.words, {**docker.env, "DOCKER_BUILDKIT": "1"})
    buildkit("build", "--network", "host", "-t", "web:theirs", str(EXAMPLE), timeout=400)
    pybuild("save", "-o", str(work / "ours.tar"), "web:ours")
    docker("save", "-o", str(work / "theirs.tar"), "web:theirs")
    return {who: images_in(work / f"{who}.tar", restless=RESTLESS)[f"web:{who}"] for who in ("ours", "theirs")}


def test_the_same_files_modes_owners_and_links(built: dict[str, Image]) -> None:
    assert differences(*(without_times(built[who]) for who in ("ours", "theirs"))) == {}


def test_the_same_configuration(built: dict[str, Image]) -> None:
    ours, theirs = built["ours"], built["theirs"]
    assert ours.settings == theirs.settings
    assert (ours.config["os"], ours.config["architecture"]) == (theirs.config["os"], theirs.config["architecture"])


def test_the_same_history(built: dict[str, Image]) -> None:
    assert built["ours"].history == built["theirs"].history


def without_times(image: Image) -> dict[str, Node]:
    return {path: replace(node, mtime=0) for path, node in image.tree().items()}
