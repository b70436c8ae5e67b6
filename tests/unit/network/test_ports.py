"""Published ports as `-p` takes them."""

import socket

import pytest

from runner.errors import NetworkError
from runner.network import PortMapping
from runner.network.ports import reserve


@pytest.mark.parametrize(
    ("text", "mappings"),
    [
        ("80", [PortMapping(80)]),
        ("8080:80", [PortMapping(80, host_port=8080)]),
        ("127.0.0.1:8080:80", [PortMapping(80, "tcp", "127.0.0.1", 8080)]),
        ("127.0.0.1::80/udp", [PortMapping(80, "udp", "127.0.0.1")]),
        ("53:53/UDP", [PortMapping(53, "udp", host_port=53)]),
        ("7000-7001:70-71", [PortMapping(70, host_port=7000), PortMapping(71, host_port=7001)]),
        ("80-81", [PortMapping(80), PortMapping(81)]),
    ],
)
def test_a_mapping_is_read_as_docker_reads_it(text: str, mappings: list[PortMapping]) -> None:
    assert list(PortMapping.parse(text)) == mappings


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "80:",
        "0:80",
        "70000",
        "80:70000",
        "9-8:9-8",
        "1-3:1-2",
        "80/icmp",
        "1.2.3.999:1:1",
        "[::1]:8:8",
        "1:2:3",
    ],
)
def test_anything_else_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(NetworkError) as caught:
        PortMapping.parse(text)
    assert caught.value.hint


def test_a_reserved_port_is_nobody_elses(netns: None) -> None:
    mapping, holder = reserve(PortMapping(80))
    with holder, pytest.raises(NetworkError, match="port is already allocated"):
        reserve(mapping)


def test_a_port_that_a_program_listens_on_is_refused(netns: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(NetworkError, match=f"Bind for 0.0.0.0:{port} failed: port is already allocated"):
            reserve(PortMapping(80, host_port=port))
