"""Commands about pybuild itself and the machine: info, version, completion."""

import click

from pybuild.cli.door import Globals


@click.command(epilog="\b\nExample:\n  pybuild version")
def version() -> None:
    """Show the versions of pybuild, Python and the kernel."""
    import platform

    from pybuild import __version__

    uname = platform.uname()
    click.echo(f"pybuild {__version__}\nPython  {platform.python_version()}\nLinux   {uname.release} {uname.machine}")


@click.command(epilog="\b\nExample:\n  pybuild info --format json")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.pass_obj
def info(settings: Globals, form: str) -> None:
    """Show what this machine and this installation can do, and what is missing."""
    import json

    from pybuild.engine.system import gather

    found = gather(settings.root)
    if form == "json":
        click.echo(json.dumps(found.as_json(), indent=2))
        return
    width = max(len(label) for label, _ in found.rows())
    for label, value in found.rows():
        click.echo(f"{label + ':':{width + 1}} {value}")
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)


_COMPLETION_EPILOG = """\b
Examples:
  source <(pybuild completion bash)
  pybuild completion zsh > ~/.zfunc/_pybuild
  pybuild completion fish > ~/.config/fish/completions/pybuild.fish"""


@click.command(epilog=_COMPLETION_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    from pybuild.cli.door import pybuild as door

    # Looked up here and not by click itself, whose bash class runs `bash` to find its version.
    kind = get_completion_class(shell)
    if kind is None:  # the choices above are click's own three
        raise click.UsageError(f"no completion for {shell}")
    script = kind(door, {}, "pybuild", "_PYBUILD_COMPLETE")
    click.echo(script.source_template % script.source_vars())
