"""What the store answers with: frozen values, no connection to it any more."""

from dataclasses import dataclass

from registry.errors import TagConflict
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


@dataclass(frozen=True, slots=True)
class Precondition:
    """Where a tag must be before it is moved or removed, looked at in the very transaction that changes it.

    The form is that of RFC 9110, 13.1 (If-Match, If-None-Match). By default anything is fine.
    """

    one_of: frozenset[Digest] | None = None  # it must exist, at one of these; None: no matter
    none_of: frozenset[Digest] = frozenset()  # it must not be at one of these
    must_exist: bool = False
    must_be_new: bool = False

    def check(self, what: str, now: Digest | None) -> None:
        """Raises TagConflict. `what` is named in its message; `now` is where it is, None if it does not exist."""
        if now is None:
            if self.must_exist or self.one_of is not None:
                raise TagConflict(f"{what} does not exist", hint="look at it again, then retry")
            return
        if self.must_be_new:
            raise TagConflict(f"{what} exists already, at {now}", hint="choose another tag, or allow it to move")
        if (self.one_of is not None and now not in self.one_of) or now in self.none_of:
            raise TagConflict(f"{what} is at {now} now", hint="look at it again, then retry")


ANYHOW = Precondition()


@dataclass(frozen=True, slots=True)
class Client:
    """Who changes something over the network: bound by rules and quotas, and what it takes away can come back.

    The commands of the machine that holds the store act without one: no rule binds them, and what they remove is gone.
    """

    name: str = ""
    restorable: float = 0.0  # seconds for which what it removes can come back


@dataclass(frozen=True, slots=True)
class StoredNamespace:
    """The first component of repository names; empty for repositories at the top, `*` for the whole registry."""

    name: str
    quota: int | None  # bytes
    used: int  # bytes
    read_only: bool


@dataclass(frozen=True, slots=True)
class TagRule:
    """A rule for the tags and repositories that its globs match; of a retain rule, each of the three keeps a tag."""

    kind: str  # "immutable" or "retain"
    repositories: str
    tags: str
    keep_last: int | None = None
    keep_younger: float | None = None  # seconds since it moved here
    keep_pulled: float | None = None  # seconds since somebody pulled it
    number: int = 0


@dataclass(frozen=True, slots=True)
class TagState:
    """What a retain rule goes by."""

    repository: str
    tag: str
    digest: Digest
    updated: float  # seconds since 1970, as `pulled`; 0 for never
    pulled: float


@dataclass(frozen=True, slots=True)
class ExpiredTag:
    repository: str
    tag: str
    digest: Digest
    rule: int  # the number of the first that covers it


@dataclass(frozen=True, slots=True)
class TagChange:
    """Where a tag was and where it went; None: it did not exist."""

    tag: str
    old: Digest | None
    new: Digest | None
    actor: str
    at: float


@dataclass(frozen=True, slots=True)
class Damage:
    """What is not as it should be."""

    digest: Digest
    problem: str
    repositories: tuple[str, ...]  # that need it


@dataclass(frozen=True, slots=True)
class Reason:
    """Why content is kept, or that it is not."""

    text: str
    until: float | None = None  # seconds since 1970; None: as long as it is so
    keeps: bool = True
