"""What the person who runs this machine says about registries: which may be spoken to in the clear, mirrors, own CAs.

Read from `registries.toml`, first /etc/pybuild, then the state root (which wins, registry by registry):

    [registry."registry.example.com:5000"]
    insecure = true                      # http allowed, certificates not checked
    mirrors = ["https://mirror.example.com", "mirror.lan:5000/hub"]
    ca = "/etc/ssl/example-ca.pem"       # beside the system's own
    private_redirects = true             # it may send us to private addresses (a local object store)
"""

import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from registry.errors import TransferError

FILE = "registries.toml"
SYSTEM_DIRECTORY = Path("/etc/pybuild")


class RegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is special about one registry, keyed by `host` or `host:port`."""

    insecure: bool = False
    mirrors: tuple[str, ...] = ()
    ca: str | None = None
    private_redirects: bool = False


class _File(msgspec.Struct, forbid_unknown_fields=True):
    registry: dict[str, RegistrySettings] = {}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How transfers behave. Times in seconds."""

    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    parallel: int = 4  # blobs in flight
    tries: int = 5  # of one request, and of one blob without progress
    backoff: float = 0.5  # before the second try; doubles, and gets some jitter
    longest_wait: float = 60.0  # whatever Retry-After says
    connect_timeout: float = 15.0
    read_timeout: float = 60.0  # silence on a connection
    commit_timeout: float = 600.0  # a registry may move a whole blob before it answers the last request
    chunk: int = 50 * 1024 * 1024  # bytes a request, where a registry refuses a blob in one piece
    pause: Callable[[float], None] = time.sleep

    def of(self, domain: str) -> RegistrySettings:
        return self.registries.get(domain, RegistrySettings())

    @classmethod
    def load(cls, root: Path | None = None) -> "ClientSettings":
        """Read the files that exist. Raises TransferError for one that is broken."""
        found: dict[str, RegistrySettings] = {}
        for directory in (SYSTEM_DIRECTORY, root):
            if directory is not None:
                found.update(_read(directory / FILE))
        return cls(registries=found)


def _read(path: Path) -> Mapping[str, RegistrySettings]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TransferError(f"can't read {path}: {error.strerror}", hint="make it readable, or remove it") from None
    try:
        return msgspec.convert(tomllib.loads(text.decode()), _File).registry
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise TransferError(
            f"{path}: {error}", hint='the form is [registry."host:port"] with insecure, mirrors, ca, private_redirects'
        ) from None


def waits(settings: ClientSettings) -> Iterator[float]:
    """How long to wait before each further try."""
    wait = settings.backoff
    for _ in range(settings.tries - 1):
        yield min(wait, settings.longest_wait)
        wait *= 2
