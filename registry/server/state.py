"""What all requests of one server share, and one request as its handler sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from registry.server.backend import Backend, Blobs, Metadata
from registry.server.transfer import Body
from registry.storage import Client


@dataclass(frozen=True, slots=True)
class Settings:
    idle: float = 60.0  # seconds without progress after which a client is given up
    grace: float = 30.0  # seconds that requests in flight get when the server stops
    small_blobs: int = 16 * 1024 * 1024  # bytes of small blobs kept in memory
    sparse_indexes: bool = False  # accept an index whose images are not all there
    restorable: float = 7 * 24 * 3600.0  # seconds for which what clients remove can come back
    collect_every: float = 3600.0  # seconds between two collections of garbage; 0: never
    scrub_rate: float = 4 * 1024 * 1024.0  # bytes a second read to find damage; 0: none


@dataclass(slots=True)
class State:
    backend: Backend
    settings: Settings
    stopping: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the repository it is about (checked), and what it says (not checked)."""

    state: State
    name: str
    argument: str  # tag, digest or upload's id
    request: web.BaseRequest
    body: Body

    @property
    def meta(self) -> Metadata:
        return self.state.backend.meta

    @property
    def blobs(self) -> Blobs:
        return self.state.backend.blobs

    @property
    def client(self) -> Client:
        """Who asks. Everybody is nobody in particular, as long as there are no accounts."""
        return Client("", self.state.settings.restorable)

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    @property
    def tags(self) -> list[str]:
        """The values of `tag`, which may be given several times."""
        return self.request.query.getall("tag", [])
