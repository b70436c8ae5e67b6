"""What can go wrong when a container is made or run; the exit codes are docker's."""


class RunnerError(Exception):
    """A failure the user can act on; anything else is a bug and keeps its traceback."""

    exit_code = 125  # the engine itself failed

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotExecutable(RunnerError):
    """The container's command exists but can't be executed."""

    exit_code = 126


class CommandNotFound(RunnerError):
    exit_code = 127


class NoSuchContainer(RunnerError):
    exit_code = 1


class MissingPrivilege(RunnerError):
    """The process lacks a right that the kernel asks for; the message names it."""


class UnsafeRootfs(RunnerError):
    """The image's tree tries to lead the runner out of it, or to mount over what must stay."""


class NetworkError(RunnerError):
    """An interface, an address, a rule or a port could not be had."""
