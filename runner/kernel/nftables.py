"""Packet filter tables by nfnetlink (linux/netfilter/nf_tables.h), without the nft program.

Tables, chains, rules, sets and their elements are bytes built by pure functions; `apply` sends them as one
transaction. Expressions work on 32-bit registers, so that addresses and ports concatenate into one look-up key.
All integers of this protocol are big-endian.
"""

import errno
import struct
from collections.abc import Iterable, Sequence

from runner.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    Netlink,
    Request,
    attribute,
    nested,
)

_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWSET = 0, 2, 3, 6, 9
_NEWSETELEM, _DELSETELEM = 12, 14
_GETTABLE = 1
NFPROTO_IPV4 = 2

# Registers: the first is the verdict's; those of 32 bits count from 8.
R0, R1, R2 = 8, 9, 10
ACCEPT, DROP = 1, 0
EQUAL, NOT_EQUAL = 0, 1

# Data types as nft's listings know them; a concatenation shifts each by six bits.
TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT = 7, 12, 13
SET_MAP = 0x8

HOOK_PREROUTING, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 2, 3, 4


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _message(kind: int, flags: int, what: str, *parts: bytes) -> Request:
    return Request(_SUBSYSTEM | kind, flags, struct.pack(">BBH", NFPROTO_IPV4, 0, 0) + b"".join(parts), what)


def apply(netlink: Netlink, requests: Sequence[Request]) -> None:
    """Carry out all of the requests or none. OSError names the one that was refused."""
    edge = struct.pack(">BBH", 0, 0, 10)
    netlink.transaction(
        Request(_BATCH_BEGIN, 0, edge, "begin"), requests, Request(_BATCH_END, 0, edge, "end of transaction")
    )


def open_netfilter() -> Netlink:
    return Netlink(NETLINK_NETFILTER)


def table_exists(netlink: Netlink, table: str) -> bool:
    try:
        netlink.run(_message(_GETTABLE, 0, f"look up table {table}", attribute(1, table)))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def new_table(table: str) -> Request:
    return _message(_NEWTABLE, NLM_F_CREATE, f"make table {table}", attribute(1, table))


def delete_table(table: str) -> Request:
    return _message(_DELTABLE, 0, f"delete table {table}", attribute(1, table))


def new_chain(table: str, chain: str, *, kind: str, hook: int, priority: int) -> Request:
    """A base chain that accepts what no rule decides."""
    return _message(
        _NEWCHAIN, NLM_F_CREATE, f"make chain {chain}",
        attribute(1, table), attribute(3, chain), nested(4, _u32(1, hook), _u32(2, priority)),
        _u32(5, ACCEPT), attribute(7, kind),
    )  # fmt: skip


def new_map(table: str, name: str, set_id: int, key: Sequence[int], data: Sequence[int]) -> Request:
    """A map whose keys and values are concatenations of the given types, four bytes each."""
    return _message(
        _NEWSET, NLM_F_CREATE, f"make map {name}",
        attribute(1, table), attribute(2, name), _u32(3, SET_MAP), _u32(4, _concatenated(key)), _u32(5, 4 * len(key)),
        _u32(6, _concatenated(data)), _u32(7, 4 * len(data)), _u32(10, set_id),
    )  # fmt: skip


def _concatenated(types: Sequence[int]) -> int:
    found = 0
    for kind in types:
        found = found << 6 | kind
    return found


def add_elements(table: str, name: str, elements: Iterable[tuple[bytes, bytes]]) -> Request:
    return _message(
        _NEWSETELEM, NLM_F_CREATE, f"add to map {name}",
        attribute(1, table), attribute(2, name), nested(3, *(_element(key, value) for key, value in elements)),
    )  # fmt: skip


def delete_elements(table: str, name: str, keys: Iterable[bytes]) -> Request:
    return _message(
        _DELSETELEM, 0, f"remove from map {name}",
        attribute(1, table), attribute(2, name), nested(3, *(_element(key, None) for key in keys)),
    )  # fmt: skip


