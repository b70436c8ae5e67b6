"""The bridge network, in a network namespace of the test's own; `nft` and `ip` tell what the kernel holds."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.errors import NetworkError
from runner.network import Attachment, Networks, PortMapping
from runner.network.netns import within

pytestmark = [pytest.mark.root, pytest.mark.net]


@pytest.fixture
def networks(netns: None, tmp_path: Path) -> Networks:
    return Networks(tmp_path / "networks")


def attach(networks: Networks, name: str, *ports: str) -> Attachment:
    return networks.attach(name, ports=[mapping for text in ports for mapping in PortMapping.parse(text)])


def release(attachment: Attachment) -> None:
    for descriptor in (attachment.netns, *attachment.held):
        os.close(descriptor)


@contextmanager
def echo_server(attachment: Attachment, port: int) -> Iterator[None]:
    """A server inside the container's namespace that answers each caller with the address it saw."""
    made: list[socket.socket] = []
    within(attachment.netns, lambda: made.append(socket.create_server(("", port))))
    listener = made[0]

    def serve() -> None:
        while True:
            try:
                peer, address = listener.accept()
            except OSError:
                return
            with peer:
                peer.sendall(address[0].encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ask(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=5) as peer:
        return peer.recv(100).decode()


def rules() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def links() -> set[str]:
    listed = subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout
    return {link["ifname"] for link in json.loads(listed)}


def test_containers_reach_each_other_and_the_gateway(networks: Networks) -> None:
    one, two = attach(networks, "one"), attach(networks, "two")
    answers: list[str] = []
    with echo_server(one, 80):
        within(two.netns, lambda: answers.append(ask(one.address, 80)))
    assert answers == [two.address]
    for name, attachment in (("one", one), ("two", two)):
        release(attachment)
        networks.detach(name)


def test_a_published_port_answers_on_every_address_of_the_host_and_from_inside(networks: Networks) -> None:
    web = attach(networks, "web", "8080:80")
    answers: list[str] = []
    with echo_server(web, 80):
        answers += [ask("127.0.0.1", 8080), ask(web.gateway, 8080)]
        within(web.netns, lambda: answers.append(ask(web.gateway, 8080)))  # hairpin
    assert answers == [web.gateway] * 3
    release(web)
    networks.detach("web")


def test_a_port_published_on_one_address_answers_there_only(networks: Networks) -> None:
    web = attach(networks, "web", "127.0.0.1::80")
    port = web.ports[0].host_port
    with echo_server(web, 80):
        assert ask("127.0.0.1", port) == web.gateway
        with pytest.raises(ConnectionRefusedError):
            ask(web.gateway, port)
    release(web)
    networks.detach("web")


def test_a_taken_port_is_refused_and_nothing_is_left_of_the_attempt(networks: Networks) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NetworkError, match="already allocated"):
        attach(networks, "web", f"{taken.getsockname()[1]}:80")
    assert networks.attached() == []
    assert rules() == ""


def test_after_the_last_container_nothing_is_left(networks: Networks) -> None:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    one, two = attach(networks, "one", "81:81"), attach(networks, "two", "82:82")
    networks.detach("one")
    assert "81" not in rules().replace("172", "")
    networks.detach("two")
    networks.detach("two")  # twice is no error
    release(one)
    release(two)
    assert (links(), rules()) == ({"lo"}, "")
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == forwarding


def test_a_flushed_table_is_mended_with_the_ports_of_those_that_run(networks: Networks) -> None:
    web = attach(networks, "web", "8080:80")
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    other = attach(networks, "other")
    with echo_server(web, 80):
        assert ask("127.0.0.1", 8080) == web.gateway
    for name, attachment in (("web", web), ("other", other)):
        release(attachment)
        networks.detach(name)


def test_a_bridge_removed_by_somebody_is_made_again(networks: Networks) -> None:
    web = attach(networks, "web")
    release(web)
    for name in links() - {"lo"}:
        if name.startswith("pb-"):
            subprocess.run(["ip", "link", "delete", name], check=True)
    again = attach(networks, "again")
    assert again.gateway == web.gateway
    release(again)
    networks.detach("web")
    networks.detach("again")


def test_the_subnet_keeps_clear_of_the_hosts_routes(networks: Networks) -> None:
    subprocess.run(["ip", "link", "add", "office", "type", "bridge"], check=True)
    subprocess.run(["ip", "addr", "add", "172.17.5.1/24", "dev", "office"], check=True)
    subprocess.run(["ip", "link", "set", "office", "up"], check=True)
    one = attach(networks, "one")
    assert one.gateway == "172.18.0.1"
    release(one)
    networks.detach("one")


def test_the_hosts_loopback_is_not_reached_from_a_container(networks: Networks) -> None:
    """CVE-2020-8558: route_localnet must not open 127.0.0.1 of the host to containers."""
    one = attach(networks, "one")

    def call() -> None:
        subprocess.run(["ip", "addr", "flush", "dev", "lo"], check=True)
        subprocess.run(["ip", "route", "add", "127.0.0.1", "via", one.gateway, "dev", "eth0"], check=True)
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
        with socket.socket() as caller:
            caller.settimeout(0.5)
            caller.bind((one.address, 0))
            with pytest.raises(OSError):
                caller.connect(("127.0.0.1", port))

    with socket.create_server(("127.0.0.1", 0)) as private:
        port = private.getsockname()[1]
        within(one.netns, call)
    release(one)
    networks.detach("one")


def test_no_network_means_only_a_loopback_that_works(networks: Networks) -> None:
    netns = networks.isolated()
    seen: list[list[tuple[int, str]]] = []
    within(netns, lambda: seen.append(socket.if_nameindex()))
    assert [name for _, name in seen[0]] == ["lo"]
    os.close(netns)
