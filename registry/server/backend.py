"""What the handlers need of a store, as two seams: metadata, and blobs with their uploads.

Gives:    the protocols Metadata, Blobs, UploadSession and Care, and Backend, which holds one of each.
Takes:    names, digests and tags that are checked already.
Promises: every method that may wait is a coroutine, so that a database or an object store across the network fits the
          same handlers. The local one (local.py) answers reads without ever yielding to the loop.
Not here: the content store of this machine (registry/storage), which the builder and the engine call directly.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from registry.model import Descriptor, Digest
from registry.storage import Client, Collected, Precondition, ScrubReport, StoredManifest, StoredNamespace

SMALL_BLOB = 64 * 1024  # bytes; up to here a read and one write beat opening a file for sendfile


class Metadata(Protocol):
    """Repositories, manifests and tags, and which blobs a repository may read."""

    async def ready(self) -> None:
        """Raises StoreError when requests can't be served."""

    async def has_repository(self, repo: str) -> bool: ...
    async def repositories(self, *, after: str, limit: int) -> list[str]:
        """In the order of their bytes; so are tags."""

    async def tags(self, repo: str, *, after: str, limit: int) -> list[str]:
        """Raises NameUnknown."""

    async def referrers(
        self, repo: str, digest: Digest, *, artifact_type: str | None, after: int, limit: int
    ) -> tuple[list[Descriptor], int | None]:
        """Manifests about `digest`, oldest first, and the cursor for `after` if there are more."""

    async def manifest(self, repo: str, ref: str | Digest) -> StoredManifest:
        """By tag (str) or digest. Raises ManifestUnknown."""

    async def put_manifest(
        self,
        repo: str,
        content: bytes,
        media_type: str,
        *,
        tags: Sequence[str],
        expected: Digest | None,
        sparse: bool,
        when: Precondition,
        by: Client,
    ) -> Digest:
        """All of it in one transaction, or nothing; see ContentStore.put_manifest for what is raised."""

    async def delete_manifest(self, repo: str, digest: Digest, *, when: Precondition, by: Client) -> None:
        """With all its tags. Raises ManifestUnknown, TagConflict, TagImmutable."""

    async def untag(self, repo: str, tag: str, *, when: Precondition, by: Client) -> None:
        """The tag only. Raises ManifestUnknown, TagConflict, TagImmutable."""

    async def may_read(self, repo: str, digest: Digest, *, pushing: bool) -> bool:
        """Whether the repository holds the blob; who asks while `pushing` finds it there for an hour to come."""

    async def unlink_blob(self, repo: str, digest: Digest) -> None:
        """Raises BlobUnknown."""

    async def mount(self, target: str, digest: Digest, source: str | None) -> bool:
        """Let `target` read what `source` may (None: any repository); False, and no word why, if that is nothing."""

    async def check_writable(self, repo: str) -> None:
        """Raises ReadOnly."""

    async def limited(self, repo: str) -> StoredNamespace | None:
        """What the repository's namespace may hold, and holds; None if it has no quota."""

    def note_pull(self, repo: str, digest: Digest) -> None:
        """A manifest was read. Never waits; written down later, by `Care`."""


class UploadSession(Protocol):
    """One request's hold on a resumable upload. End it with `flush`, also after an error."""

    @property
    def id(self) -> str: ...
    @property
    def repo(self) -> str: ...
    @property
    def size(self) -> int:
        """Bytes that arrived."""

    async def receive(self, pieces: AsyncIterator[bytes]) -> None:
        """Append all. Whatever came before an error counts. Raises ChunkOutOfOrder, DiskFull, QuotaExceeded."""

    async def finish(self, expected: Digest) -> Digest:
        """Make it a blob of its repository. Raises DigestInvalid: then the upload is gone."""

    async def cancel(self) -> None: ...
    def flush(self) -> None:
        """Record the progress, so that any process may continue."""


class Blobs(Protocol):
    """Bytes by digest. Says nothing about who may read them: Metadata.may_read does."""

    async def size(self, digest: Digest) -> int:
        """In bytes. Raises BlobUnknown, like the next two."""

    async def read_small(self, digest: Digest) -> bytes: ...
    async def open(self, digest: Digest) -> BinaryIO:
        """A file that the kernel can send from; the caller closes it."""

    async def start_upload(self, repo: str, algorithm: str) -> UploadSession: ...
    async def upload(self, repo: str, upload_id: str) -> UploadSession:
        """Raises UploadUnknown."""


class Care(Protocol):
    """What has to be done from time to time; safe in several servers at once."""

    async def take_notes(self) -> None:
        """Write down what `Metadata.note_pull` was told, and sum up what namespaces use."""

    async def collect(self) -> Collected:
        """Apply the retention rules, then free what nothing refers to."""

    async def scrub(self, bytes_per_second: float) -> ScrubReport:
        """Read what nobody has read for a week."""


@dataclass(frozen=True, slots=True)
class Backend:
    meta: Metadata
    blobs: Blobs
    care: Care
