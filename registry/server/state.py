"""What all requests of one server share, and one request as its handler sees it."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from registry.errors import DigestInvalid, SizeInvalid, StoreError
from registry.model import Digest
from registry.server.receiving import Receiver
from registry.server.transfer import Body
from registry.storage import ContentStore

SMALL_BLOB = 64 * 1024  # bytes; up to here a read and one write beat opening a file for sendfile
_ENTRY = 512  # bytes that keeping one takes beside its content, roughly


class SmallBlobs:
    """The content of small blobs by digest, least recently used first to go. Says nothing about who may read them."""

    def __init__(self, store: ContentStore, capacity: int) -> None:
        self._store = store
        self._left = capacity  # bytes
        self._kept: OrderedDict[Digest, bytes] = OrderedDict()

    def read(self, digest: Digest) -> bytes:
        """Raises BlobUnknown; StoreError if the disk holds something else under this digest."""
        if (content := self._kept.get(digest)) is not None:
            self._kept.move_to_end(digest)
            return content
        try:
            content = self._store.read(digest, SMALL_BLOB)
        except (DigestInvalid, SizeInvalid) as error:  # an error of the client's when it pushes, of the disk's here
            raise StoreError(str(error), hint=error.hint) from error
        self._kept[digest] = content
        self._left -= len(content) + _ENTRY
        while self._left < 0:
            self._left += len(self._kept.popitem(last=False)[1]) + _ENTRY
        return content


@dataclass(frozen=True, slots=True)
class Settings:
    idle: float = 60.0  # seconds without progress after which a client is given up
    grace: float = 30.0  # seconds that requests in flight get when the server stops
    small_blobs: int = 16 * 1024 * 1024  # bytes of small blobs kept in memory
    sparse_indexes: bool = False  # accept an index whose images are not all there


@dataclass(slots=True)
class State:
    store: ContentStore
    settings: Settings
    receiver: Receiver
    small: SmallBlobs
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
    def store(self) -> ContentStore:
        return self.state.store

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
