"""Rules of the language that only a build shows: agents, namespaces, devices, entitlements, downloads."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.errors import BuilderError, BuildFailed
from builder.progress import Notice
from registry.model import Digest
from tests.gitserver import Hub

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root
PATIENCE = 60


@pytest.fixture
def agent(ram_path: Path) -> Iterator[str]:
    """A real agent with one key; its socket."""
    place = ram_path / "agent"
    environment = {"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": str(place)}
    key = ram_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "of the test", "-f", key], check=True)
    with subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL) as running:
        try:
            for _ in range(PATIENCE * 20):
                added = subprocess.run(["ssh-add", "-q", key], env=environment, capture_output=True, check=False)
                if added.returncode == 0:
                    break
                threading.Event().wait(0.05)
            yield str(place)
        finally:
            running.terminate()


@pytest.fixture
def ssh(bench: "Bench", base: str) -> str:
    """The beginning of a Dockerfile: busybox, ssh-add and what that needs, and a user."""
    told = subprocess.run(["ldd", "/usr/bin/ssh-add"], capture_output=True, text=True, check=True).stdout
    files = ["/usr/bin/ssh-add", *(word for word in told.split() if word.startswith("/"))]
    for file in files:
        place = bench.context / "ssh" / file.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    (bench.context / "ssh/etc").mkdir()
    (bench.context / "ssh/etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n")
    return base + "FROM base AS ssh\nCOPY ssh /\n"


class TestAgents:
    def test_keys_of_the_users_agent_are_there_in_the_step_only(self, bench: "Bench", ssh: str, agent: str) -> None:
        text = ssh + "FROM ssh\nRUN --mount=type=ssh ssh-add -l && ssh-add -L | wc -l\nRUN test ! -e /run/buildkit\n"
        built = bench.build(text, agents={"default": agent})
        assert "of the test (ED25519)" in built.output
        assert [name for name in built.names(-2) + built.names() if name != "etc"] == []

    def test_its_socket_has_the_mode_and_owner_that_the_step_asks_for(
        self, bench: "Bench", ssh: str, agent: str
    ) -> None:
        before = os.stat(agent)
        mount = "--mount=type=ssh,id=mine,target=/a/socket,mode=0620,uid=7,gid=8"
        text = ssh + f"FROM ssh\nUSER app\nRUN {mount} stat -c '%a %u %g' $SSH_AUTH_SOCK && ssh-add -l\n"
        built = bench.build(text, agents={"mine": agent})
        assert "620 7 8" in built.output.splitlines()
        assert "of the test (ED25519)" in built.output
        assert (os.stat(agent).st_uid, os.stat(agent).st_mode) == (before.st_uid, before.st_mode)

    def test_another_user_can_not_reach_it(self, bench: "Bench", ssh: str, agent: str) -> None:
        text = ssh + "FROM ssh\nUSER app\nRUN --mount=type=ssh ! ssh-add -l\n"
        assert "of the test" not in bench.build(text, agents={"default": agent}).output

    def test_many_connections_one_after_the_other(self, bench: "Bench", ssh: str, agent: str) -> None:
        script = "for i in 1 2 3 4 5 6 7 8; do ssh-add -l & done; wait"
        built = bench.build(ssh + f"FROM ssh\nRUN --mount=type=ssh {script}\n", agents={"default": agent})
        assert built.output.count("(ED25519)") == 8

    def test_nothing_is_left(self, bench: "Bench", ssh: str, agent: str) -> None:
        bench.build(ssh)
        before, threads = bench.leftovers(), threading.active_count()
        bench.build(ssh + "FROM ssh\nRUN --mount=type=ssh ssh-add -l\n", agents={"default": agent})
        assert (bench.leftovers(), threading.active_count()) == (before, threads)

    def test_without_one_nothing_is_mounted_unless_it_is_required(self, bench: "Bench", base: str) -> None:
        bench.build(base + 'FROM base\nRUN --mount=type=ssh test -z "$SSH_AUTH_SOCK"\n')
        with pytest.raises(BuildFailed, match="no SSH agent 'x' was given"):
            bench.build(base + "FROM base\nRUN --mount=type=ssh,id=x,required true\n")

    def test_one_that_has_gone_is_told(self, bench: "Bench", base: str, ram_path: Path) -> None:
        with pytest.raises(BuildFailed, match="there is no SSH agent at"):
            bench.build(base + "FROM base\nRUN --mount=type=ssh true\n", agents={"default": str(ram_path / "gone")})


class TestDirectives:
    @pytest.mark.parametrize("image", ["docker/dockerfile:1", "example.com/another/frontend"])
    def test_a_syntax_image_is_not_fetched_and_that_is_told(self, bench: "Bench", image: str) -> None:
        built = bench.build(f"# syntax={image}\nFROM scratch\nCOPY f /\n", files={"f": ""})
        assert [event.text for event in built.events if isinstance(event, Notice)] == [
            f"syntax {image}: the language is built in, no image is fetched for it"
        ]


class TestCaches:
    def test_a_namespace_keeps_caches_of_one_id_apart(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nARG STEP\nRUN --mount=type=cache,id=one,target=/c ls /c; touch /c/$STEP\n"
        for space, step in (("a", "first"), ("b", "second"), ("a", "third")):
            built = bench.build(text, build_args={"BUILDKIT_CACHE_MOUNT_NS": space, "STEP": step})
            assert ("first" in built.output.splitlines()) is (step == "third")
            assert "second" not in built.output.splitlines()


class TestNetwork:
    def test_that_of_the_host_needs_to_be_allowed(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nRUN --network=host readlink /proc/self/ns/net\n"
        with pytest.raises(BuilderError, match=r"network\.host is not allowed"):
            bench.build(text)
        built = bench.build(text, allow=frozenset({"network.host"}))
        assert os.readlink("/proc/self/ns/net") in built.output.splitlines()

    def test_the_name_of_the_host_may_be_another(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nRUN hostname\n"
        assert "other" in bench.build(text, build_args={"BUILDKIT_SANDBOX_HOSTNAME": "other"}).output.splitlines()


class TestDevices:
    def test_a_step_without_a_device_says_so(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nRUN --device=vendor.com/gpu=all true\n")
        assert "warning: there is no device vendor.com/gpu=all: the step runs without it" in built.output


class TestAddFromTheWeb:
    def test_the_name_comes_from_the_path_and_owner_and_mode_from_the_flags(self, bench: "Bench", hub: Hub) -> None:
        (hub.root / "dir").mkdir(parents=True)
        (hub.root / "dir/f.txt").write_text("x")
        url = f"http://127.0.0.1:{hub.port}/dir/f.txt?v=1"
        built = bench.build(f"FROM scratch\nADD --chmod=640 --chown=5:6 {url} /d/\n")
        entry = {entry.name: entry for entry in built.layer(-1)}["d/f.txt"]
        assert (entry.mode, entry.uid, entry.gid) == (0o640, 5, 6)

    def test_an_archive_is_unpacked_if_asked_for(self, bench: "Bench", hub: Hub) -> None:
        import io
        import tarfile

        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as packed:
            entry = tarfile.TarInfo("inside")
            entry.size = 1
            packed.addfile(entry, io.BytesIO(b"x"))
        hub.root.mkdir(exist_ok=True)
        (hub.root / "a.tgz").write_bytes(content.getvalue())
        url = f"http://127.0.0.1:{hub.port}/a.tgz"
        checksum = Digest.of(content.getvalue())
        text = f"FROM scratch\nADD --unpack --checksum={checksum} {url} /u/\nADD {url} /p/\n"
        built = bench.build(text)
        assert [built.names(0), built.names(1)] == [["u", "u/inside"], ["p", "p/a.tgz"]]


class TestOnbuild:
    def test_triggers_of_a_stage_with_all_they_can_have(self, bench: "Bench", base: str) -> None:
        text = (
            base + "FROM base AS parent\nONBUILD ARG WHO=arg\nONBUILD COPY <<E /t/f\n$WHO $LATE\nE\n"
            "ONBUILD RUN <<E\necho script >/t/s\nE\n"
            "ONBUILD COPY --from=extra x /t/x\nONBUILD RUN --mount=from=extra,target=/e cp /e/x /t/m\n"
            "FROM scratch AS extra\nCOPY x /x\n"
            "FROM parent AS child\nENV LATE=late\nFROM child\nRUN echo none\n"
        )
        built = bench.build(text, files={"x": "X"})
        assert [built.read(f"t/{name}") for name in "fsxm"] == [b"arg \n", b"script\n", b"X", b"X"]
