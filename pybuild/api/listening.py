"""Where the daemon listens: unix sockets, TCP, or sockets that systemd has opened.

Promises: a socket file is replaced only when nobody listens there; TCP without certificates of clients is refused but
on loopback: whoever reaches the daemon is root on this machine.
"""

import contextlib
import grp
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pybuild.errors import EngineError, UsageError
from runner.kernel.locks import locked

BACKLOG = 1024
_FIRST_PASSED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files: our certificate and key, and the authority that signs clients' certificates."""

    certificate: Path
    key: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """Raises EngineError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            raise EngineError(
                f"the certificates can't be used: {error}", hint="check --tlscert, --tlskey and --tlscacert"
            ) from None
        return context


@dataclass(frozen=True, slots=True)
class Listening:
    sock: socket.socket
    tls: ssl.SSLContext | None = None
    path: Path | None = None  # of a unix socket that we made: removed at the end

    def close(self) -> None:
        self.sock.close()
        if self.path:
            self.path.unlink(missing_ok=True)

    def __str__(self) -> str:
        name = self.sock.getsockname()
        if isinstance(name, str):
            return f"unix://{name}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"tcp://{host}:{name[1]}"


def listen(address: str, *, group: str, tls: Tls | None, environment: Mapping[str, str]) -> list[Listening]:
    """Listen at `unix://PATH`, `tcp://HOST:PORT` or `fd://`. Raises UsageError, EngineError."""
    kind, _, rest = address.partition("://")
    if kind == "unix":
        return [_unix(Path(rest), group)]
    if kind == "tcp":
        return [_tcp(rest, tls)]
    if kind == "fd":
        return _passed(environment)
    raise UsageError(
        f"not an address to listen on: {address!r}", hint="write unix:///path, tcp://127.0.0.1:2375 or fd://"
    )


def _unix(path: Path, group: str) -> Listening:
    if not path.is_absolute():
        raise UsageError(f"not an absolute path: unix://{path}", hint="write three slashes, as in unix:///run/x.sock")
    owner = _group(group)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            if _somebody_listens(path):
                raise EngineError(f"somebody listens on {path} already", hint="stop that daemon, or give another -H")
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            before = os.umask(0o777)  # nobody may connect before owner and mode are right
            try:
                found.bind(str(path))
            finally:
                os.umask(before)
            if owner >= 0:
                os.chown(path, 0 if os.geteuid() == 0 else -1, owner)
            path.chmod(0o660)
            found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise EngineError(f"can't listen on {path}: {error.strerror or error}", hint="give another -H") from error
    except BaseException:
        found.close()
        raise
    return Listening(found, path=path)


def _group(name: str) -> int:
    """Its number; -1 for none, and for one that is not there (then only root may connect)."""
    if not name:
        return -1
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return -1


def _somebody_listens(path: Path) -> bool:
    if not path.is_socket():
        if os.path.lexists(path):
            raise EngineError(f"{path} is there, and is no socket", hint="remove it, or give another -H")
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def _tcp(rest: str, tls: Tls | None) -> Listening:
    parts = urlsplit(f"//{rest}")
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or port is None or parts.path not in {"", "/"}:
        raise UsageError(f"not an address to listen on: tcp://{rest}", hint="write tcp://127.0.0.1:2375")
    if tls is None and not _is_loopback(host):
        raise UsageError(
            f"whoever reaches tcp://{rest} would be root here",
            hint="ask clients for certificates (--tlsverify), or listen on 127.0.0.1 or a unix socket",
        )
    try:
        (family, kind, protocol, _, where), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(where)
        found.listen(BACKLOG)
    except OSError as error:
        raise EngineError(f"can't listen on tcp://{rest}: {error.strerror or error}", hint="give another -H") from error
    return Listening(found, tls.context() if tls else None)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _passed(environment: Mapping[str, str]) -> list[Listening]:
    """Sockets that systemd opened for us (sd_listen_fds(3)); only unix ones, whose rights it has set."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or not int(count):
        raise UsageError("no sockets were passed to this process", hint="fd:// is for systemd's socket activation")
    found = [socket.socket(fileno=number) for number in range(_FIRST_PASSED, _FIRST_PASSED + int(count))]
    for one in found:
        one.set_inheritable(False)
        if one.family != socket.AF_UNIX:
            raise UsageError("a socket that was passed is no unix socket", hint="use ListenStream=/run/pybuild.sock")
    return [Listening(one) for one in found]


def notify(environment: Mapping[str, str], state: str) -> None:
    """Tell systemd how we are, if it asked (sd_notify(3))."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sock.sendall(state.encode())
