"""Where a registry may send us, and who may see credentials."""

import pytest

from registry.client.trust import (
    Home,
    address,
    check_target,
    is_loopback,
    is_private,
    may_see_credentials,
    shown,
    split,
)
from registry.errors import TransferError

PUBLIC = Home("https://registry.example.com")


class TestAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "127.1", "0x7f000001", "2130706433", "127.0.0.1.", "[::1]", "::1", "::ffff:127.0.0.1",
            "localhost", "LOCALHOST", "registry.localhost",
        ],
    )  # fmt: skip
    def test_this_machine_in_all_spellings(self, host: str) -> None:
        assert is_loopback(host)
        assert is_private(host)

    @pytest.mark.parametrize(
        "host",
        [
            "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "fd00::1",
            "fe80::1%eth0", "::ffff:10.0.0.1", "0xa.0.0.1", "224.0.0.1",
        ],
    )  # fmt: skip
    def test_those_that_the_open_internet_can_not_reach(self, host: str) -> None:
        assert is_private(host)
        assert not is_loopback(host)

    @pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "example.com", "10.example.com", "localhost.com"])
    def test_all_others(self, host: str) -> None:
        assert not is_private(host)

    def test_a_name_is_none(self) -> None:
        assert address("example.com") is None


class TestWhereWeAreSent:
    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/latest",
            "https://127.0.0.1/x",
            "https://0x7f.1/x",
            "https://[::1]:8443/",
            "https://localhost/",
        ],
    )
    def test_a_public_registry_may_not_send_us_to_private_places(self, url: str) -> None:
        """CVE-2026-12566: a cloud's metadata service is such a place."""
        with pytest.raises(TransferError):
            check_target(PUBLIC, url, "a redirect")

    def test_unless_its_operator_says_so(self) -> None:
        check_target(Home("https://registry.example.com", private_redirects=True), "https://10.0.0.5/b", "a redirect")

    def test_a_registry_at_home_may(self) -> None:
        check_target(Home("http://127.0.0.1:5000"), "http://10.0.0.5:9000/bucket", "a redirect")

    def test_never_from_https_to_http(self) -> None:
        with pytest.raises(TransferError, match="from https to http"):
            check_target(PUBLIC, "http://registry.example.com/x", "a redirect")

    @pytest.mark.parametrize(
        "url", ["ftp://example.com/", "file:///etc/passwd", "https://", "https://[::1/", "", "https://h:99999/"]
    )
    def test_nor_to_anything_but_the_web(self, url: str) -> None:
        with pytest.raises(TransferError, match="not an address of the web"):
            check_target(PUBLIC, url, "a redirect")

    def test_elsewhere_on_the_web_is_fine(self) -> None:
        check_target(PUBLIC, "https://cdn.example.net/blob?sig=1", "a redirect")


class TestWhoSeesThePassword:
    @pytest.mark.parametrize(
        ("home", "realm", "allowed"),
        [
            ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
            ("http://localhost:5000", "http://localhost:5000/token", True),
            ("http://localhost:5000", "http://127.0.0.1:5001/token", True),
            ("http://10.0.0.1:5000", "http://10.0.0.2:5001/token", False),
            ("http://10.0.0.1:5000", "http://10.0.0.1:5001/token", False),
            ("http://10.0.0.1:5000", "https://auth.example.com/token", True),
        ],
    )
    def test_a_token_service(self, home: str, realm: str, allowed: bool) -> None:
        assert may_see_credentials(Home(home), realm) is allowed


def test_what_an_error_shows_of_a_url() -> None:
    assert shown("https://me:pw@example.com/x?token=secret\x1b[2J") == "https://example.com/x"
    assert split("https://example.com/x").hostname == "example.com"
