"""The content store: blobs, manifests, tags, uploads and the build cache's index below one root, for everybody.

Gives:    ContentStore; builder, engine, registry server and client use this one class, from many threads and processes.
Takes:    digests, bytes, and repository names as `Reference.repository` writes them; never an HTTP request.
Promises: what a call returned is on disk (a begun upload excepted: it may have to begin anew); a crash at any line
          leaves nothing half-done, at most garbage that `collect` removes; no bytes move while the database is locked.
Not here: who may do it (registry/server), how content travels (registry/client), what a layer holds (builder/layers).

Keeping new content from the collector: a local caller ingests under a `lease` and ends with `put_manifest(adopt=True)`;
the registry server uses uploads, `mount` and `link_blob`, which leave a lease of an hour on the repository's link.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from registry.errors import StoreError
from registry.model import Descriptor, Digest
from registry.storage import schema
from registry.storage.blobs import SMALL, Blobs, Ingest
from registry.storage.cache import CacheIndex
from registry.storage.collect import Collector
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.explain import Explainer
from registry.storage.failures import explained
from registry.storage.files import Files, sync_directory
from registry.storage.history import History
from registry.storage.leases import Lease
from registry.storage.manifests import Manifests
from registry.storage.namespaces import Namespaces
from registry.storage.repositories import Repositories
from registry.storage.retention import Retention
from registry.storage.schema import Version
from registry.storage.scrub import Scrubber
from registry.storage.tagrules import TagRules
from registry.storage.uploads import Upload, Uploads
from registry.storage.values import (
    ANYHOW,
    CacheEntry,
    Client,
    Collected,
    Precondition,
    Reason,
    StoredBlob,
    StoredManifest,
    StoredTag,
)

LAYOUT = "1"
GRACE_SECONDS = 3600.0


class ContentStore:
    def __init__(self, root: Path, database: Database) -> None:
        """Use `open`."""
        self.root = root
        self._database = database
        self._blobs = Blobs(database, Files(root))
        self._repositories = Repositories(database)
        self._manifests = Manifests(database, self._repositories)
        self.namespaces = Namespaces(database)
        self._uploads = Uploads(database, self._blobs, self.namespaces)
        self._cache = CacheIndex(database)
        self._collector = Collector(database, self._blobs.files)
        # what the operator of a registry decides and asks
        self.tag_rules = TagRules(database)
        self.retention = Retention(database, self.tag_rules, self._manifests)
        self.history = History(database, self._manifests)
        self.scrubber = Scrubber(database, self._blobs.files)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open the store below `root`, made if absent. Raises StoreError: other layout, no permission, no space."""
        root = root.absolute()
        with explained(root):
            if not _is_current(root):
                with _set_up(root):
                    Database.open(root).close()
            return cls(root, Database.open(root))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # blobs

    def has(self, digest: Digest) -> bool:
        return self._blobs.has(digest)

    def size(self, digest: Digest) -> int:
        """In bytes. Raises BlobUnknown, like the next three."""
        return self._blobs.size(digest)

    def path(self, digest: Digest) -> Path:
        """The blob's file, to be read only."""
        return self._blobs.path(digest)

    def open_blob(self, digest: Digest) -> BinaryIO:
        return self._blobs.open(digest)

    def read(self, digest: Digest, limit: int = SMALL) -> bytes:
        """A small blob, verified once more. Raises SizeInvalid beyond `limit`, DigestInvalid if the disk lies."""
        return self._blobs.read(digest, limit)

    def blobs(self) -> list[StoredBlob]:
        """Every blob, with who needs it."""
        return self._blobs.all()

    def put(self, content: bytes, expected: Digest | None = None, lease: Lease | None = None) -> Digest:
        return self._blobs.put(content, expected, lease)

    def ingest(self, algorithm: str = "sha256", lease: Lease | None = None) -> Ingest:
        """A context that takes a blob in pieces: `write` them, then `commit`; leaving without commit discards.

        Raises:
            DigestInvalid, SizeInvalid: from `commit`; the content is not what was announced.
            DiskFull: from any step; nothing is left behind.
        """
        return self._blobs.ingest(algorithm, lease)

    def lease(self, seconds: float = 3600) -> Lease:
        """A context that keeps what is ingested under it, or held by it, from collection."""
        return Lease(self._database, seconds)

    # repositories

    def repositories(self, *, after: str = "", limit: int | None = None) -> list[str]:
        """Names of those that have a manifest, in the order of their bytes."""
        return self._repositories.names(after, limit)

    def has_repository(self, repo: str) -> bool:
        return self._repositories.exists(repo)

    def link_blob(self, repo: str, *digests: Digest) -> None:
        """Let a repository read stored blobs, and keep them for an hour. Raises BlobUnknown."""
        self._repositories.link(repo, digests)

    def repo_has(self, repo: str, digest: Digest, *, extend: bool = False) -> bool:
        """Whether the repository may read it; `extend` renews the link's hour, for a caller who is about to push."""
        return self._repositories.extend(repo, digest) if extend else self._repositories.has(repo, digest)

    def unlink_blob(self, repo: str, digest: Digest) -> None:
        self._repositories.unlink(repo, digest)

    def mount(self, target: str, digest: Digest, source: str | None) -> bool:
        """Let `target` read what `source` may (None: anybody here); False if that repository may not."""
        return self._repositories.mount(target, digest, source)

    # manifests and tags

    def put_manifest(
        self,
        repo: str,
        content: bytes,
        media_type: str,
        *,
        tags: Sequence[str] = (),
        expected: Digest | None = None,
        sparse: bool = False,
        adopt: bool = False,
        when: Precondition = ANYHOW,
        by: Client | None = None,
    ) -> Digest:
        """Store a manifest or index and point tags to it: all in one transaction, or nothing.

        Args:
            repo: the repository; made if absent.
            content: the exact bytes.
            media_type: the Content-Type they came with.
            tags: all to be moved here.
            expected: its digest, if the caller was told; also chooses the algorithm.
            sparse: an index may name images that are not here.
            adopt: link what the store holds of its children to the repository first. For callers on this machine, who
                may read the whole store; never for a client of the registry.
            when: holds for each tag, or without tags for the manifest itself.
            by: a client of the registry, bound by rules and quotas; None: a command of this machine.

        Raises:
            ManifestInvalid, DigestInvalid, SizeInvalid, ManifestTooLarge, TagInvalid: the content is wrong.
            ManifestBlobUnknown: the repository lacks a child.
            TagConflict: a condition is not met. TagImmutable, QuotaExceeded: a client may not.
        """
        return self._manifests.put(
            repo, content, media_type, tags=tags, expected=expected, sparse=sparse, adopt=adopt, when=when, by=by
        )

    def manifest(self, repo: str, ref: str | Digest) -> StoredManifest:
        """By tag (str) or digest. Raises ManifestUnknown."""
        return self._manifests.get(repo, ref)

    def delete_manifest(
        self, repo: str, digest: Digest, *, when: Precondition = ANYHOW, by: Client | None = None
    ) -> None:
        """Remove a manifest and all its tags. Raises ManifestUnknown, TagConflict, TagImmutable."""
        self._manifests.delete(repo, digest, when, by)

    def tags(self, repo: str, *, after: str = "", limit: int | None = None) -> list[str]:
        """In the order of their bytes. Raises NameUnknown."""
        return self._manifests.tags(repo, after, limit)

    def tag(self, repo: str, tag: str, digest: Digest, *, when: Precondition = ANYHOW) -> None:
        """Point a tag to a manifest of the same repository. Raises ManifestUnknown, TagInvalid, TagConflict."""
        self._manifests.tag(repo, tag, digest, when, None)

    def untag(self, repo: str, tag: str, *, when: Precondition = ANYHOW, by: Client | None = None) -> None:
        """Remove the tag only. Raises ManifestUnknown, TagConflict, TagImmutable."""
        self._manifests.untag(repo, tag, when, by)

    def note_pulls(self, pulls: Mapping[tuple[str, Digest], float]) -> None:
        """When (seconds since 1970) manifests were last pulled; a power cut may lose it."""
        self._manifests.note_pulls(pulls)

    def images(self) -> list[StoredTag]:
        """Every tag of every repository."""
        return self._manifests.images()

    def manifest_page(
        self, *, after: int = 0, limit: int
    ) -> tuple[list[tuple[str, StoredManifest, list[str]]], int | None]:
        """(repository, manifest, its tags) in the order they came, and the cursor for `after`; None at the end."""
        return self._manifests.page(after, limit)

    def untagged(self) -> list[StoredTag]:
        """Manifests that no tag, no index and no present subject accounts for; `tag` is empty."""
        return self._manifests.untagged()

    def referrers(
        self, repo: str, digest: Digest, *, artifact_type: str | None = None, after: int = 0, limit: int | None = None
    ) -> tuple[list[Descriptor], int | None]:
        """Manifests about `digest`, oldest first, and the cursor for `after` if there are more."""
        return self._manifests.referrers(repo, digest, artifact_type, after, limit)

    def find_manifests(self, kind: str, prefix: str) -> list[tuple[str, Digest]]:
        """(repository, digest) of manifests whose digest (kind "manifest") or config digest ("config") begins so."""
        return self._manifests.find(kind, prefix)

    # uploads

    def start_upload(self, repo: str, algorithm: str = "sha256") -> Upload:
        return self._uploads.start(repo, algorithm)

    def upload(self, repo: str, upload_id: str) -> Upload:
        """Continue one, in any process. Raises UploadUnknown."""
        return self._uploads.find(repo, upload_id)

    # the build cache's index

    def cache_get(self, key: Digest) -> bytes | None:
        return self._cache.get(key)

    def cache_put(
        self, key: Digest, record: bytes, holds: Sequence[Digest] = (), *, kind: str = "step", durable: bool = True
    ) -> None:
        """Keep a record. Raises BlobUnknown.

        Args:
            key: under which it is found again; a record that is there is replaced.
            record: opaque.
            holds: blobs that it speaks of; they are kept from collection.
            kind: what it is about, for those who list or prune.
            durable: wait for the disk; False for what costs nobody anything if a power cut loses it.
        """
        self._cache.put(key, record, holds, kind, durable=durable)

    def cache_touch(self, keys: Sequence[Digest]) -> None:
        """Note that these records were of use; costs a write only for those not noted for some minutes."""
        self._cache.touch(keys)

    def cache_entries(self) -> list[CacheEntry]:
        """Every record, the longest unused first."""
        return self._cache.entries()

    def cache_drop(self, keys: Sequence[Digest], *, used_before: float = float("inf")) -> int:
        """Forget records, but for those that were of use after that time; how many went."""
        return self._cache.drop(keys, used_before)

    def cache_clear(self) -> None:
        self._cache.clear()

    # collection

    def collect(
        self, *, grace_seconds: float = GRACE_SECONDS, untagged_seconds: float | None = None, dry_run: bool = False
    ) -> Collected:
        """Free what nothing refers to. Safe at any time, also in several processes at once.

        Args:
            grace_seconds: leave blobs alone that were stored within this time, though no link or lease holds them.
            untagged_seconds: also remove manifests pushed longer ago than this that no tag, index or subject accounts
                for; None keeps them.
            dry_run: only say what would go.
        """
        run = self._collector.preview if dry_run else self._collector.run
        return run(grace_seconds, untagged_seconds)

    def explain(self, digest: Digest, *, grace_seconds: float = GRACE_SECONDS) -> list[Reason]:
        """Why collection leaves a blob or manifest alone, and until when. Raises BlobUnknown."""
        return Explainer(self._database).explain(digest, grace_seconds)

    def migrate(self, *, contract: bool = False) -> Version:
        """The schema's version; with `contract`, after what no program needs any more was taken away."""
        with self._database.write() as transaction:
            return schema.contract(transaction) if contract else schema.schema_version(transaction)


def _is_current(root: Path) -> bool:
    """Whether a store of our layout lies there. Raises StoreError for one of another layout."""
    try:
        found = (root / "VERSION").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return False
    if found != LAYOUT:
        raise StoreError(
            f"the store at {root} has layout version {found[:40]!r}, this pybuild reads version {LAYOUT}",
            hint="use the pybuild that made it, or choose another --root",
        )
    return True


@contextmanager
def _set_up(root: Path) -> Iterator[None]:
    """Make the directories; let the caller fill them; then VERSION says that all is there. One process at a time."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        for name in ("blobs", "uploads"):
            os.makedirs(root / name, mode=0o700, exist_ok=True)
        crash_point("open-directories")
        yield
        crash_point("open-database")
        draft = root / "VERSION.new"
        with open(draft, "w", encoding="utf-8") as file:
            file.write(f"{LAYOUT}\n")
            file.flush()
            os.fsync(file.fileno())
        crash_point("open-draft")
        os.replace(draft, root / "VERSION")
        os.fsync(directory)
    finally:
        os.close(directory)
    sync_directory(root.parent)
