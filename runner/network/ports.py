"""Published ports: how they are written, and how a host's port is reserved."""

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass, replace

from runner.errors import NetworkError

_MAX_PORT = 65535
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - publishing a port on all addresses is what `-p 80` asks for
_PROTOCOLS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_FORM = re.compile(
    r"(?:(?:(?P<ip>\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]*\]):(?P<ip_host>[\d-]*)|(?P<host>[\d-]+)):)?"
    r"(?P<container>\d+(?:-\d+)?)(?:/(?P<protocol>[a-zA-Z]+))?"
)
_HINT = "write [HOST_IP:][HOST_PORT:]CONTAINER_PORT[/tcp|udp], like 127.0.0.1:8080:80"


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host that leads to one of a container. `host_port` 0: any free one; `host_ip` "": all addresses."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0

    @classmethod
    def parse(cls, text: str) -> "tuple[PortMapping, ...]":
        """Read `-p`: `80`, `8080:80`, `127.0.0.1:8080:80/udp`, `127.0.0.1::80`, ranges of equal length.

        Raises:
            NetworkError: not of that form.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise NetworkError(f"not a port mapping: {text[:60]!r}", hint=_HINT)
        protocol = (match["protocol"] or "tcp").lower()
        if protocol not in _PROTOCOLS:
            raise NetworkError(f"protocol {protocol!r} can't be published", hint="use tcp or udp")
        host_ip = match["ip"] or ""
        if host_ip.startswith("["):
            raise NetworkError(f"publishing on the IPv6 address {host_ip} is not supported", hint="use an IPv4 address")
        if host_ip:
            _checked_address(host_ip)
        inner = _port_range(match["container"], text)
        outer = _port_range(match["ip_host"] or match["host"] or "", text)
        if not outer:
            return tuple(cls(port, protocol, host_ip) for port in inner)
        if len(inner) == 1 < len(outer):
            return (cls(inner[0], protocol, host_ip, outer[0]),)
        if len(inner) != len(outer):
            raise NetworkError(f"port ranges of different length in {text[:60]!r}", hint=_HINT)
        return tuple(cls(port, protocol, host_ip, host) for port, host in zip(inner, outer, strict=True))

    @property
    def everywhere(self) -> bool:
        """Whether the port is open on all addresses of the host."""
        return self.host_ip in {"", _EVERYWHERE}

    def __str__(self) -> str:
        """As `ps` shows it."""
        return f"{self.host_ip or _EVERYWHERE}:{self.host_port}->{self.container_port}/{self.protocol}"


def _port_range(text: str, whole: str) -> range:
    if not text:
        return range(0)
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise NetworkError(f"not a port: {text[:20]!r} in {whole[:60]!r}", hint=_HINT)
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= _MAX_PORT:
        raise NetworkError(f"port out of range in {whole[:60]!r}", hint="ports are 1 to 65535, the lower first")
    return range(low, high + 1)


def _checked_address(text: str) -> None:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise NetworkError(f"not an address: {text}", hint=_HINT) from None


def reserve(mapping: PortMapping) -> tuple[PortMapping, socket.socket]:
    """Bind the host's port, so that nobody else gets it; return the mapping with the port that was had.

    The socket only holds the port, it never accepts: packets are led to the container before they reach it.
    No SO_REUSEADDR: a port that another program listens on must be refused.

    Raises:
        NetworkError: the port is taken, or the address is not this machine's.
    """
    holder = socket.socket(socket.AF_INET, _PROTOCOLS[mapping.protocol] | socket.SOCK_CLOEXEC)
    try:
        holder.bind((mapping.host_ip, mapping.host_port))
    except OSError as error:
        holder.close()
        raise NetworkError(_bind_refusal(mapping, error), hint=_bind_hint(error)) from None
    port: int = holder.getsockname()[1]
    return replace(mapping, host_port=port), holder


def _bind_refusal(mapping: PortMapping, error: OSError) -> str:
    where = f"{mapping.host_ip or _EVERYWHERE}:{mapping.host_port}"
    if error.errno == errno.EADDRINUSE:
        return f"Bind for {where} failed: port is already allocated"
    return f"Bind for {where} failed: {error.strerror}"


def _bind_hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "choose another host port, or leave it out to get a free one"
    return "the address must be one of this machine's"
