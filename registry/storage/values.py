"""What the store answers with: frozen values, no connection to it any more."""

from dataclasses import dataclass

from registry.model import Digest, ImageConfig, Manifest, Reference


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest or index as it came, byte for byte."""

    digest: Digest
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag and what it points to; in a listing of untagged manifests `tag` is empty."""

    repository: str
    tag: str
    digest: Digest
    media_type: str
    updated: float = 0.0  # seconds since 1970


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image for one platform, found in the store; `index_digest` if an index led to it."""

    reference: Reference
    digest: Digest
    manifest: Manifest
    config_digest: Digest
    config: ImageConfig
    index_digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection freed, or with `dry_run` would free."""

    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    leftovers: int = 0  # abandoned uploads, temporary files and files without a row


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A record of the build cache's index, as pruning and listings see it."""

    key: Digest
    kind: str  # of the caller's choosing
    record: bytes
    holds: tuple[Digest, ...]
    created: float  # seconds since 1970, as `used`
    used: float  # exact to a few minutes only


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob, and who needs it."""

    digest: Digest
    size: int
    linked: bool  # some repository has it
    cached: bool  # a record of the build cache speaks of it
    leased: bool  # somebody works with it