def _element(key: bytes, value: bytes | None) -> bytes:
    data = nested(2, attribute(1, value)) if value is not None else b""
    return nested(1, nested(1, attribute(1, key)), data)


def new_rule(table: str, chain: str, *expressions: bytes) -> Request:
    return _message(
        _NEWRULE, NLM_F_CREATE | NLM_F_APPEND, f"add a rule to {chain}",
        attribute(1, table), attribute(2, chain), nested(4, *expressions),
    )  # fmt: skip


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, attribute(1, name), nested(2, *parts))


def _compare(register: int, operator: int, value: bytes) -> bytes:
    return _expression("cmp", _u32(1, register), _u32(2, operator), nested(3, attribute(1, value)))


def _meta(key: int, register: int) -> bytes:
    return _expression("meta", _u32(1, register), _u32(2, key))


def _network_header(offset: int, length: int, register: int) -> bytes:
    return _expression("payload", _u32(1, register), _u32(2, 1), _u32(3, offset), _u32(4, length))


def _transport_header(offset: int, length: int, register: int) -> bytes:
    return _expression("payload", _u32(1, register), _u32(2, 2), _u32(3, offset), _u32(4, length))


def _masked(register: int, mask: bytes) -> bytes:
    size = len(mask)
    return _expression(
        "bitwise", _u32(1, register), _u32(2, register), _u32(3, size),
        nested(4, attribute(1, mask)), nested(5, attribute(1, bytes(size))),
    )  # fmt: skip


def interface_is(name: str, *, incoming: bool, negate: bool = False) -> bytes:
    """`iifname NAME` or `oifname NAME`, or its contrary."""
    wanted = name.encode().ljust(16, b"\0")
    register = 1  # a name fills one register of 16 bytes
    return _meta(6 if incoming else 7, register) + _compare(register, NOT_EQUAL if negate else EQUAL, wanted)


def address_in(network: bytes, mask: bytes, *, source: bool) -> bytes:
    """`ip saddr NETWORK` or `ip daddr NETWORK`."""
    return _network_header(12 if source else 16, 4, R0) + _masked(R0, mask) + _compare(R0, EQUAL, network)


def destination_is_local() -> bytes:
    """`fib daddr type local`: the packet is for an address of this machine."""
    return _expression("fib", _u32(1, R0), _u32(2, 3), _u32(3, 2)) + _compare(R0, EQUAL, struct.pack("=I", 2))


def connection_state(*, established_or_related: bool) -> bytes:
    """`ct state established,related`."""
    mask = struct.pack("=I", 0x2 | 0x4)
    operator = NOT_EQUAL if established_or_related else EQUAL
    return _expression("ct", _u32(1, R0), _u32(2, 0)) + _masked(R0, mask) + _compare(R0, operator, bytes(4))


def destination_was_changed() -> bytes:
    """`ct status dnat`: the connection came through a published port."""
    mask = struct.pack("=I", 1 << 5)
    return _expression("ct", _u32(1, R0), _u32(2, 2)) + _masked(R0, mask) + _compare(R0, NOT_EQUAL, bytes(4))


def to_mapped_destination(map_name: str, set_id: int, *, by_address: bool) -> bytes:
    """`dnat to [ip daddr .] meta l4proto . th dport map @NAME`."""
    load = _network_header(16, 4, R0) if by_address else b""
    protocol, port = (R1, R2) if by_address else (R0, R1)
    load += _meta(16, protocol) + _transport_header(2, 2, port)
    look_up = _expression("lookup", attribute(1, map_name), _u32(2, R0), _u32(3, R0), _u32(4, set_id))
    change = _expression(
        "nat", _u32(1, 1), _u32(2, NFPROTO_IPV4), _u32(3, R0), _u32(4, R0), _u32(5, R1), _u32(6, R1), _u32(7, 2)
    )  # flags: NF_NAT_RANGE_PROTO_SPECIFIED
    return load + look_up + change


def masquerade() -> bytes:
    return _expression("masq")


def verdict(code: int) -> bytes:
    return _expression("immediate", _u32(1, 0), nested(2, nested(2, _u32(1, code))))
