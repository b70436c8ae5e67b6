"""What can go wrong at the front door and in the engine."""

from typing import ClassVar


class EngineError(Exception):
    """A failure the user can act on; anything else is a bug and keeps its traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotFound(EngineError):
    """No such container, image, network or volume."""


class Conflict(EngineError):
    """The name is taken, or the state does not allow it (a running container can't be removed)."""


class UsageError(EngineError):
    """The command line asks for something that does not make sense."""

    exit_code = 2
