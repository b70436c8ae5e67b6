"""Logged in with one tool, known to the others: docker, podman and pybuild share what they keep."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peers import Tool, serving

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.slow]

HTPASSWD = "me:$2b$04$.xiDTW9ausgDR62mTprRz.g9OvQSl29ehNmSUnMM5/eh.i01mmgum\n"  # `secret`
DOMAIN = "127.0.0.1:5002"


@pytest.fixture(scope="module")
def guarded(work: Path, net: None) -> Iterator[str]:
    """Docker's registry, with a password."""
    (work / "htpasswd").write_text(HTPASSWD)
    config = work / "guarded.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {work}/guarded\nhttp:\n  addr: {DOMAIN}\n"
        f"auth:\n  htpasswd:\n    realm: x\n    path: {work}/htpasswd\n"
    )
    with serving(["docker-registry", "serve", str(config)], work / "guarded.log", f"http://{DOMAIN}/"):
        yield DOMAIN


@pytest.fixture(scope="module")
def image(pybuild: Tool, work: Path, guarded: str) -> str:
    context = work / "credentials"
    context.mkdir()
    (context / "note").write_text("x")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY note /note\n")
    pybuild("build", "-t", f"{guarded}/app:1", str(context))
    return f"{guarded}/app:1"


@pytest.fixture
def keeping(pybuild: Tool, docker: Tool, tmp_path: Path) -> tuple[Tool, Tool]:
    """pybuild and docker with one config.json of this test's own."""
    home = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    return Tool(pybuild.words, {**pybuild.env, **home}), Tool(docker.words, {**docker.env, **home})


def test_nobody_knows_us_before(keeping: tuple[Tool, Tool], image: str) -> None:
    pybuild, _ = keeping
    found = pybuild.run("push", image)
    assert found.returncode == 1
    assert f"pybuild login {DOMAIN}" in found.stderr


def test_docker_login_serves_us(keeping: tuple[Tool, Tool], image: str) -> None:
    pybuild, docker = keeping
    docker("login", "-u", "me", "-p", "secret", DOMAIN)
    pybuild("push", image)
    pybuild("pull", image)


def test_our_login_serves_docker(keeping: tuple[Tool, Tool], image: str) -> None:
    pybuild, docker = keeping
    pybuild("login", "-u", "me", "-p", "secret", DOMAIN)
    pybuild("push", image)
    docker("pull", image)
    pybuild("logout", DOMAIN)
    assert docker.run("pull", image.replace("app", "other")).returncode != 0


def test_podman_s_login_serves_us(podman: Tool, keeping: tuple[Tool, Tool], image: str, tmp_path: Path) -> None:
    pybuild, _ = keeping
    auth = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    Tool(podman.words, {**podman.env, **auth})("login", "--tls-verify=false", "-u", "me", "-p", "secret", DOMAIN)
    Tool(pybuild.words, {**pybuild.env, **auth})("push", image)
