"""Credentials: found where docker and podman keep them, kept where they will be found."""

import base64
import json
import stat
from pathlib import Path

import pytest

from registry.client.credentials import HUB_KEY, CredentialFiles, Credentials, CredentialsError

ME = Credentials("me", "pass:word")


def auth(text: str = "me:pass:word") -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def files(tmp_path: Path) -> CredentialFiles:
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run"), "PATH": str(tmp_path / "bin")}
    return CredentialFiles(environment)


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    (tmp_path / ".docker").mkdir()
    return tmp_path / ".docker" / "config.json"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that keeps each secret in a file; its memory is the result."""
    memory = tmp_path / "memory"
    memory.mkdir()
    program = tmp_path / "bin" / "docker-credential-files"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
read -r line
case $1 in
store) echo "$line" > {memory}/stored ;;
get) case $line in known.example|https://index.docker.io/v1/) echo '{{"Username":"me","Secret":"pass:word"}}' ;;
     token.example) echo '{{"Username":"<token>","Secret":"refresh"}}' ;;
     broken.example) echo garbage ;;
     locked.example) echo 'the key ring is locked'; exit 1 ;;
     *) echo 'credentials not found in native keychain'; exit 1 ;; esac ;;
erase) echo "$line" > {memory}/erased ;;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return memory


class TestFinding:
    @pytest.mark.parametrize(
        ("domain", "key"),
        [
            ("example.com", "example.com"),
            ("example.com:5000", "example.com:5000"),
            ("example.com", "https://example.com"),
            ("example.com", "https://example.com/v1/"),
            ("docker.io", HUB_KEY),
            ("docker.io", "docker.io"),
            ("docker.io", "index.docker.io"),
        ],
    )
    def test_all_the_ways_in_which_a_registry_has_been_written(
        self, files: CredentialFiles, docker: Path, domain: str, key: str
    ) -> None:
        docker.write_text(json.dumps({"auths": {key: auth()}}))
        assert files.find(domain) == ME

    def test_another_registry_gets_nothing(self, files: CredentialFiles, docker: Path) -> None:
        docker.write_text(json.dumps({"auths": {"example.com": auth()}}))
        assert files.find("example.com:5000") is None
        assert files.find("evil-example.com") is None
        assert files.find("docker.io") is None

    @pytest.mark.parametrize("place", ["run/containers/auth.json", ".config/containers/auth.json"])
    def test_podman_s_files(self, files: CredentialFiles, tmp_path: Path, place: str) -> None:
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(json.dumps({"auths": {"example.com": auth()}}))
        assert files.find("example.com") == ME

    def test_a_part_of_a_registry_outranks_the_whole(self, files: CredentialFiles, docker: Path) -> None:
        """containers-auth.json(5)."""
        docker.write_text(json.dumps({"auths": {"example.com": auth("all:x"), "example.com/team": auth()}}))
        assert files.find("example.com", "team/app") == ME
        assert files.find("example.com", "other/app") == Credentials("all", "x")

    def test_registry_auth_file_comes_first(self, tmp_path: Path, docker: Path) -> None:
        docker.write_text(json.dumps({"auths": {"example.com": auth("docker:x")}}))
        (tmp_path / "mine.json").write_text(json.dumps({"auths": {"example.com": auth()}}))
        environment = {"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "mine.json")}
        assert CredentialFiles(environment).find("example.com") == ME

    def test_an_identity_token(self, files: CredentialFiles, docker: Path) -> None:
        docker.write_text(json.dumps({"auths": {"example.com": auth("me:") | {"identitytoken": "refresh"}}}))
        assert files.find("example.com") == Credentials("me", "", "refresh")

    @pytest.mark.parametrize(
        "content", ["", "{}", '{"auths": null}', '{"auths": {"example.com": {}}}', '{"auths": []}']
    )
    def test_files_without_any(self, files: CredentialFiles, docker: Path, content: str) -> None:
        docker.write_text(content)
        assert files.find("example.com") is None

    @pytest.mark.parametrize("content", ["[]", "{", "\udcff", '{"auths": {"example.com": {"auth": "%%%"}}}'])
    def test_files_that_are_broken(self, files: CredentialFiles, docker: Path, content: str) -> None:
        docker.write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(CredentialsError) as caught:
            files.find("example.com")
        assert str(docker) in str(caught.value)
        assert caught.value.hint

    def test_secrets_do_not_show(self) -> None:
        assert "pass" not in repr(ME)
        assert "refresh" not in repr(Credentials(identity_token="refresh"))


class TestKeeping:
    def test_a_file_for_the_owner_with_all_that_it_had(self, files: CredentialFiles, docker: Path) -> None:
        docker.write_text(json.dumps({"auths": {"other": auth()}, "proxies": {"x": 1}}))
        assert files.store("example.com", ME) == str(docker)
        assert files.find("example.com") == ME
        kept = json.loads(docker.read_text())
        assert kept["proxies"] == {"x": 1}
        assert "other" in kept["auths"]
        assert stat.S_IMODE(docker.stat().st_mode) == 0o600
        assert [path.name for path in docker.parent.iterdir()] == ["config.json"]

    def test_a_link_stays_a_link(self, files: CredentialFiles, docker: Path, tmp_path: Path) -> None:
        (tmp_path / "real.json").write_text("{}")
        docker.symlink_to(tmp_path / "real.json")
        files.store("example.com", ME)
        assert docker.is_symlink()
        assert files.find("example.com") == ME

    def test_docker_s_own_name_for_its_registry(self, files: CredentialFiles, docker: Path) -> None:
        files.store("docker.io", ME)
        assert list(json.loads(docker.read_text())["auths"]) == [HUB_KEY]

    def test_and_forgetting(self, files: CredentialFiles, docker: Path) -> None:
        files.store("example.com", ME)
        assert files.erase("example.com")
        assert files.find("example.com") is None
        assert not files.erase("example.com")


@pytest.mark.usefixtures("helper")
class TestHelpers:
    """docker/docker-credential-helpers: a program, `get`, `store` and `erase`, text on its standard input."""

    def test_asked_for_its_own_registries(self, files: CredentialFiles, docker: Path) -> None:
        docker.write_text(json.dumps({"credHelpers": {"known.example": "files"}, "auths": {"b.example": auth("b:b")}}))
        assert files.find("known.example") == ME
        assert files.find("b.example") == Credentials("b", "b")

    def test_asked_for_all(self, files: CredentialFiles, docker: Path) -> None:
        docker.write_text(json.dumps({"credsStore": "files"}))
        assert files.find("docker.io") == ME
        assert files.find("unknown.example") is None

    def test_an_identity_token(self, files: CredentialFiles, docker: Path) -> None:
        docker.write_text(json.dumps({"credsStore": "files"}))
        assert files.find("token.example") == Credentials(identity_token="refresh")

    def test_what_it_keeps_never_touches_our_file(self, files: CredentialFiles, docker: Path, helper: Path) -> None:
        docker.write_text(json.dumps({"credsStore": "files"}))
        assert files.store("known.example", ME) == "credential helper files"
        stored = json.loads((helper / "stored").read_text())
        assert stored == {"ServerURL": "known.example", "Username": "me", "Secret": "pass:word"}
        assert "pass" not in docker.read_text()

    def test_forgetting(self, files: CredentialFiles, docker: Path, helper: Path) -> None:
        docker.write_text(json.dumps({"credsStore": "files"}))
        assert files.erase("known.example")
        assert (helper / "erased").read_text() == "known.example\n"

    @pytest.mark.parametrize("domain", ["broken.example", "locked.example"])
    def test_a_failure_is_told(self, files: CredentialFiles, docker: Path, domain: str) -> None:
        docker.write_text(json.dumps({"credsStore": "files"}))
        with pytest.raises(CredentialsError, match="docker-credential-files"):
            files.find(domain)

    @pytest.mark.parametrize("name", ["../evil", "a/b", "-x", "a b"])
    def test_a_name_that_is_a_path_is_not_run(self, files: CredentialFiles, docker: Path, name: str) -> None:
        docker.write_text(json.dumps({"credsStore": name}))
        with pytest.raises(CredentialsError, match="not the name of a credential helper"):
            files.find("example.com")
