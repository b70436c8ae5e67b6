"""registries.toml, challenges, and how long a client waits."""

from pathlib import Path

import pytest

from registry.client.auth import Challenge, parse_challenges
from registry.client.distribution import Endpoint
from registry.client.settings import ClientSettings, RegistrySettings, waits
from registry.errors import TransferError


class TestFile:
    def test_what_it_says_about_a_registry(self, tmp_path: Path) -> None:
        (tmp_path / "registries.toml").write_text(
            '[registry."example.com:5000"]\ninsecure = true\nmirrors = ["mirror:5000"]\nca = "/ca.pem"\n'
        )
        settings = ClientSettings.load(tmp_path)
        assert settings.of("example.com:5000") == RegistrySettings(
            insecure=True, mirrors=("mirror:5000",), ca="/ca.pem"
        )
        assert settings.of("example.com") == RegistrySettings()

    def test_none_is_fine(self, tmp_path: Path) -> None:
        assert ClientSettings.load(tmp_path).registries == {}

    @pytest.mark.parametrize(
        "text",
        ["[registry", '[registry."a"]\nunsecure = true', '[registry."a"]\ninsecure = "yes"', "[registies.a]", "\xff"],
    )
    def test_a_broken_one_is_told_with_its_form(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "registries.toml").write_bytes(text.encode("latin-1"))
        with pytest.raises(TransferError) as caught:
            ClientSettings.load(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert "insecure" in str(caught.value.hint)


class TestMirrors:
    @pytest.mark.parametrize(
        ("text", "endpoint"),
        [
            ("mirror:5000", Endpoint("mirror:5000", "", "docker.io")),
            ("https://mirror.example/hub/", Endpoint("mirror.example", "hub", "docker.io", "https")),
        ],
    )
    def test_how_they_are_written(self, text: str, endpoint: Endpoint) -> None:
        assert Endpoint.mirror(text, "docker.io") == endpoint


class TestChallenges:
    """RFC 9110 §11.6.1."""

    @pytest.mark.parametrize(
        ("header", "challenges"),
        [
            ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
            (
                'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
                [Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})],
            ),
            (
                'Basic realm="x", Bearer realm=y , error="invalid_token"',
                [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y", "error": "invalid_token"})],
            ),
            (r'Basic realm="a \"quoted\" one"', [Challenge("basic", {"realm": 'a "quoted" one'})]),
            ("Negotiate", [Challenge("negotiate", {})]),
            ("", []),
            ("=,=", []),
        ],
    )
    def test_how_they_are_read(self, header: str, challenges: list[Challenge]) -> None:
        assert parse_challenges(header) == challenges

    def test_a_long_one_takes_no_long_time(self) -> None:
        assert parse_challenges('Basic realm="' + "\\" * 50_000)
        assert len(parse_challenges("a " * 20_000)) == 20_000


def test_waits_double_and_end() -> None:
    assert list(waits(ClientSettings(tries=5, backoff=1, longest_wait=3))) == [1, 2, 3, 3]
