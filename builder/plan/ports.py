"""EXPOSE: `[ip:][host:]port[-port][/proto]` → container ports. Pure."""

PROTOCOLS = ("tcp", "udp", "sctp")
_LARGEST = 65535
_DIGITS = 20  # zeros in front are allowed, but Python takes no number of thousands of digits


class PortError(ValueError):
    """Not a port specification; the message tells what is wrong with it."""


def expose(word: str) -> list[str]:
    """The ports that one word of EXPOSE names, as the image config spells them (`80/tcp`), ranges unrolled.

    An address and a host's port are allowed before the container's port and mean nothing: an image publishes nothing.
    """
    rest, _, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise PortError(f"unknown protocol {protocol!r} in {word!r}; use {', '.join(PROTOCOLS)}")
    *host, container = rest.split(":")
    first, last = _range(container, word)
    if address := ":".join(host[:-1]):
        _check_address(address, word)
    if host and host[-1]:
        host_first, host_last = _range(host[-1], word)
        if last != first and host_last - host_first != last - first:
            raise PortError(f"ranges of host and container differ in length in {word!r}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _check_address(text: str, word: str) -> None:
    from ipaddress import ip_address

    try:
        ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise PortError(f"not an address: {text[:80]!r} in {word[:80]!r}") from None


def _range(text: str, word: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    begin = _port(first, word)
    end = _port(last, word) if dash else begin
    if end < begin:
        raise PortError(f"range ends before it begins in {word!r}")
    return begin, end


def _port(text: str, word: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS or int(text) > _LARGEST:
        raise PortError(f"not a port: {text[:40]!r} in {word[:80]!r}")
    return int(text)
