"""The text of a container's /etc/resolv.conf and /etc/hosts. Pure."""

from collections.abc import Sequence

FALLBACK_SERVERS = ("8.8.8.8", "8.8.4.4")


def resolv_conf(
    host: str, *, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """The host's resolv.conf as a container with a network of its own can use it.

    Servers on the host's loopback can't be reached from there and are left out; with none left, public ones stand in.
    What is given (`--dns`, `--dns-search`, `--dns-option`) replaces the host's.
    """
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in host.splitlines():
        key, *values = line.partition("#")[0].partition(";")[0].split()[:20] or [""]
        if key == "nameserver":
            found[key] += values[:1]
        elif key == "domain":
            found["search"] = values[:1]
        elif key in found:
            found[key] = values
    reachable = [server for server in found["nameserver"] if not _is_loopback(server)]
    chosen = list(servers) or reachable or list(FALLBACK_SERVERS)
    lines = [f"nameserver {server}" for server in chosen]
    if domains := [domain for domain in (search or found["search"]) if domain != "."]:
        lines.append("search " + " ".join(domains))
    if flags := list(options) or found["options"]:
        lines.append("options " + " ".join(flags))
    return "\n".join(lines) + "\n"


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def hosts_file(hostname: str, address: str = "", extra: Sequence[tuple[str, str]] = ()) -> str:
    """localhost, the container itself, and what `--add-host NAME:ADDRESS` adds (pairs of name, address)."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "ff00::0\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    lines += [f"{where}\t{name}" for name, where in extra]
    if address and hostname:
        lines.append(f"{address}\t{hostname}")
    return "\n".join(lines) + "\n"
