"""The commands as a user types them, against registries that run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from pybuild.cli.main import main
from registry.client import Credentials
from registry.model import Digest, Reference
from registry.storage import ContentStore
from tests.integration.client.fake import FakeRegistry, Reply, Seen
from tests.integration.client.images import store_image

Command = Callable[..., tuple[str, str]]


@pytest.fixture
def pybuild(root: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str, code: int = 0) -> tuple[str, str]:
        capfd.readouterr()
        assert main(["--root", str(root), *words]) == code
        out, err = capfd.readouterr()
        return out, err

    return run


def test_pull_tells_what_came(pybuild: Command, fake: FakeRegistry) -> None:
    name = f"{fake.domain}/app:1"
    digest = Digest.of(fake.add_image().to_bytes())
    out, err = pybuild("pull", name)
    assert out == f"{name}@{digest}\n"
    assert f"1: Pulling from {fake.domain}/app\n" in err
    assert "Pull complete" in err
    assert err.endswith(f"Digest: {digest}\nStatus: Downloaded newer image for {name}\n")
    out, err = pybuild("pull", name)
    assert out == f"{name}@{digest}\n"
    assert f"Status: Image is up to date for {name}\n" in err


def test_an_address_of_ip_version_6(
    pybuild: Command, new_fake: Callable[..., FakeRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = new_fake("::1")
    fake.add_image()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert pybuild("pull", "-q", f"{fake.domain}/app:1")[0].startswith("[::1]:")


def test_quiet_pull(pybuild: Command, fake: FakeRegistry) -> None:
    fake.add_image()
    assert pybuild("pull", "-q", f"{fake.domain}/app:1")[1] == ""


def test_what_the_operator_of_a_registry_wants_people_to_know(pybuild: Command, fake: FakeRegistry) -> None:
    """distribution-spec, "Warnings"."""
    content = fake.add_image().to_bytes()
    headers = {
        "Content-Type": "application/vnd.oci.image.manifest.v1+json",
        "Docker-Content-Digest": str(Digest.of(content)),
    }
    warning = {"Warning": '299 - "this tag \\"1\\" goes away", 299 - "second", 199 - "not this one"'}
    fake.on("HEAD", "/manifests/", Reply(200, content, headers | warning))
    fake.on("GET", "/manifests/", Reply(200, content, headers | warning))
    _, err = pybuild("pull", f"{fake.domain}/app:1")
    assert f'Warning from {fake.domain}: this tag "1" goes away\n' in err
    assert err.count("second") == 1
    assert "not this one" not in err


def test_push_tells_what_went(pybuild: Command, root: Path, registry_domain: str) -> None:
    name = f"{registry_domain}/team/app:1"
    with ContentStore.open(root) as store:
        digest = Digest.of(store_image(store, name, [b"one"]).to_bytes())
    out, err = pybuild("push", name)
    assert out == f"{name}@{digest}\n"
    assert err.startswith(f"The push refers to repository [{registry_domain}/team/app]\n")
    assert "Pushed" in err
    assert err.endswith(f"1: digest: {digest}\n")


def test_an_error_is_two_lines(pybuild: Command, fake: FakeRegistry) -> None:
    _, err = pybuild("pull", "-q", f"{fake.domain}/nope:1", code=1)
    first, second = err.splitlines()
    assert first == f"error: no such image: {fake.domain}/nope:1"
    assert second.startswith("hint: ")


@pytest.fixture
def guarded(fake: FakeRegistry) -> FakeRegistry:
    def answer(seen: Seen) -> Reply:
        allowed = seen.headers.get("authorization") == Credentials("me", "hunter2").basic()
        return fake._proper(seen) if allowed else Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})

    fake.on("GET", "^/v2/", answer)
    return fake


def test_login_asks_and_does_not_show(guarded: FakeRegistry, root: Path, no_credentials: Path) -> None:
    command = ["-m", "pybuild.cli.main", "--root", str(root), "login", guarded.domain]
    child = pexpect.spawn(sys.executable, command, timeout=20, encoding="utf-8")
    child.expect("Username: ")
    child.sendline("me")
    child.expect("Password: ")
    child.sendline("hunter2")
    child.expect("Login Succeeded")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "hunter2" not in child.before
    assert guarded.domain in json.loads(no_credentials.read_text())["auths"]


def test_login_with_the_password_on_standard_input(
    guarded: FakeRegistry, pybuild: Command, no_credentials: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for password, code in (("wrong\n", 1), ("hunter2\n", 0)):
        (tmp_path / "password").write_text(password)
        with (tmp_path / "password").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            out, err = pybuild("login", "-u", "me", "--password-stdin", f"https://{guarded.domain}/v1/", code=code)
        assert out == ("" if code else "Login Succeeded\n")
        assert no_credentials.exists() == (code == 0)
        assert "wrong" not in err


def test_a_mirror_and_an_insecure_registry_in_the_settings(
    pybuild: Command, new_fake: Callable[..., FakeRegistry], root: Path
) -> None:
    mirror = new_fake()
    mirror.add_image("library/app")
    root.mkdir(parents=True, exist_ok=True)
    (root / "registries.toml").write_text(f'[registry."docker.io"]\nmirrors = ["http://{mirror.domain}"]\n')
    out, _ = pybuild("pull", "-q", "app:1")
    assert out.startswith("docker.io/library/app:1@sha256:")
    with ContentStore.open(root) as store:
        assert store.manifest(Reference.parse("app:1").repository, "1")
