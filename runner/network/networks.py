"""The bridge network of one state root: who has which address, and what the kernel was told.

The record is one JSON file under a file lock, so many processes may attach and detach at once. The kernel's side
(bridge, table) is made when the first container comes and removed when the last one goes; it is checked and mended at
each attach.
"""

import contextlib
import hashlib
import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from runner.container.state import boot_id
from runner.errors import MissingPrivilege, NetworkError
from runner.kernel.locks import locked
from runner.kernel.netlink import (
    Netlink,
    default_route,
    delete_group,
    delete_link,
    hairpin,
    link_up,
    new_address,
    new_bridge,
    new_veth,
    remove,
    routed_networks,
)
from runner.network.firewall import Firewall
from runner.network.netns import new_netns, within
from runner.network.ports import PortMapping, reserve

_POOLS = [ipaddress.IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)]
_POOLS += list(ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20))  # docker's pools, in its order
_INTERFACE = "eth0"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place on the bridge."""

    address: str
    mac: str
    veth: str
    ports: tuple[PortMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class _Record:
    """What the file holds. `boot` tells whether the kernel still knows of it."""

    boot: str
    subnet: str = ""
    forwarding_was_off: bool = False
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A network namespace, ready to be joined. The caller closes `netns` and `held` when others hold them."""

    netns: int
    address: str
    prefix: int
    gateway: str
    mac: str
    interface: str
    ports: tuple[PortMapping, ...]
    held: tuple[int, ...]  # bound sockets: whoever supervises the container keeps them open while it runs


class Networks:
    """See the package. One instance a process is enough; nothing is cached between calls."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        tag = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:8]
        self._bridge = f"pb-{tag}"
        self._table = f"pybuild-{tag}"
        self._group = int(tag, 16) | 1  # of our links; 0 is everybody's

    def attach(self, container_id: str, *, ports: Sequence[PortMapping] = ()) -> Attachment:
        """Give a container an address on the bridge, and publish its ports.

        Raises:
            NetworkError: a port is taken, no address is free, or the kernel refuses.
            MissingPrivilege: without CAP_NET_ADMIN.
        """
        with self._locked() as record, _explained(), contextlib.ExitStack() as undo:
            if container_id in record.endpoints:
                raise NetworkError(f"container {container_id[:12]} is attached already", hint="detach it first")
            reserved = [reserve(mapping) for mapping in ports]
            for _, holder in reserved:
                undo.callback(holder.close)
            record = self._with_bridge(record)
            subnet = ipaddress.IPv4Network(record.subnet)
            address = _free_address(subnet, record.endpoints)
            endpoint = Endpoint(
                str(address), _mac_for(address), f"pv{secrets.token_hex(5)}", tuple(mapping for mapping, _ in reserved)
            )
            netns = new_netns()
            undo.callback(os.close, netns)
            self._wire(endpoint, subnet, netns)
            self._firewall(record).publish(endpoint.ports, endpoint.address)
            self._save(replace(record, endpoints={**record.endpoints, container_id: endpoint}))
            undo.pop_all()
            return Attachment(
                netns=netns,
                address=endpoint.address,
                prefix=subnet.prefixlen,
                gateway=str(_gateway(subnet)),
                mac=endpoint.mac,
                interface=_INTERFACE,
                ports=endpoint.ports,
                held=tuple(holder.detach() for _, holder in reserved),
            )

    def detach(self, container_id: str) -> None:
        """Take everything back that attach() gave; a container that is not attached is no error."""
        with self._locked() as record, _explained():
            if (endpoint := record.endpoints.get(container_id)) is None:
                return
            rest = {name: other for name, other in record.endpoints.items() if name != container_id}
            if rest:
                with Netlink() as netlink:
                    remove(netlink, delete_link(endpoint.veth))
                self._firewall(record).withdraw(endpoint.ports, endpoint.address)
            else:
                self._remove_bridge(record)
            self._save(replace(record, endpoints=rest, forwarding_was_off=record.forwarding_was_off and bool(rest)))

    def endpoint(self, container_id: str) -> Endpoint | None:
        with self._locked() as record:
            return record.endpoints.get(container_id)

    def attached(self) -> list[str]:
        """The containers that have an address now."""
        with self._locked() as record:
            return list(record.endpoints)

    def isolated(self) -> int:
        """A network namespace with nothing but `lo` (`--network none`), as a descriptor."""
        with _explained():
            return new_netns()

    def _with_bridge(self, record: _Record) -> _Record:
        """Make or mend the bridge and the table; both may have been removed behind our back."""
        with Netlink() as netlink:
            exists = _exists(self._bridge)
            if not exists:
                taken = routed_networks(netlink)
                wanted = [ipaddress.IPv4Network(record.subnet)] if record.subnet else []
                subnet = _free_subnet([*wanted, *_POOLS] if not record.endpoints else wanted, taken)
                was_off = _sysctl("net/ipv4/ip_forward") == "0" or record.forwarding_was_off
                record = replace(record, subnet=str(subnet), forwarding_was_off=was_off)
                self._save(record)  # before the kernel changes: a crash in between leaves a record to clean up by
                gateway = ipaddress.IPv4Interface(f"{_gateway(subnet)}/{subnet.prefixlen}")
                netlink.run(new_bridge(self._bridge, _mac_for(gateway.ip), self._group))
                netlink.run(new_address(socket.if_nametoindex(self._bridge), gateway))
                _set_sysctl(f"net/ipv6/conf/{self._bridge}/accept_ra", "0")
                _set_sysctl(f"net/ipv6/conf/{self._bridge}/disable_ipv6", "1")
                # Published ports are reached by 127.0.0.1 too: the kernel would drop such packets as martians.
                _set_sysctl(f"net/ipv4/conf/{self._bridge}/route_localnet", "1")
                _set_sysctl("net/ipv4/ip_forward", "1")
        firewall = self._firewall(record)
        if not exists or not firewall.present():
            firewall.create(
                (mapping, endpoint.address) for endpoint in record.endpoints.values() for mapping in endpoint.ports
            )
        return record

    def _remove_bridge(self, record: _Record) -> None:
        """Links and table at once: each waits for the kernel, under locks of their own."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as other:
            table = other.submit(self._firewall(record).remove)
            with Netlink() as netlink:
                remove(netlink, delete_group(self._group))
            table.result()
        if record.forwarding_was_off:
            _set_sysctl("net/ipv4/ip_forward", "0")

    def _wire(self, endpoint: Endpoint, subnet: ipaddress.IPv4Network, netns: int) -> None:
        with Netlink() as netlink:
            bridge = socket.if_nametoindex(self._bridge)
            netlink.run(
                new_veth(endpoint.veth, bridge, self._group, peer=_INTERFACE, peer_mac=endpoint.mac, peer_netns=netns)
            )
            port = socket.if_nametoindex(endpoint.veth)
            netlink.run(hairpin(port))
        _set_sysctl(f"net/ipv6/conf/{endpoint.veth}/disable_ipv6", "1")

        def inside() -> None:
            # The IPv6 switches come before the link goes up, so that no router is ever listened to (CVE-2020-13401).
            _set_sysctl(f"net/ipv6/conf/{_INTERFACE}/accept_ra", "0")
            _set_sysctl(f"net/ipv6/conf/{_INTERFACE}/disable_ipv6", "1")
            with Netlink() as netlink:
                index = socket.if_nametoindex(_INTERFACE)
                netlink.run(
                    new_address(index, ipaddress.IPv4Interface(f"{endpoint.address}/{subnet.prefixlen}")),
                    link_up(index),
                    default_route(_gateway(subnet)),
                )

        within(netns, inside)

    def _firewall(self, record: _Record) -> Firewall:
        return Firewall(
            self._table,
            self._bridge,
            ipaddress.IPv4Network(record.subnet),
            forwards_only_ours=record.forwarding_was_off,
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[_Record]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self._directory / "lock"):
            yield self._load()

    def _load(self) -> _Record:
        boot = boot_id()
        try:
            found = json.loads((self._directory / "bridge.json").read_bytes())
        except FileNotFoundError:
            return _Record(boot)
        if found["boot"] != boot:  # interfaces and rules went with the last boot
            return _Record(boot, subnet=found["subnet"])
        endpoints = {
            name: Endpoint(**{**entry, "ports": tuple(PortMapping(**mapping) for mapping in entry["ports"])})
            for name, entry in found["endpoints"].items()
        }
        return _Record(boot, found["subnet"], found["forwarding_was_off"], endpoints)

    def _save(self, record: _Record) -> None:
        """Atomic; not synced to disk, since what it tells of does not outlive the kernel either."""
        staged = self._directory / "bridge.json.new"
        staged.write_text(json.dumps(asdict(record)))
        staged.rename(self._directory / "bridge.json")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn the kernel's refusals into errors with a remedy."""
    try:
        yield
    except PermissionError as error:
        raise MissingPrivilege(
            f"the network can't be set up: {error.strerror}",
            hint="needs CAP_NET_ADMIN: run as root, or use --network host",
        ) from error
    except OSError as error:
        raise NetworkError(
            f"the network can't be set up: {error.strerror}",
            hint="the kernel needs veth, bridge and nf_tables with nat; or use --network host or none",
        ) from error


