"""Images, archives and files through the daemon: pull, push, load, save, build, cp, volumes."""

import base64
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.conftest import PATIENCE, Api
from tests.integration.run.conftest import Pybuild


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our own registry on loopback; its address."""
    root = tmp_path_factory.mktemp("registry")
    words = Pybuild(root).words("registry", "serve", "--addr", "127.0.0.1:0", "--quiet")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        yield line.rpartition("http://")[2].strip()
        process.terminate()
        process.communicate(timeout=PATIENCE)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


class TestPullAndPush:
    def test_there_and_back(self, api: Api, registry: str) -> None:
        name = f"{registry}/team/app:1"
        api.ok("tag", "busybox", name)
        pushed = api.ok("push", name)
        assert f"The push refers to repository [{registry}/team/app]" in pushed
        assert "Pushed" in pushed
        digest = next(line.split()[2] for line in pushed.splitlines() if line.startswith("1: digest: "))
        api.ok("rmi", name)
        pulled = api.ok("pull", name)
        assert f"Digest: {digest}" in pulled
        assert f"Status: Downloaded newer image for {name}" in pulled
        assert f"Status: Image is up to date for {name}" in api.ok("pull", name)
        api.ok("rmi", name)
        assert api.ok("run", "--rm", "--pull", "always", name, "echo", "ran") == "ran\n"
        api.ok("rmi", name)

    def test_what_run_needs_is_pulled(self, api: Api, registry: str) -> None:
        name = f"{registry}/team/needed:1"
        api.ok("tag", "busybox", name)
        api.ok("push", name)
        api.ok("rmi", name)
        assert api.ok("run", "--rm", name, "echo", "pulled") == "pulled\n"
        api.ok("rmi", name)

    def test_an_image_that_is_not_there_has_a_status(self, api: Api, registry: str) -> None:
        found = api.http.post("/images/create", params={"fromImage": f"{registry}/nosuch", "tag": "1"})
        assert found.status_code == 404
        assert "message" in found.json()

    def test_progress_is_one_object_a_line(self, api: Api, registry: str) -> None:
        name = f"{registry}/team/lines"
        api.ok("tag", "busybox", f"{name}:1")
        found = api.http.post(f"/images/{name}/push", params={"tag": "1"}, headers={"X-Registry-Auth": "bad!"})
        assert found.headers["Content-Type"] == "application/json"
        assert found.text.endswith("\r\n")
        told = lines(found.text)
        aux = told[-1]["aux"]
        assert isinstance(aux, dict)
        assert set(aux) == {"Tag", "Digest", "Size"}
        api.ok("rmi", f"{name}:1")

    def test_credentials_for_another_registry_are_not_sent(self, api: Api) -> None:
        """A server that writes down what it gets, and the client's credentials for somebody else."""
        import http.server

        seen: list[str | None] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("Authorization"))
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815 -- as above

            def log_message(self, *args: object) -> None:
                """Not on the test's output."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            here = f"127.0.0.1:{server.server_port}"
            try:
                for address in ("registry.example.com", here):
                    login = {"username": "user", "password": "secret", "serveraddress": address}
                    auth = base64.urlsafe_b64encode(json.dumps(login).encode()).decode()
                    found = api.http.post(
                        "/images/create", params={"fromImage": f"{here}/x"}, headers={"X-Registry-Auth": auth}
                    )
                    assert found.status_code == 401
                    basic = "Basic " + base64.b64encode(b"user:secret").decode()
                    assert (basic in seen) == (address == here)
            finally:
                server.shutdown()
                thread.join()


class TestArchives:
    def test_of_images_travel(self, api: Api, tmp_path: Path) -> None:
        archive = tmp_path / "image.tar"
        api.ok("tag", "busybox", "saved:1")
        api.ok("save", "-o", str(archive), "saved:1")
        api.ok("rmi", "saved:1")
        assert "Loaded image: saved:1" in api.ok("load", "-i", str(archive))
        assert api.ok("run", "--rm", "saved:1", "echo", "loaded") == "loaded\n"
        api.ok("rmi", "saved:1")

    def test_that_are_none_are_refused(self, api: Api) -> None:
        found = api.http.post("/images/load", content=b"no archive", headers={"Content-Type": "application/x-tar"})
        assert found.status_code == 500 or "error" in found.text
        assert api.http.get("/images/get", params={"names": "nosuch"}).status_code == 404


class TestBuild:
    def test_makes_the_image_that_pybuild_makes(self, api: Api, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text(
            'FROM busybox\nARG WORD\nCOPY file /file\nRUN echo $WORD > /word\nCMD ["cat", "/word"]\n'
        )
        (tmp_path / "file").write_text("content\n")
        told = api.ok("build", "-t", "made:1", "--build-arg", "WORD=spoken", str(tmp_path))
        image = api.ok("inspect", "-f", "{{.Id}}", "made:1").strip()
        assert f"Successfully built {image.removeprefix('sha256:')[:12]}" in told
        assert "Successfully tagged made:1" in told
        assert api.ok("run", "--rm", "made:1") == "spoken\n"
        again = api.ok("build", "-q", "--build-arg", "WORD=spoken", str(tmp_path))
        assert again.strip() == image
        ours = api.pybuild.ok("build", "--build-arg", "WORD=spoken", str(tmp_path)).strip()
        assert ours == image
        api.ok("rmi", "made:1")

    def test_that_fails_tells_where(self, api: Api, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 3\n")
        found = api.docker("build", str(tmp_path))
        assert found.code == 1
        assert "exit code: 3" in found.err
        assert "Dockerfile:2" in found.err

    def test_of_a_dockerfile_with_a_fault_tells_it(self, api: Api) -> None:
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(b"FROM busybox\nNOSUCH x\n")
            archive.addfile(entry, io.BytesIO(b"FROM busybox\nNOSUCH x\n"))
        found = api.http.post("/build", content=context.getvalue(), headers={"Content-Type": "application/x-tar"})
        assert "NOSUCH" in found.text

    def test_by_buildkit_s_session_is_refused_with_a_sentence(self, api: Api) -> None:
        found = api.http.post("/build", params={"version": "2"})
        assert found.status_code == 501
        assert "DOCKER_BUILDKIT=0" in found.json()["message"]


class TestCopy:
    @pytest.mark.parametrize("runs", [False, True])
    def test_both_ways(self, api: Api, tmp_path: Path, *, runs: bool) -> None:
        (tmp_path / "tree/sub").mkdir(parents=True)
        (tmp_path / "tree/file").write_text("one\n")
        (tmp_path / "tree/sub/file").write_text("two\n")
        name = f"copy-{runs}"
        api.ok("create", "--name", name, "-v", "/volume", "busybox", "sleep", "1000")
        if runs:
            api.ok("start", name)
        api.ok("cp", str(tmp_path / "tree"), f"{name}:/tmp")
        api.ok("cp", str(tmp_path / "tree/file"), f"{name}:/volume/renamed")
        api.ok("cp", f"{name}:/tmp/tree", str(tmp_path / "back"))
        api.ok("cp", f"{name}:/volume/renamed", str(tmp_path / "renamed"))
        assert (tmp_path / "back/sub/file").read_text() == "two\n"
        assert (tmp_path / "renamed").read_text() == "one\n"
        if not runs:
            api.ok("start", name)
        assert api.ok("exec", name, "cat", "/tmp/tree/file", "/volume/renamed") == "one\none\n"
        api.ok("rm", "-f", "-v", name)

    def test_tells_what_is_there_in_go_s_words(self, api: Api) -> None:
        made = api.create("true")
        path = f"/containers/{made}/archive"

        def about(where: str) -> dict[str, object]:
            found = api.http.head(path, params={"path": where})
            assert found.status_code == 200
            return json.loads(base64.b64decode(found.headers["X-Docker-Container-Path-Stat"]))  # type: ignore[no-any-return]  # JSON

        directory, file, link = about("/data"), about("/data/seed"), about("/data/deep/link")
        assert (directory["name"], directory["mode"]) == ("data", 1 << 31 | 0o755)
        assert (file["name"], file["size"], file["mode"]) == ("seed", 15, 0o640)
        assert (link["linkTarget"], link["mode"]) == ("/etc/passwd", 1 << 27 | 0o777)
        assert about("/tmp")["mode"] == 1 << 31 | 1 << 20 | 0o777
        missing = api.http.get(path, params={"path": "/nosuch"})
        assert missing.status_code == 404
        assert missing.json()["message"] == f"Could not find the file /nosuch in container {made}"
        assert api.http.put(path, params={"path": "/etc/passwd"}, content=b"").status_code == 400
        api.http.delete(f"/containers/{made}")

    def test_a_link_that_leads_out_leads_nowhere(self, api: Api, tmp_path: Path) -> None:
        """What the container holds decides nothing about the host's files."""
        canary = tmp_path / "canary"
        canary.write_text("the host's")
        made = api.run("sh", "-c", f"ln -s {canary} /out; ln -s / /root/up; sleep 1000")
        api.ok("exec", made, "sh", "-c", "until [ -e /root/up ]; do sleep 0.1; done")
        assert api.docker("cp", f"{made}:/out", str(tmp_path / "stolen")).code == 0  # the link itself, as docker does
        found = api.http.get(f"/containers/{made}/archive", params={"path": "/out/"})
        assert found.status_code == 404
        (tmp_path / "new").write_text("x")
        api.ok("cp", str(tmp_path / "new"), f"{made}:/root/up/../../../../tmp/inside")
        assert api.ok("exec", made, "cat", "/tmp/inside") == "x"
        assert canary.read_text() == "the host's"
        api.ok("rm", "-f", made)

    def test_archives_that_lead_out_are_refused(self, api: Api) -> None:
        made = api.create("true")
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../../escaped"))
        found = api.http.put(f"/containers/{made}/archive", params={"path": "/tmp"}, content=content.getvalue())
        assert found.status_code >= 400
        assert "leads out" in found.json()["message"]
        api.http.delete(f"/containers/{made}")

    def test_a_read_only_container_takes_nothing(self, api: Api) -> None:
        made = api.create("true", HostConfig={"ReadonlyRootfs": True})
        found = api.http.put(f"/containers/{made}/archive", params={"path": "/tmp"}, content=bytes(1024))
        assert (found.status_code, found.json()["message"]) == (403, "container rootfs is marked read-only")
        api.http.delete(f"/containers/{made}")


class TestVolumes:
    def test_live_until_nobody_has_them(self, api: Api) -> None:
        assert api.ok("volume", "create", "--label", "team=web", "data") == "data\n"
        assert api.ok("volume", "ls", "-q", "-f", "label=team=web") == "data\n"
        assert json.loads(api.ok("volume", "inspect", "data"))[0]["Labels"] == {"team": "web"}
        api.ok("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file")
        assert api.ok("run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/file") == "kept\n"
        api.ok("create", "--name", "holder", "-v", "data:/data", "busybox")
        found = api.docker("volume", "rm", "data")
        assert found.code == 1
        assert "volume is in use" in found.err
        api.ok("rm", "holder")
        api.ok("volume", "rm", "data")
        assert "no such volume" in api.docker("volume", "inspect", "data").err.lower()

    def test_both_doors_see_them(self, api: Api) -> None:
        api.pybuild.ok("volume", "create", "ours")
        assert "ours" in api.ok("volume", "ls", "-q").split()
        api.pybuild.ok("volume", "rm", "ours")
        assert "ours" not in api.ok("volume", "ls", "-q").split()
