"""Networks of containers from the command line, in a network namespace of the test's own."""

import socket
import time

import pytest

from tests.integration.run.conftest import Pybuild

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.usefixtures("netns")]
SERVER = "while :; do echo -e 'HTTP/1.0 200 OK\\r\\n\\r\\nhello' | nc -l -p 80; done"


def fetched(port: int) -> bytes:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if answer := sock.recv(1000):
                    return answer
        except OSError:
            time.sleep(0.05)
    return b""


def test_a_published_port_leads_into_the_container(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--name", "web", "-p", "18080:80", "busybox", "sh", "-c", SERVER)
    assert fetched(18080).endswith(b"hello\n")
    assert "0.0.0.0:18080->80/tcp" in pybuild.ok("ps")


def test_a_free_port_is_chosen_and_shown(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--name", "web", "--expose", "80", "-P", "busybox", "sh", "-c", SERVER)
    settings = pybuild.inspect("web")["NetworkSettings"]
    (binding,) = settings["Ports"]["80/tcp"]  # type: ignore[index]  # a mapping, in JSON
    assert fetched(int(binding["HostPort"])).endswith(b"hello\n")


def test_containers_reach_each_other_and_know_themselves(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--name", "web", "busybox", "sh", "-c", SERVER)
    address = str(pybuild.inspect("web")["NetworkSettings"]["IPAddress"])
    script = f"until wget -qO- http://{address}/; do sleep 0.05; done; grep -c $(hostname) /etc/hosts"
    assert pybuild.ok("run", "--rm", "busybox", "sh", "-c", script) == "hello\n1\n"


def test_another_containers_network_can_be_joined(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--name", "web", "busybox", "sh", "-c", SERVER)
    script = "until wget -qO- http://127.0.0.1/; do sleep 0.05; done"
    assert pybuild.ok("run", "--rm", "--network", "container:web", "busybox", "sh", "-c", script) == "hello\n"


def test_none_has_only_loopback_and_host_has_ours(pybuild: Pybuild) -> None:
    links = ("sh", "-c", "ls /sys/class/net | sort | tr '\\n' ' '")
    assert pybuild.ok("run", "--rm", "--network", "none", "busybox", *links) == "lo "
    ours = "".join(f"{name} " for name in sorted(name for _, name in socket.if_nameindex()))
    assert pybuild.ok("run", "--rm", "--network", "host", "busybox", *links) == ours


def test_names_of_servers_and_hosts_can_be_given(pybuild: Pybuild) -> None:
    found = pybuild.ok(
        "run", "--rm", "--dns", "192.0.2.1", "--dns-search", "example.test", "--add-host", "db:192.0.2.9", "busybox",
        "sh", "-c", "cat /etc/resolv.conf; grep -w db /etc/hosts",
    )  # fmt: skip
    assert found == "nameserver 192.0.2.1\nsearch example.test\n192.0.2.9\tdb\n"


def test_unknown_networks_are_refused(pybuild: Pybuild) -> None:
    assert pybuild("run", "--network", "nosuch", "busybox", "true").code == 125
    pybuild.ok("rm", "-f", *pybuild.ok("ps", "-aq").split())
