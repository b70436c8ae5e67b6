"""Archives of images in every pairing with docker 20.10, podman and skopeo, whatever compresses the layers."""

from pathlib import Path

import pytest

from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.slow]

MESSAGE = "made to travel"


@pytest.fixture(scope="module", params=["gzip", "zstd", "uncompressed"])
def image(request: pytest.FixtureRequest, pybuild: Tool, work: Path) -> str:
    context = work / f"context-{request.param}"
    context.mkdir()
    (context / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (context / "busybox").chmod(0o755)
    (context / "note").write_text(MESSAGE)
    (context / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/busybox\nCOPY note /note\nCMD ["/bin/busybox", "cat", "/note"]\n'
    )
    name = f"made/{request.param}:1"
    pybuild("build", "--compression", str(request.param), "-t", name, str(context))
    return name


def test_docker_loads_and_runs_what_we_save(docker: Tool, pybuild: Tool, image: str, tmp_path: Path) -> None:
    pybuild("save", "-o", str(tmp_path / "app.tar"), image)
    docker("load", "-i", str(tmp_path / "app.tar"))
    assert docker("run", "--rm", "--network", "none", image) == MESSAGE
    ours = pybuild("image", "inspect", "-f", "{{.Id}}", image)
    assert docker("image", "inspect", "-f", "{{.Id}}", image) == ours


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_podman_loads_and_runs_what_we_save(podman: Tool, pybuild: Tool, image: str, tmp_path: Path, form: str) -> None:
    name = image.replace("made/", f"{form}/")
    pybuild("tag", image, f"localhost/{name}")
    pybuild("save", "--format", form, "-o", str(tmp_path / "app.tar"), f"localhost/{name}")
    podman("load", "-i", str(tmp_path / "app.tar"))
    assert podman("run", "--rm", "--network", "none", f"localhost/{name}") == MESSAGE


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_we_load_and_run_what_podman_saves(podman: Tool, pybuild: Tool, image: str, tmp_path: Path, form: str) -> None:
    if "zstd" in image and form == "docker-archive":
        form = "oci-archive"  # podman can't write the other one
    name = f"localhost/{image.replace('made/', f'{form}/')}"
    pybuild("tag", image, name)
    pybuild("save", "--format", "oci", "-o", str(tmp_path / "ours.tar"), name)
    podman("load", "-i", str(tmp_path / "ours.tar"))
    podman("save", "--format", form, "-o", str(tmp_path / "theirs.tar"), name)
    pybuild("rmi", name)
    assert f"Loaded image: {name}" in pybuild("load", "-i", str(tmp_path / "theirs.tar"))
    assert pybuild("run", "--rm", "--network", "none", name) == MESSAGE


def test_skopeo_reads_and_writes_our_layouts(skopeo: Tool, pybuild: Tool, image: str, tmp_path: Path) -> None:
    pybuild("save", "--format", "oci", "-o", f"{tmp_path}/ours/", image)
    skopeo("copy", "--preserve-digests", f"oci:{tmp_path}/ours:1", f"oci:{tmp_path}/theirs:copied/by-skopeo:1")
    assert "Loaded image: copied/by-skopeo:1" in pybuild("load", "-i", f"{tmp_path}/theirs")
    assert pybuild("run", "--rm", "--network", "none", "copied/by-skopeo:1") == MESSAGE
