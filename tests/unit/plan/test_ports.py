"""EXPOSE words (reference §1.5)."""

import pytest

from builder.plan.ports import PortError, expose


@pytest.mark.parametrize(
    ("word", "ports"),
    [
        ("80", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("8000-8002", ["8000/tcp", "8001/tcp", "8002/tcp"]),
        ("8080:80", ["80/tcp"]),
        ("127.0.0.1:8080:80/tcp", ["80/tcp"]),
        ("127.0.0.1::80", ["80/tcp"]),
        ("[::1]:5:6", ["6/tcp"]),
        ("9000-9001:80-81", ["80/tcp", "81/tcp"]),
    ],
)
def test_names_the_ports_of_the_container(word: str, ports: list[str]) -> None:
    assert expose(word) == ports


@pytest.mark.parametrize(
    "word", ["http", "80/icmp", "70000", "10-5", "", "1-2-3", "1-3:80-81", "-1", "host:80:80", "1.2.3:80:80"]
)
def test_refuses_what_is_no_port(word: str) -> None:
    with pytest.raises(PortError):
        expose(word)
