"""Where a registry may send us, and who may see credentials. Pure decisions over URLs.

The other end is not trusted: a Location, a redirect or a token realm that it names could point at a machine that only
we can reach (a cloud's metadata service), or at one that should never see our password.
"""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from registry.errors import TransferError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Home:
    """The registry that we were asked to speak to; the measure for all that it sends us to."""

    url: str  # scheme://host[:port], no path
    private_redirects: bool = False
    domain: str = ""  # what the settings call it, if that is not its host and port

    @property
    def host(self) -> str:
        return split(self.url).hostname or ""


def split(url: str) -> SplitResult:
    """The parts of a http(s) URL. Raises TransferError for anything else."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise TransferError(f"not an address of the web: {shown(url)}", hint="the registry answers nonsense")
    return parts


def shown(url: str) -> str:
    """`url` for an error message: without user, query and control characters, which may hold secrets or escapes."""
    text = "".join(letter for letter in url.partition("?")[0] if letter.isprintable())
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    return (f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}" if separator else text)[:200]


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what must be equal for credentials to travel along."""
    parts = split(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]


def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `host` spells, in any spelling a resolver takes (127.1, 0x7f000001); None for a name."""
    host = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeEncodeError):
            return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def is_loopback(host: str) -> bool:
    found = address(host)
    name = host.lower().rstrip(".")
    return found.is_loopback if found else name == "localhost" or name.endswith(".localhost")


def is_private(host: str) -> bool:
    """Whether `host` is an address literal that the open internet can't reach, or this machine."""
    found = address(host)
    return is_loopback(host) or (found is not None and (not found.is_global or found.is_multicast))


def check_target(home: Home, url: str, what: str) -> None:
    """Refuse to follow the registry at `home` to `url`.

    Raises:
        TransferError: from https to http, or from a public registry to a private address.
    """
    parts = split(url)
    if parts.scheme == "http" and home.url.startswith("https:"):
        raise TransferError(
            f"{what} of {home.host} leads from https to http: {shown(url)}", hint="the registry must stay on https"
        )
    host = parts.hostname or ""
    if host != home.host and is_private(host) and not (is_private(home.host) or home.private_redirects):
        raise TransferError(
            f"{what} of {home.host} leads to a private address: {shown(url)}",
            hint=f"if that is right, set private_redirects = true for {home.host} in registries.toml",
        )


def may_see_credentials(home: Home, realm: str) -> bool:
    """Whether a token service gets the user's password: the registry itself, anyone over TLS, or loopback to loopback.

    check_target comes first, so the realm of a registry on https is on https too.
    """
    host = split(realm).hostname or ""
    same = origin(realm) == origin(home.url)
    return same or realm.startswith("https:") or (is_loopback(host) and is_loopback(home.host))
