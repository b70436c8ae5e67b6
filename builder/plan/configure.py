"""Instructions that change only the image's config: each takes a RunConfig and gives the next one. Pure."""

import re
import signal
from dataclasses import replace

from builder.dockerfile.instructions import Command, DockerfileError, HealthcheckInstruction, Position
from registry.model import Healthcheck, RunConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
_REALTIME = re.compile(r"RTM(?:IN(?:\+(?:[0-9]|1[0-5]))?|AX(?:-(?:[0-9]|1[0-4]))?)")


def with_default_path(config: RunConfig) -> RunConfig:
    """An image without PATH gets the usual one, so that `FROM scratch` images have it too."""
    return config if "PATH" in config.environment else replace(config, env=(*config.env, f"PATH={DEFAULT_PATH}"))


def with_variable(config: RunConfig, name: str, value: str) -> RunConfig:
    """A variable that is there keeps its place in the order."""
    entry = f"{name}={value}"
    names = [known.partition("=")[0] for known in config.env]
    if name not in names:
        return replace(config, env=(*config.env, entry))
    at = names.index(name)
    return replace(config, env=(*config.env[:at], entry, *config.env[at + 1 :]))


def argv(command: Command, config: RunConfig) -> tuple[str, ...]:
    """What is executed: the JSON array as it is, or one line handed to the shell."""
    if command.exec_form is not None:
        return command.exec_form
    return (*(config.shell or DEFAULT_SHELL), command.shell_form or "")


def with_cmd(config: RunConfig, args: tuple[str, ...]) -> RunConfig:
    return replace(config, cmd=args or None, args_escaped=True)


def with_entrypoint(config: RunConfig, args: tuple[str, ...], *, cmd_set_here: bool) -> RunConfig:
    """An inherited CMD was meant for the old entrypoint and goes; one of this stage stays."""
    return replace(config, entrypoint=args or None, cmd=config.cmd if cmd_set_here else None)


def healthcheck(instruction: HealthcheckInstruction) -> Healthcheck:
    """The shell form keeps its line: whoever runs it uses the image's SHELL."""
    if instruction.none or instruction.command is None:
        return Healthcheck(test=("NONE",))
    command = instruction.command
    test = ("CMD", *command.exec_form) if command.exec_form is not None else ("CMD-SHELL", command.shell_form or "")
    return Healthcheck(
        test, instruction.interval, instruction.timeout, instruction.start_period, instruction.start_interval,
        instruction.retries,
    )  # fmt: skip


def checked_signal(text: str, at: Position) -> str:
    """STOPSIGNAL's value if it is a signal: a number, SIGTERM, TERM, SIGRTMIN+3."""
    name = text.upper().removeprefix("SIG")
    known = {number.name.removeprefix("SIG") for number in signal.Signals}
    number = int(text) if re.fullmatch("[0-9]{1,10}", text) else 0
    if 1 <= number <= 64 or name in known or _REALTIME.fullmatch(name):
        return text
    raise DockerfileError(
        f"unknown signal {text[:40]!r}", at=at, hint="write a name like SIGTERM or a number from 1 to 64"
    )


def unique(known: tuple[str, ...], more: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *more)))
