"""Addresses to listen on, and who can reach them."""

import ipaddress
import socket

from registry.errors import RegistryError

BACKLOG = 1024  # connections that wait to be accepted


class ListenError(RegistryError):
    """The address can't be served at."""


def listen(address: str, idle: float) -> socket.socket:
    """Bind `host:port`. Raises ListenError."""
    host, port = split_address(address)
    try:
        (family, kind, protocol, _, where), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"can't listen on {address}: {error.strerror or error}", hint="give host:port") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit this: the kernel gives up a client that takes no byte for so long.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(idle * 1000))
        found.bind(where)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise ListenError(
            f"can't listen on {address}: {error.strerror}", hint="is another server there? --addr takes another port"
        ) from error
    found.setblocking(False)
    return found


def split_address(address: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `:port` (every address). Raises ListenError."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ListenError(f"not an address: {address!r}", hint="write host:port, as in 127.0.0.1:5000")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104  # asked for by ":port"


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`; a name counts only when it is localhost."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
