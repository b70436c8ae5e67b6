"""Content by digest on the local disk: see store.py for the room's rules."""

from registry.storage.blobs import Ingest
from registry.storage.leases import Lease
from registry.storage.scrub import ScrubReport
from registry.storage.store import ContentStore
from registry.storage.uploads import Upload
from registry.storage.values import (
    ANYHOW,
    CacheEntry,
    Client,
    Collected,
    Damage,
    ExpiredTag,
    Precondition,
    Reason,
    StoredBlob,
    StoredImage,
    StoredManifest,
    StoredNamespace,
    StoredTag,
    TagChange,
    TagRule,
    TagState,
)

__all__ = [
    "ANYHOW",
    "CacheEntry",
    "Client",
    "Collected",
    "ContentStore",
    "Damage",
    "ExpiredTag",
    "Ingest",
    "Lease",
    "Precondition",
    "Reason",
    "ScrubReport",
    "StoredBlob",
    "StoredImage",
    "StoredManifest",
    "StoredNamespace",
    "StoredTag",
    "TagChange",
    "TagRule",
    "TagState",
    "Upload",
]
