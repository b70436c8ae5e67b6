"""What can go wrong in a request before content is asked for; the rest of the family is registry/errors.py."""

from registry.errors import RegistryError


class PathUnknown(RegistryError):
    """No endpoint of the API has this path."""

    code, status = "NOT_FOUND", 404


class MethodUnsupported(RegistryError):
    """The endpoint exists but does not answer to this method."""

    code, status = "UNSUPPORTED", 405

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message, hint=f"allowed here: {', '.join(allowed)}")
        self.allowed = allowed


class PageInvalid(RegistryError):
    """`n` of a listing is no number (code of the Docker registry)."""

    code, status = "PAGINATION_NUMBER_INVALID", 400


class RangeUnsatisfiable(RegistryError):
    """No byte of what a Range asks for exists (RFC 9110 "416")."""

    code, status = "RANGE_INVALID", 416

    def __init__(self, asked: str, size: int) -> None:
        super().__init__(f"the blob has {size} bytes, none in {asked[:100]!r}")
        self.size = size


class PreconditionFailed(RegistryError):
    """The request was meant for other content (If-Match)."""

    code, status = "DENIED", 412


class ClientTooSlow(RegistryError):
    """A request's body stopped coming."""

    code, status = "BLOB_UPLOAD_INVALID", 408


class BodyBroken(RegistryError):
    """A request's body ended before its announced end, or is no proper HTTP."""

    code, status = "BLOB_UPLOAD_INVALID", 400


class BadHttp(RegistryError):
    """What came is no HTTP request, or is beyond the limits of one."""

    code, status = "BAD_REQUEST", 400
