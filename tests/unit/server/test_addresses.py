"""Where a registry may listen without accounts."""

import pytest

from registry.server.listening import ListenError, is_loopback, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:5000", "127.0.0.1", 5000), ("[::1]:0", "::1", 0), (":5000", "0.0.0.0", 5000), ("name:1", "name", 1)],
)
def test_an_address_has_a_host_and_a_port(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)


@pytest.mark.parametrize("address", ["", "5000", "host", "host:", "host:x", "host:70000", "host:-1", "host:٣"])
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(ListenError):
        split_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_only_this_machine_reaches(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", [":1", "0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost.example.org:1", "[::2]:1"])
def test_others_reach(address: str) -> None:
    assert not is_loopback(address)
