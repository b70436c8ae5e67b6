"""The web example built by dockerd's BuildKit and by us: the same files, modes, owners, links and configuration.

The steps download packages, so this module stays in the machine's own network namespace; nothing listens and no rule
is made: both builders use the host's network.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

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
def built(work: Path, pybuild: Tool, docker: Tool) -> dict[str, Path]:
    """Both images as docker archives below `work`."""
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
    return {"ours": work / "ours.tar", "theirs": work / "theirs.tar"}


def config_of(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest.json"))
        found: dict[str, Any] = json.load(tar.extractfile(manifest[0]["Config"]) or pytest.fail("no config"))
        return found


def tree_of(archive: Path) -> dict[str, tuple[Any, ...]]:
    """Each path of the flattened image with kind, mode, owner, link and content."""
    found: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest.json"))
        for name in manifest[0]["Layers"]:
            with tarfile.open(fileobj=tar.extractfile(name)) as layer:
                lay_over(found, layer)
    return found


def lay_over(tree: dict[str, tuple[Any, ...]], layer: tarfile.TarFile) -> None:
    """Apply one layer, whiteouts first (image-spec layer.md)."""
    members = [(member, os.path.normpath(member.name).lstrip("/")) for member in layer]
    for _, path in members:
        folder, name = os.path.split(path)
        if name == ".wh..wh..opq":
            hidden = [old for old in tree if old.startswith(f"{folder}/")]
        elif name.startswith(".wh."):
            gone = os.path.join(folder, name.removeprefix(".wh."))
            hidden = [old for old in tree if old == gone or old.startswith(f"{gone}/")]
        else:
            continue
        for old in hidden:
            del tree[old]
    for member, path in members:
        if os.path.basename(path).startswith(".wh.") or path == ".":
            continue
        if member.islnk():
            tree[path] = tree[os.path.normpath(member.linkname).lstrip("/")]
            continue
        content = layer.extractfile(member) if member.isfile() and not RESTLESS.match(path) else None
        digest = hashlib.sha256(content.read()).hexdigest() if content else None
        capability = member.pax_headers.get("SCHILY.xattr.security.capability")
        tree[path] = (
            member.type,
            oct(member.mode & 0o7777),
            member.uid,
            member.gid,
            member.linkname,
            capability,
            digest,
        )


def test_the_same_files_modes_owners_and_links(built: dict[str, Path]) -> None:
    ours, theirs = tree_of(built["ours"]), tree_of(built["theirs"])
    assert sorted(set(theirs) - set(ours)) == []
    assert sorted(set(ours) - set(theirs)) == []
    different = [f"{path}: {ours[path]} {theirs[path]}" for path in sorted(ours) if ours[path] != theirs[path]]
    assert different == []


def test_the_same_configuration(built: dict[str, Path]) -> None:
    ours, theirs = config_of(built["ours"]), config_of(built["theirs"])
    wanted = {key: value for key, value in theirs["config"].items() if value not in (None, "", False, [], {})}
    wanted = {key: value for key, value in wanted.items() if key not in {"Hostname", "Image", "ArgsEscaped"}}
    assert {key: value for key, value in ours["config"].items() if key != "ArgsEscaped"} == wanted
    assert (ours["os"], ours["architecture"]) == (theirs["os"], theirs["architecture"])


def test_the_same_history(built: dict[str, Path]) -> None:
    def steps(config: dict[str, Any]) -> list[tuple[str, bool]]:
        # Debian's dockerd holds an older BuildKit: it wrote ports as a Go map, and knew no start interval.
        texts = [re.sub(r"map\[(\S+):\{\}\]", r"[\1]", step.get("created_by", "")) for step in config["history"]]
        texts = [re.sub(r"""(] "\w+" "\w+" "\w+") "\w+" ('.*'})$""", r"\1 \2", text) for text in texts]
        return [(text, step.get("empty_layer", False)) for text, step in zip(texts, config["history"], strict=True)]

    assert steps(config_of(built["ours"])) == steps(config_of(built["theirs"]))
