"""An image made by anybody is pulled and run by everybody, through either registry."""

from pathlib import Path

import pytest

from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.slow]

MESSAGE = "made to travel"
DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
COPY link /sh
ENV WHO=world
LABEL made.by=test
WORKDIR /data
COPY --chown=7:8 note .
ENTRYPOINT ["/bin/busybox", "cat"]
CMD ["/data/note"]
"""


@pytest.fixture(scope="module")
def context(work: Path) -> Path:
    made = work / "context"
    made.mkdir()
    (made / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (made / "busybox").chmod(0o755)
    (made / "link").write_text("x")
    (made / "note").write_text(MESSAGE)
    (made / "Dockerfile").write_text(DOCKERFILE)
    return made


@pytest.fixture(scope="module", params=["registry", "docker_registry"])
def home(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def image(pybuild: Tool, context: Path, home: str) -> str:
    """Built and pushed by us."""
    name = f"{home}/ours/app:1"
    pybuild("build", "-t", name, str(context))
    pybuild("push", name)
    return name


class TestOurImages:
    """Built and pushed by pybuild."""

    def test_run_by_docker(self, docker: Tool, image: str) -> None:
        docker("pull", image)
        assert docker("run", "--rm", "--network", "none", image) == MESSAGE

    def test_run_by_podman(self, podman: Tool, image: str) -> None:
        podman("pull", "--tls-verify=false", image)
        assert podman("run", "--rm", "--network", "none", image) == MESSAGE

    def test_copied_by_skopeo_byte_for_byte(self, skopeo: Tool, image: str, tmp_path: Path) -> None:
        skopeo("copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{image}", f"oci:{tmp_path}/layout:1")
        assert (tmp_path / "layout" / "index.json").exists()

    def test_pulled_and_unpacked_by_containerd(self, ctr: Tool, image: str) -> None:
        ctr("images", "pull", "--plain-http", image)
        assert image in ctr("images", "ls", "-q").split()

    def test_run_again_after_the_local_copy_is_gone(self, pybuild: Tool, image: str) -> None:
        pybuild("rmi", image)
        assert pybuild("run", "--rm", "--network", "none", image) == MESSAGE


class TestTheirImages:
    """Built and pushed by a peer to a registry, pulled and run by pybuild."""

    def test_built_by_docker(self, docker: Tool, pybuild: Tool, context: Path, home: str) -> None:
        name = f"{home}/theirs/docker:1"
        docker("build", "-q", "-t", name, str(context))
        docker("push", name)
        assert pybuild("run", "--rm", "--network", "none", name) == MESSAGE

    def test_built_by_podman(self, podman: Tool, pybuild: Tool, context: Path, home: str) -> None:
        name = f"{home}/theirs/podman:1"
        podman("build", "-q", "--isolation=chroot", "-t", name, str(context))
        podman("push", "--tls-verify=false", name)
        assert pybuild("run", "--rm", "--network", "none", name) == MESSAGE

    def test_built_by_buildah(self, buildah: Tool, pybuild: Tool, context: Path, home: str) -> None:
        name = f"{home}/theirs/buildah:1"
        buildah("build", "-q", "--format", "docker", "-t", name, str(context))
        buildah("push", "--tls-verify=false", name)
        assert pybuild("run", "--rm", "--network", "none", name) == MESSAGE

    def test_pushed_by_containerd(self, ctr: Tool, pybuild: Tool, image: str, home: str) -> None:
        name = f"{home}/theirs/containerd:1"
        if image not in ctr("images", "ls", "-q").split():
            pybuild("push", image)
            ctr("images", "pull", "--plain-http", image)
        ctr("images", "tag", "--force", image, name)
        ctr("images", "push", "--plain-http", name)
        assert pybuild("run", "--rm", "--network", "none", name) == MESSAGE

    def test_copied_by_skopeo_from_our_layout(
        self, skopeo: Tool, pybuild: Tool, context: Path, home: str, tmp_path: Path
    ) -> None:
        layout = tmp_path / "layout"
        pybuild("build", "-o", f"type=oci,dest={layout}.tar,name=app:1", str(context))
        name = f"{home}/theirs/skopeo:1"
        skopeo("copy", "--dest-tls-verify=false", f"oci-archive:{layout}.tar", f"docker://{name}")
        assert pybuild("run", "--rm", "--network", "none", name) == MESSAGE


class TestArchives:
    """docker save and docker load, in both directions."""

    def test_docker_loads_what_we_save(self, docker: Tool, pybuild: Tool, context: Path, tmp_path: Path) -> None:
        pybuild("build", "-t", "archive:ours", str(context))
        pybuild("save", "-o", str(tmp_path / "ours.tar"), "archive:ours")
        docker("load", "-i", str(tmp_path / "ours.tar"))
        assert docker("run", "--rm", "--network", "none", "archive:ours") == MESSAGE

    def test_we_load_what_docker_saves(self, docker: Tool, pybuild: Tool, context: Path, tmp_path: Path) -> None:
        docker("build", "-q", "-t", "archive:theirs", str(context))
        docker("save", "-o", str(tmp_path / "theirs.tar"), "archive:theirs")
        pybuild("load", "-i", str(tmp_path / "theirs.tar"))
        assert pybuild("run", "--rm", "--network", "none", "archive:theirs") == MESSAGE

    def test_podman_loads_our_oci_archive(self, podman: Tool, pybuild: Tool, context: Path, tmp_path: Path) -> None:
        pybuild("build", "-o", f"type=oci,dest={tmp_path}/app.tar,name=archive:oci", str(context))
        podman("load", "-i", str(tmp_path / "app.tar"))
        assert "archive" in podman("images")
