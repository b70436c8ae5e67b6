"""What goes wrong in the API: each kind of error meets its status here. Pure."""

from typing import ClassVar

from builder.errors import BuilderError
from pybuild.errors import Conflict, EngineError, NotFound, UsageError
from registry.errors import RegistryError, TransferError
from runner.errors import CommandNotFound, NoSuchContainer, NotExecutable, RunnerError


class ApiError(Exception):
    """A request that can't be served; the message is the client's."""

    status: ClassVar[int] = 500


class BadRequest(ApiError):
    status = 400


class Forbidden(ApiError):
    status = 403


class NoSuchThing(ApiError):
    status = 404


class Clash(ApiError):
    status = 409


class NotModified(ApiError):
    """It is so already. Has no body."""

    status = 304


class NotYet(ApiError):
    """Known to Docker's API, not to us."""

    status = 501


class Unavailable(ApiError):
    status = 503


_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (UsageError, 400),
    (EngineError, 500),
    (NoSuchContainer, 409),
    (CommandNotFound, 400),
    (NotExecutable, 400),
    (RunnerError, 500),
    (BuilderError, 500),
    (TransferError, 500),
)


def status_of(error: Exception) -> int | None:
    """None: not the client's to know; a fault of ours."""
    if isinstance(error, ApiError):
        return error.status
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    if isinstance(error, RegistryError):
        return min(500, error.status)
    if isinstance(error, OSError):
        return 500
    return None


def message_of(error: Exception) -> str:
    """One line (a build's excerpt: several). What to do is added, where it is not about our own command line."""
    hint = getattr(error, "hint", None)
    if hint and "pybuild " not in hint and not isinstance(error, NotFound | Conflict):
        return f"{error}; {hint}"
    return str(error)
