"""The packet filter table of one bridge: NAT outwards, published ports inwards, nothing else.

One table of our own; tables of others are neither read nor changed. Ports are elements of two maps, so that a
container's start adds elements, not rules. docs/networking.md shows the table as `nft list ruleset` prints it.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from runner.kernel import nftables as nft
from runner.kernel.netlink import Request
from runner.network.ports import PortMapping

_ANY, _ADDRESSED = "published", "published_at"
_ANY_ID, _ADDRESSED_ID = 1, 2
_DSTNAT, _SRCNAT, _RAW, _FILTER = -100, 100, -300, 0
_LOOPBACK, _LOOPBACK_MASK = bytes([127, 0, 0, 0]), bytes([255, 0, 0, 0])


@dataclass(frozen=True, slots=True)
class Firewall:
    """What the table is about. `forwards_only_ours`: we switched forwarding on, so nobody else's packets may use it."""

    table: str
    bridge: str
    subnet: ipaddress.IPv4Network
    forwards_only_ours: bool = False

    def present(self) -> bool:
        with nft.open_netfilter() as netlink:
            return nft.table_exists(netlink, self.table)

    def create(self, published: Iterable[tuple[PortMapping, str]] = ()) -> None:
        """Make the table with all its rules and the given ports, replacing what was there, in one transaction."""
        ports = [element for mapping, address in published for element in _elements(mapping, address)]
        requests = [nft.new_table(self.table), *self._maps(), *self._chains(), *self._rules()]
        requests += [nft.add_elements(self.table, name, [(key, value)]) for name, key, value in ports]
        with nft.open_netfilter() as netlink:
            if nft.table_exists(netlink, self.table):
                requests.insert(0, nft.delete_table(self.table))
            nft.apply(netlink, requests)

    def remove(self) -> None:
        with nft.open_netfilter() as netlink:
            if nft.table_exists(netlink, self.table):
                nft.apply(netlink, [nft.delete_table(self.table)])

    def publish(self, ports: Iterable[PortMapping], address: str) -> None:
        self._change([nft.add_elements(self.table, name, [(key, value)]) for name, key, value in _all(ports, address)])

    def withdraw(self, ports: Iterable[PortMapping], address: str) -> None:
        """Take ports back; those that are gone already (somebody flushed the table) are no error."""
        for name, key, _ in _all(ports, address):
            try:
                self._change([nft.delete_elements(self.table, name, [key])])
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise

    def _change(self, requests: list[Request]) -> None:
        if requests:
            with nft.open_netfilter() as netlink:
                nft.apply(netlink, requests)

    def _maps(self) -> list[Request]:
        port = (nft.TYPE_PROTOCOL, nft.TYPE_PORT)
        target = (nft.TYPE_ADDRESS, nft.TYPE_PORT)
        return [
            nft.new_map(self.table, _ANY, _ANY_ID, port, target),
            nft.new_map(self.table, _ADDRESSED, _ADDRESSED_ID, (nft.TYPE_ADDRESS, *port), target),
        ]

    def _chains(self) -> list[Request]:
        def chain(name: str, kind: str, hook: int, priority: int) -> Request:
            return nft.new_chain(self.table, name, kind=kind, hook=hook, priority=priority)

        return [
            chain("raw", "filter", nft.HOOK_PREROUTING, _RAW),
            chain("prerouting", "nat", nft.HOOK_PREROUTING, _DSTNAT),
            chain("output", "nat", nft.HOOK_OUTPUT, _DSTNAT),
            chain("postrouting", "nat", nft.HOOK_POSTROUTING, _SRCNAT),
            chain("forward", "filter", nft.HOOK_FORWARD, _FILTER),
        ]

    def _rules(self) -> list[Request]:
        into, out_of = nft.interface_is, nft.interface_is
        ours_in = into(self.bridge, incoming=True)
        ours_out = out_of(self.bridge, incoming=False)
        not_ours_in = into(self.bridge, incoming=True, negate=True)
        not_ours_out = out_of(self.bridge, incoming=False, negate=True)
        network, mask = self.subnet.network_address.packed, self.subnet.netmask.packed
        from_subnet = nft.address_in(network, mask, source=True)
        to_subnet = nft.address_in(network, mask, source=False)
        accept, drop = nft.verdict(nft.ACCEPT), nft.verdict(nft.DROP)
        redirect_at = nft.to_mapped_destination(_ADDRESSED, _ADDRESSED_ID, by_address=True)
        redirect = nft.to_mapped_destination(_ANY, _ANY_ID, by_address=False)
        rules = [
            # Containers are reached through published ports only, not by whoever routes to their addresses, and the
            # host's loopback services not at all, though route_localnet is on for the bridge.
            ("raw", [not_ours_in, nft.interface_is("lo", incoming=True, negate=True), to_subnet, drop]),
            ("raw", [ours_in, nft.address_in(_LOOPBACK, _LOOPBACK_MASK, source=False), drop]),
            ("prerouting", [redirect_at]),
            ("prerouting", [nft.destination_is_local(), redirect]),
            ("output", [redirect_at]),
            ("output", [nft.destination_is_local(), redirect]),
            ("postrouting", [from_subnet, not_ours_out, nft.masquerade()]),
            # A container that calls its own published port, and the host that calls it by 127.0.0.1: the answer must
            # come back through here, so the source becomes the bridge's address.
            ("postrouting", [from_subnet, ours_out, nft.destination_was_changed(), nft.masquerade()]),
            ("postrouting", [nft.address_in(_LOOPBACK, _LOOPBACK_MASK, source=True), ours_out, nft.masquerade()]),
            ("forward", [ours_out, nft.connection_state(established_or_related=True), accept]),
            ("forward", [ours_in, accept]),
            ("forward", [ours_out, nft.destination_was_changed(), accept]),
            ("forward", [ours_out, drop]),
        ]
        if self.forwards_only_ours:
            rules.append(("forward", [not_ours_in, not_ours_out, drop]))
        return [nft.new_rule(self.table, chain, *expressions) for chain, expressions in rules]


def _all(ports: Iterable[PortMapping], address: str) -> list[tuple[str, bytes, bytes]]:
    return [element for mapping in ports for element in _elements(mapping, address)]


def _elements(mapping: PortMapping, address: str) -> list[tuple[str, bytes, bytes]]:
    """The map's name, the key and the value of one published port; each field fills four bytes."""
    protocol = socket.IPPROTO_TCP if mapping.protocol == "tcp" else socket.IPPROTO_UDP
    key = struct.pack("B3x", protocol) + struct.pack(">H2x", mapping.host_port)
    value = ipaddress.IPv4Address(address).packed + struct.pack(">H2x", mapping.container_port)
    if mapping.everywhere:
        return [(_ANY, key, value)]
    return [(_ADDRESSED, ipaddress.IPv4Address(mapping.host_ip).packed + key, value)]
