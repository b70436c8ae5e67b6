"""Running the git program: what it may use of this machine, and that it always comes to an end."""

import os
import socket
import threading
from pathlib import Path

import pytest

from builder.ops.gitprogram import Git, GitError, GitTimeout
from builder.plan.gitaddress import parse_git
from builder.solver.scheduler import Canceled, Cancellation
from tests.unit.git.conftest import Cache


@pytest.fixture
def silent(netns: None) -> "socket.socket":
    """A server that takes connections and says nothing."""
    return socket.create_server(("127.0.0.1", 0))


def children() -> set[str]:
    return {
        pid
        for task in os.listdir("/proc/self/task")
        for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
    }


def test_a_silent_server_is_given_up(silent: socket.socket, ram_path: Path) -> None:
    before = children()
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.git"
    with silent, pytest.raises(GitTimeout, match="took too long"):
        Git(ram_path).output("ls-remote", "--", url, timeout=0.3)
    assert children() == before


def test_a_canceled_build_does_not_wait(silent: socket.socket, ram_path: Path) -> None:
    cancellation = Cancellation()
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.git"
    caught: list[Exception] = []

    def ask() -> None:
        try:
            Git(ram_path, cancellation=cancellation).output("ls-remote", "--", url)
        except (Canceled, GitError) as error:
            caught.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    with silent:
        connection, _ = silent.accept()
        with connection:
            cancellation.cancel()
            asking.join(20)
    assert isinstance(caught[0], Canceled)


def test_more_output_than_is_wanted_ends_it(ram_path: Path) -> None:
    with pytest.raises(GitError, match="tells more than"):
        Git(ram_path).output("help", "--all", limit=100)


class TestSsh:
    @pytest.fixture
    def told(self, ram_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An ssh that writes down what it gets."""
        program = ram_path / "bin/ssh"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {ram_path}/words\nenv > {ram_path}/env\n'
            'echo "Host key verification failed." >&2\nexit 255\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return ram_path / "words"

    def test_no_key_of_this_machine_is_offered(
        self, told: Path, cache: Cache, ram_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", "/my/agent")
        monkeypatch.setenv("GIT_SSH_COMMAND", "false")
        with pytest.raises(GitError) as caught:
            cache().resolve(parse_git("git@host.example:team/app.git"))
        assert "ssh-keyscan host.example" in (caught.value.hint or "")
        words = told.read_text().splitlines()
        for option in ("IdentityFile=none", "IdentityAgent=none", "BatchMode=yes", "StrictHostKeyChecking=yes"):
            assert f"-o{option}" in words
        assert words[:2] == ["-F", "/dev/null"]
        assert "SSH_AUTH_SOCK" not in (ram_path / "env").read_text()
        assert words[-2:] == ["git@host.example", "git-upload-pack 'team/app.git'"]

    def test_the_agent_that_the_user_offers_is(self, told: Path, cache: Cache) -> None:
        with pytest.raises(GitError):
            cache(agent="/offered; touch x").resolve(parse_git("ssh://git@host.example:2222/app"))
        words = told.read_text().splitlines()
        assert "-oIdentityAgent=/offered; touch x" in words
        assert words[words.index("-p") + 1] == "2222"
