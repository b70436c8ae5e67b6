"""What can go wrong between a Dockerfile and an image."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from registry.errors import ArchiveError


class BuilderError(Exception):
    """A failure the user can act on; anything else is a bug and keeps its traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class LayerError(BuilderError):
    """A layer archive is broken or hostile: a name that leads out, a bomb, a lie about its size."""


@contextmanager
def layer_errors() -> Iterator[None]:
    """What is wrong with an archive is wrong with a layer, or what becomes one."""
    try:
        yield
    except ArchiveError as error:
        raise LayerError(str(error), hint=error.hint) from error


class SnapshotError(BuilderError):
    """A root filesystem can't be prepared, committed or removed."""


class ContextError(BuilderError):
    """The build context lacks what the Dockerfile asks of it, or can't be read."""


class BuildFailed(BuilderError):
    """A step failed; the message shows its Dockerfile lines, exit code and last output."""

    exit_code = 4


class NotYet(BuilderError):
    """A feature that is parsed but not built yet; the message names the flag."""
