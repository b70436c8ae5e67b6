"""The backend of one machine: the content store below a root, behind the seams of backend.py.

Reads are a few microseconds of SQLite and run on the loop; whatever waits for the disk runs in a thread. Hashing and
writing one upload inline is fastest; with more at once, batches go to threads, where hashing, which frees the
interpreter lock, runs beside the loop and beside the other uploads.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import BinaryIO

from registry.errors import DigestInvalid, SizeInvalid, StoreError
from registry.model import Descriptor, Digest
from registry.server.backend import SMALL_BLOB, Backend, UploadSession
from registry.server.threads import in_thread
from registry.storage import (
    Client,
    Collected,
    ContentStore,
    Precondition,
    ScrubReport,
    StoredManifest,
    StoredNamespace,
    Upload,
)

BATCH = 1024 * 1024  # bytes that are worth a thread hop
SCRUB_AGE = 7 * 24 * 3600.0  # seconds
Pulls = dict[tuple[str, Digest], float]  # (repository, manifest) → seconds since 1970
_ENTRY = 512  # bytes that keeping a small blob takes beside its content, roughly


def local_backend(store: ContentStore, *, small_blobs: int, restorable: float) -> Backend:
    """The store as the server needs it.

    Args:
        store: stays open as long.
        small_blobs: bytes of small blobs that are kept in memory.
        restorable: seconds for which manifests and tags that went can come back.
    """
    pulls: Pulls = {}
    return Backend(LocalMetadata(store, pulls), LocalBlobs(store, small_blobs), LocalCare(store, pulls, restorable))


class LocalMetadata:
    def __init__(self, store: ContentStore, pulls: Pulls) -> None:
        self._store = store
        self._pulls = pulls

    async def ready(self) -> None:
        self._store.repositories(limit=1)

    async def has_repository(self, repo: str) -> bool:
        return self._store.has_repository(repo)

    async def repositories(self, *, after: str, limit: int) -> list[str]:
        return self._store.repositories(after=after, limit=limit)

    async def tags(self, repo: str, *, after: str, limit: int) -> list[str]:
        return self._store.tags(repo, after=after, limit=limit)

    async def referrers(
        self, repo: str, digest: Digest, *, artifact_type: str | None, after: int, limit: int
    ) -> tuple[list[Descriptor], int | None]:
        return self._store.referrers(repo, digest, artifact_type=artifact_type, after=after, limit=limit)

    async def manifest(self, repo: str, ref: str | Digest) -> StoredManifest:
        return self._store.manifest(repo, ref)

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
        return await in_thread(
            self._store.put_manifest, repo, content, media_type, tags=tags, expected=expected, sparse=sparse,
            when=when, by=by,
        )  # fmt: skip

    async def delete_manifest(self, repo: str, digest: Digest, *, when: Precondition, by: Client) -> None:
        await in_thread(self._store.delete_manifest, repo, digest, when=when, by=by)

    async def untag(self, repo: str, tag: str, *, when: Precondition, by: Client) -> None:
        await in_thread(self._store.untag, repo, tag, when=when, by=by)

    async def may_read(self, repo: str, digest: Digest, *, pushing: bool) -> bool:
        if not pushing:
            return self._store.repo_has(repo, digest)
        return await in_thread(self._store.repo_has, repo, digest, extend=True)

    async def unlink_blob(self, repo: str, digest: Digest) -> None:
        await in_thread(self._store.unlink_blob, repo, digest)

    async def mount(self, target: str, digest: Digest, source: str | None) -> bool:
        return await in_thread(self._store.mount, target, digest, source)

    async def check_writable(self, repo: str) -> None:
        self._store.namespaces.check_writable(repo)

    async def limited(self, repo: str) -> StoredNamespace | None:
        return self._store.namespaces.limited(repo)

    def note_pull(self, repo: str, digest: Digest) -> None:
        self._pulls[repo, digest] = time.time()


class LocalBlobs:
    def __init__(self, store: ContentStore, small_blobs: int) -> None:
        self._store = store
        self._small = SmallBlobs(store, small_blobs)
        self.receiving = 0  # uploads whose bodies come in now

    async def size(self, digest: Digest) -> int:
        return self._store.size(digest)

    async def read_small(self, digest: Digest) -> bytes:
        return self._small.read(digest)

    async def open(self, digest: Digest) -> BinaryIO:
        return self._store.open_blob(digest)

    async def start_upload(self, repo: str, algorithm: str) -> UploadSession:
        return LocalUpload(self, await in_thread(self._store.start_upload, repo, algorithm))

    async def upload(self, repo: str, upload_id: str) -> UploadSession:
        return LocalUpload(self, self._store.upload(repo, upload_id))


class LocalUpload:
    def __init__(self, blobs: LocalBlobs, upload: Upload) -> None:
        self._blobs = blobs
        self._upload = upload

    @property
    def id(self) -> str:
        return self._upload.id

    @property
    def repo(self) -> str:
        return self._upload.repo

    @property
    def size(self) -> int:
        return self._upload.size

    async def receive(self, pieces: AsyncIterator[bytes]) -> None:
        self._blobs.receiving += 1
        try:
            await self._receive(pieces)
        finally:
            self._blobs.receiving -= 1

    async def _receive(self, pieces: AsyncIterator[bytes]) -> None:
        upload = self._upload
        pending: list[bytes] = []
        size = 0
        resumed = upload.size > 0  # maybe by another process, which then first reads what is there
        try:
            async for piece in pieces:
                if self._blobs.receiving == 1 and not pending and not resumed:
                    upload.append(piece)
                    continue
                pending.append(piece)
                size += len(piece)
                if size >= BATCH or resumed:
                    batch, pending, size, resumed = pending, [], 0, False
                    await in_thread(_append_all, upload, batch)
        finally:
            if pending:
                await in_thread(_append_all, upload, pending)

    async def finish(self, expected: Digest) -> Digest:
        return await in_thread(self._upload.finish, expected)

    async def cancel(self) -> None:
        await in_thread(self._upload.cancel)

    def flush(self) -> None:
        self._upload.flush()


def _append_all(upload: Upload, pieces: list[bytes]) -> None:
    for piece in pieces:
        upload.append(piece)


class LocalCare:
    def __init__(self, store: ContentStore, pulls: Pulls, restorable: float) -> None:
        self._store = store
        self._pulls = pulls
        self._restorable = restorable

    async def take_notes(self) -> None:
        noted = dict(self._pulls)
        self._pulls.clear()
        if noted:
            await in_thread(self._store.note_pulls, noted)
        await in_thread(self._store.namespaces.fold)

    async def collect(self) -> Collected:
        by = Client("retention", self._restorable)
        await in_thread(self._store.retention.run, by=by)
        return await in_thread(self._store.collect)

    async def scrub(self, bytes_per_second: float) -> ScrubReport:
        report = ScrubReport()
        steps = self._store.scrubber.steps(report, older_than=SCRUB_AGE)
        while (size := await in_thread(next, steps, None)) is not None:  # noqa: ASYNC110 - a pace, not a poll
            await asyncio.sleep(size / bytes_per_second)
        return report


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
