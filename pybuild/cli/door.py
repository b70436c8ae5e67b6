"""The command line's door: global options, the list of commands, "did you mean", and build as the default command."""

import difflib
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from pybuild.cli.main import COMMANDS
from pybuild.engine.roots import default_root
from pybuild.errors import UsageError


@dataclass(frozen=True, slots=True)
class Globals:
    """What the options before the command say."""

    root: Path
    debug: bool
    words: tuple[str, ...] = ()  # the whole command line


class LazyGroup(click.Group):
    """Commands are imported when they run: a listing needs only their one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}:{attribute} is no command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in sorted(COMMANDS.items())])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, 1)
            advice = f"did you mean {near[0]!r}?" if near else "see 'pybuild --help' for the commands"
            raise click.UsageError(f"unknown command {name!r}; {advice}", ctx)
        return super().resolve_command(ctx, args)


EPILOG = """\b
Examples:
  pybuild -t app:1 .                         build an image (the word `build` may be left out)
  pybuild run --rm -it app:1 sh              run a command in it
  pybuild registry serve --addr 127.0.0.1:5000
  pybuild tag app:1 localhost:5000/app:1
  pybuild push localhost:5000/app:1

\b
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 fault in the Dockerfile; 4 a build step failed;
of run and exec: the command's own, 125 pybuild failed, 126 not executable, 127 not found, 128+n ended by signal n."""


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--root",
    type=click.Path(path_type=Path, readable=False),
    envvar="PYBUILD_ROOT",
    help="Directory that keeps all state.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks of internal faults.")
@click.version_option(package_name="pybuild", prog_name="pybuild", message="%(prog)s %(version)s")
@click.pass_context
def pybuild(ctx: click.Context, root: Path | None, *, debug: bool) -> None:
    """Build, push, pull and run container images, without a daemon."""
    ctx.obj = Globals(root=_checked(root or default_root()), debug=debug, words=ctx.obj or ())


def _checked(root: Path) -> Path:
    if root.exists() and not root.is_dir():
        raise UsageError(f"the root {root} is not a directory", hint="choose another --root or PYBUILD_ROOT")
    return root.absolute()


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


def _use_root(ctx: click.Context, parameter: click.Parameter, root: Path | None) -> None:
    del parameter
    if root is not None:
        ctx.obj = Globals(root=_checked(root), debug=ctx.obj.debug)


# For commands that are often the only word of a service's command line: `--root` may follow them too.
root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, readable=False),
    expose_value=False,
    callback=_use_root,
    help="Directory of all state.",
)


def with_default_command(words: Sequence[str]) -> list[str]:
    """Put `build` before a command line that starts with an option of build or with a directory.

    `pybuild -t app:1 .` and `pybuild .` build; `pybuild --root DIR -t app .` too.
    """
    ours = {"--root", "--debug", "-h", "--help", "--version"}
    at = 0
    while at < len(words) and (words[at] in ours or words[at].startswith("--root=")):
        at += 2 if words[at] == "--root" else 1
    if at >= len(words) or words[at] in COMMANDS:
        return list(words)
    first = words[at]
    if first.startswith("-") or os.path.isdir(first) or "/" in first:
        return [*words[:at], "build", *words[at:]]
    return list(words)
