"""The only place that turns errors into exit codes, and the only one that is paid by every command.

`pybuild --version` must not import click; each command's module is imported when that command runs.
"""

import os
import sys

from pybuild.cli.again import unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing or collections for names of types would take as long as the interpreter's start
    from collections.abc import Sequence

COMMANDS = {
    # command: (module, attribute, one line for the list)
    "attach": ("pybuild.cli.containers", "attach", "Follow the output of a running container, and type into it"),
    "build": ("pybuild.cli.build", "build", "Build an image from a Dockerfile"),
    "builder": ("pybuild.cli.builder", "builder", "Care for the build cache"),
    "completion": ("pybuild.cli.system", "completion", "Print the completion script for bash, zsh or fish"),
    "daemon": ("pybuild.cli.daemon", "daemon", "Serve Docker's Engine API for docker, compose and others"),
    "commit": ("pybuild.cli.changing", "commit", "Make an image of a container"),
    "diff": ("pybuild.cli.changing", "diff", "List what a container has changed of its image"),
    "du": ("pybuild.cli.builder", "disk_usage", "Show what takes how much of the disk"),
    "exec": ("pybuild.cli.containers", "exec_", "Run a command in a running container"),
    "events": ("pybuild.cli.changing", "events", "Show what happens to containers, images and volumes"),
    "export": ("pybuild.cli.changing", "export", "Write a container's file system as an archive"),
    "image": ("pybuild.cli.images", "image", "List, inspect and remove images"),
    "images": ("pybuild.cli.images", "images", "List images"),
    "info": ("pybuild.cli.system", "info", "Show what this machine and this installation can do"),
    "inspect": ("pybuild.cli.containers", "inspect", "Show all there is to know of a container or an image, as JSON"),
    "kill": ("pybuild.cli.containers", "kill", "Send a signal to running containers"),
    "load": ("pybuild.cli.images", "load", "Load images from a Docker archive or an OCI layout"),
    "login": ("pybuild.cli.images", "login", "Keep credentials for a registry"),
    "logout": ("pybuild.cli.images", "logout", "Forget the credentials for a registry"),
    "logs": ("pybuild.cli.containers", "logs", "Show the output of a container"),
    "pause": ("pybuild.cli.changing", "pause", "Stop all processes of containers where they are"),
    "ps": ("pybuild.cli.containers", "ps", "List containers"),
    "pull": ("pybuild.cli.images", "pull", "Fetch an image from a registry"),
    "push": ("pybuild.cli.images", "push", "Send an image to a registry"),
    "registry": ("pybuild.cli.registry", "registry", "Run and care for a registry"),
    "rename": ("pybuild.cli.changing", "rename", "Give a container another name"),
    "restart": ("pybuild.cli.changing", "restart", "Stop containers and start them again"),
    "rm": ("pybuild.cli.containers", "rm", "Remove containers"),
    "rmi": ("pybuild.cli.images", "rmi", "Remove images"),
    "run": ("pybuild.cli.containers", "run", "Run a command in a new container"),
    "save": ("pybuild.cli.images", "save", "Write images to a Docker archive or an OCI layout"),
    "start": ("pybuild.cli.containers", "start", "Start stopped containers"),
    "stop": ("pybuild.cli.containers", "stop", "Stop running containers"),
    "tag": ("pybuild.cli.images", "tag", "Give an image another name"),
    "verify": ("pybuild.cli.verify", "verify", "Build an image again, and say whether it is the same"),
    "top": ("pybuild.cli.changing", "top", "List the processes of a container"),
    "unpause": ("pybuild.cli.changing", "unpause", "Let paused containers go on"),
    "version": ("pybuild.cli.system", "version", "Show versions"),
    "volume": ("pybuild.cli.volumes", "volume", "List, make and remove volumes"),
    "wait": ("pybuild.cli.containers", "wait", "Wait until containers stop, and print their exit codes"),
    "why": ("pybuild.cli.builder", "why", "Tell why steps of the last build were not cached"),
}
INTERRUPTED = 130


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one command line and return its exit code. The only catcher of errors."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_missing_streams()
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _give_up_output()
        return 0
    except Exception as error:  # noqa: BLE001 - the door is where every error becomes two lines and an exit code
        if isinstance(error, OSError):
            _give_up_output()
        return _report(error, debug="--debug" in words or bool(os.environ.get("PYBUILD_DEBUG")))


def _open_missing_streams() -> None:
    """Fill what we were started without (`2>&-`): otherwise the next file opened would be taken for that stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so it is this one
            setattr(sys, name, os.fdopen(found, mode, encoding="utf-8"))


def _give_up_output() -> None:
    """Nobody takes our output any more; Python would complain when it flushes stdout at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _dispatch(words: list[str]) -> int:
    if words in (["--version"], ["-V"]):
        from pybuild import __version__

        sys.stdout.write(f"pybuild {__version__}\n")
        return 0
    if words and (words[0] == "build" or words[0] not in COMMANDS) and (code := unchanged(words)) is not None:
        return code
    from pybuild.cli.door import pybuild as door
    from pybuild.cli.door import with_default_command

    stdout = sys.stdout
    try:
        found = door.main(with_default_command(words), prog_name="pybuild", standalone_mode=False, obj=tuple(words))
    except SystemExit as ended:
        if sys.stdout is stdout:
            raise
        raise BrokenPipeError from ended  # that is when click wraps it; it would have a failure of it
    return found if isinstance(found, int) else 0


def _report(error: Exception, *, debug: bool) -> int:
    """Two lines for an error of ours; a traceback only when asked for."""
    import contextlib

    import click

    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        with contextlib.suppress(OSError):  # nobody can be told
            error.show(sys.stderr)
        return error.exit_code
    if debug:
        import traceback

        traceback.print_exception(error)
    if hasattr(error, "hint") and hasattr(error, "exit_code"):  # as the error families of all packages have
        message, hint, code = str(error), error.hint, int(error.exit_code)
    elif isinstance(error, OSError):
        message, hint, code = _os_error(error), None, 1
    else:
        message = f"internal fault: {type(error).__name__}: {error}"
        hint, code = "this is a bug in pybuild; run again with --debug and report the traceback", 70
    from pybuild.cli.plain import plain

    with contextlib.suppress(OSError):
        sys.stderr.write(plain(f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")))
    return code


def _os_error(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text


if __name__ == "__main__":
    raise SystemExit(main())