def _exists(interface: str) -> bool:
    return interface in {name for _, name in socket.if_nameindex()}


def _gateway(subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Address:
    return subnet.network_address + 1


def _free_subnet(
    wanted: Sequence[ipaddress.IPv4Network], taken: Sequence[ipaddress.IPv4Network]
) -> ipaddress.IPv4Network:
    for candidate in wanted:
        if not any(candidate.overlaps(other) for other in taken):
            return candidate
    raise NetworkError("no subnet is free for the bridge", hint="the host's routes cover all of docker's address pools")


def _free_address(subnet: ipaddress.IPv4Network, endpoints: dict[str, Endpoint]) -> ipaddress.IPv4Address:
    taken = {endpoint.address for endpoint in endpoints.values()} | {str(_gateway(subnet))}
    for candidate in subnet.hosts():
        if str(candidate) not in taken:
            return candidate
    raise NetworkError(f"all addresses of {subnet} are in use", hint="remove containers that are not needed")


def _mac_for(address: ipaddress.IPv4Address) -> str:
    """Docker's scheme: a locally administered prefix and the address, so that caches of neighbours stay true."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)


def _sysctl(name: str) -> str:
    return Path("/proc/sys", name).read_text().strip()


def _set_sysctl(name: str, value: str) -> None:
    """Write one setting of the calling thread's network namespace; a kernel without IPv6 has no such file."""
    try:
        Path("/proc/sys", name).write_text(value)
    except FileNotFoundError:
        if not name.startswith("net/ipv6/"):
            raise
