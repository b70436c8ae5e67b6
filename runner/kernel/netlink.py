"""Links, addresses and routes by rtnetlink(7), without a helper program.

A socket speaks for the network namespace of the thread that opened it. Requests are bytes built by pure functions, so
that several can travel in one system call; the first refusal is raised as an OSError that names the request.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 1, 4, 0x300, 0x200, 0x400, 0x800
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 18

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 24, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_PROTINFO, IFLA_LINKINFO, IFLA_GROUP, IFLA_NET_NS_FD = (
    1,
    3,
    10,
    12,
    18,
    27,
    28,
)
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_BRPORT_MODE = 4  # hairpin
VETH_INFO_PEER = 1
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 255, 3, 0, 1


@dataclass(frozen=True, slots=True)
class Request:
    """One message without its header; `what` is for the error's text."""

    type: int
    flags: int
    body: bytes
    what: str


def attribute(kind: int, value: bytes | int | str) -> bytes:
    """One attribute, padded to four bytes; an int is a native u32, a str ends with NUL."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read attributes; a torn one ends the walk."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


class Netlink:
    """One netlink socket. Not shared between threads."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(10)  # the kernel answers at once; a lost answer must not hang a container's start
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def run(self, *requests: Request) -> None:
        """Send the requests in one call and wait for the answer to each. Raises the first refusal."""
        first = self._sequence + 1
        self._socket.send(b"".join(self._frame(request, NLM_F_ACK) for request in requests))
        self._acknowledge(dict(enumerate((request.what for request in requests), first)))

    def transaction(self, begin: Request, requests: Sequence[Request], end: Request) -> None:
        """Send an nfnetlink batch: all or nothing. Only the requests inside are answered."""
        frames = [self._frame(begin, 0)]
        first = self._sequence + 1
        frames += [self._frame(request, NLM_F_ACK) for request in requests]
        frames.append(self._frame(end, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(1 << 17, 2 * sum(map(len, frames))))
        self._socket.send(b"".join(frames))
        self._acknowledge(dict(enumerate((request.what for request in requests), first)))

    def dump(self, request: Request) -> Iterator[bytes]:
        """The bodies of all answers to a dump request."""
        self._socket.send(self._frame(request, NLM_F_DUMP))
        while True:
            for kind, _, body in self._receive():
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    _raise_refusal(body, request.what)
                yield body

    def _frame(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        length = _HEADER.size + len(request.body)
        header = _HEADER.pack(length, request.type, request.flags | NLM_F_REQUEST | flags, self._sequence, 0)
        return header + request.body + bytes(-length % 4)

    def _acknowledge(self, waiting: dict[int, str]) -> None:
        refusal: OSError | None = None
        while waiting:
            for kind, sequence, body in self._receive():
                what = waiting.pop(sequence, None)
                if kind != NLMSG_ERROR:
                    continue
                try:
                    _raise_refusal(body, what or "netlink batch")
                except OSError as error:
                    refusal = refusal or error
                    if what is None:
                        raise  # a batch refused as a whole answers under the sequence of its beginning
        if refusal is not None:
            raise refusal

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(_RECEIVE)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
            if length < _HEADER.size:
                return
            yield kind, sequence, data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3


def _raise_refusal(body: bytes, what: str) -> None:
    code = -struct.unpack_from("=i", body)[0]
    if code:
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _link(index: int = 0, flags: int = 0, family: int = socket.AF_UNSPEC) -> bytes:
    return struct.pack("=BxHiII", family, 0, index, flags, flags)


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def new_bridge(name: str, mac: str, group: int) -> Request:
    """A bridge with a fixed address: one without takes its lowest port's, which changes as containers come and go."""
    body = _link(flags=IFF_UP) + attribute(IFLA_IFNAME, name) + attribute(IFLA_ADDRESS, mac_bytes(mac))
    body += attribute(IFLA_GROUP, group) + nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, "bridge"))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"make bridge {name}")


def new_veth(name: str, master: int, group: int, *, peer: str, peer_mac: str, peer_netns: int) -> Request:
    """A pair whose one end, up, is a port of bridge `master`, and whose other end `peer` lies in another namespace."""
    far = _link() + attribute(IFLA_IFNAME, peer) + attribute(IFLA_ADDRESS, mac_bytes(peer_mac))
    far += attribute(IFLA_NET_NS_FD, peer_netns)
    info = attribute(IFLA_INFO_KIND, "veth") + nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, far))
    body = _link(flags=IFF_UP) + attribute(IFLA_IFNAME, name) + attribute(IFLA_MASTER, master)
    body += attribute(IFLA_GROUP, group)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + nested(IFLA_LINKINFO, info), f"make veth {name}")


def hairpin(index: int) -> Request:
    """Let a bridge port send packets back where they came from: a container that calls its own published port."""
    body = _link(index, family=socket.AF_BRIDGE) + nested(IFLA_PROTINFO, attribute(IFLA_BRPORT_MODE, b"\1"))
    return Request(RTM_SETLINK, 0, body, "set hairpin mode")


def link_up(index: int) -> Request:
    return Request(RTM_NEWLINK, 0, _link(index, IFF_UP), f"bring up link {index}")


def delete_link(name: str) -> Request:
    return Request(RTM_DELLINK, 0, _link() + attribute(IFLA_IFNAME, name), f"delete link {name}")


def delete_group(group: int) -> Request:
    """All links of a group at once: each deletion alone would wait for the kernel's grace periods in turn."""
    return Request(RTM_DELLINK, 0, _link() + attribute(IFLA_GROUP, group), f"delete links of group {group}")


def new_address(index: int, interface: ipaddress.IPv4Interface) -> Request:
    packed = interface.ip.packed
    body = struct.pack("=BBBBI", socket.AF_INET, interface.network.prefixlen, 0, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    body += attribute(IFA_BROADCAST, interface.network.broadcast_address.packed)
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body, f"add address {interface}")


def default_route(gateway: ipaddress.IPv4Address) -> Request:
    body = struct.pack(
        "=BBBBBBBBI", socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
    )
    return Request(
        RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body + attribute(RTA_GATEWAY, gateway.packed), f"add route {gateway}"
    )


def routed_networks(netlink: Netlink) -> list[ipaddress.IPv4Network]:
    """All IPv4 destinations this namespace has routes to, the default route left out."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    found = []
    for answer in netlink.dump(Request(RTM_GETROUTE, 0, body, "list routes")):
        prefix, table = answer[1], answer[4]
        if table == RT_TABLE_LOCAL or prefix == 0:
            continue
        for kind, value in attributes(answer[12:]):
            if kind == RTA_DST:
                found.append(ipaddress.IPv4Network((value, prefix), strict=False))
    return found


def remove(netlink: Netlink, deletion: Request) -> bool:
    """Delete links; False if there were none."""
    try:
        netlink.run(deletion)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True
