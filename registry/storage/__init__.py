"""Content by digest on the local disk: see store.py for the room's rules."""

from registry.storage.blobs import Ingest
from registry.storage.leases import Lease
from registry.storage.store import ContentStore
from registry.storage.uploads import Upload
from registry.storage.values import (
    ANYHOW,
    CacheEntry,
    Collected,
    Precondition,
    StoredBlob,
    StoredImage,
    StoredManifest,
    StoredTag,
)

__all__ = [
    "ANYHOW",
    "CacheEntry",
    "Collected",
    "ContentStore",
    "Ingest",
    "Lease",
    "Precondition",
    "StoredBlob",
    "StoredImage",
    "StoredManifest",
    "StoredTag",
    "Upload",
]
