"""What can go wrong with content: one error for each code of the Distribution specification, and a few of our own.

Each has a message, a `hint` that says what to do, and the code and status that the server answers with.
"""

from typing import ClassVar


def printable(text: str) -> str:
    """What strangers wrote, for a message: short, and without what could drive a terminal."""
    return "".join(letter for letter in text if letter.isprintable())[:200]


class RegistryError(Exception):
    """A failure the user can act on; anything else is a bug and keeps its traceback."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "UNKNOWN"  # distribution-spec, "Error Codes"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class DigestInvalid(RegistryError):
    code, status = "DIGEST_INVALID", 400


class NameInvalid(RegistryError):
    code, status = "NAME_INVALID", 400


class TagInvalid(RegistryError):
    code, status = "TAG_INVALID", 400


class ManifestInvalid(RegistryError):
    code, status = "MANIFEST_INVALID", 400


class SizeInvalid(RegistryError):
    code, status = "SIZE_INVALID", 400


class BlobUnknown(RegistryError):
    code, status = "BLOB_UNKNOWN", 404


class ManifestUnknown(RegistryError):
    code, status = "MANIFEST_UNKNOWN", 404


class ManifestBlobUnknown(RegistryError):
    """A manifest names content that its repository does not hold."""

    code, status = "MANIFEST_BLOB_UNKNOWN", 404

    def __init__(self, message: str, *, hint: str | None = None, digests: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.digests = digests  # all that is missing


class NameUnknown(RegistryError):
    code, status = "NAME_UNKNOWN", 404


class UploadUnknown(RegistryError):
    code, status = "BLOB_UPLOAD_UNKNOWN", 404


class ChunkOutOfOrder(RegistryError):
    code, status = "BLOB_UPLOAD_INVALID", 416


class UploadInvalid(RegistryError):
    code, status = "BLOB_UPLOAD_INVALID", 400


class ManifestTooLarge(RegistryError):
    code, status = "MANIFEST_INVALID", 413


class Unsupported(RegistryError):
    code, status = "UNSUPPORTED", 405


class Unauthorized(RegistryError):
    code, status = "UNAUTHORIZED", 401


class Denied(RegistryError):
    code, status = "DENIED", 403


class TagImmutable(Denied):
    """A rule says that the tag stays where it is."""


class QuotaExceeded(Denied):
    """The namespace may not hold more."""


class ReadOnly(Unsupported):
    """The operator has frozen the registry or this part of it."""


class TagConflict(RegistryError):
    """A conditional tag update (If-Match, If-None-Match) found another digest there."""

    code, status = "DENIED", 412


class ArchiveError(RegistryError):
    """A file is no archive of what it should hold, is damaged, or tries something."""


class StoreError(RegistryError):
    """The content store can't be used as it is: another version, no space, no permission."""

    code, status = "UNKNOWN", 503


class DiskFull(StoreError):
    code, status = "UNKNOWN", 507


class TransferError(RegistryError):
    """A registry could not be reached, or answered what no registry may answer."""

    code, status = "UNKNOWN", 502
