"""Changing and looking into containers: pause, unpause, restart, rename, top, diff, export, commit; and events."""

import json
import sys
from pathlib import Path

import click

from pybuild.cli.containers import each, engine
from pybuild.cli.door import Globals, examples
from pybuild.errors import EngineError

_NAMES = click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)


@click.command(epilog=examples("pybuild pause web"))
@_NAMES
@click.pass_obj
def pause(settings: Globals, *, names: tuple[str, ...]) -> int:
    """Stop all processes of containers where they are."""
    from pybuild.engine import changing

    with engine(settings) as containers:
        return each(names, lambda name: changing.pause(containers, containers.find(name)))


@click.command(epilog=examples("pybuild unpause web"))
@_NAMES
@click.pass_obj
def unpause(settings: Globals, *, names: tuple[str, ...]) -> int:
    """Let paused containers go on."""
    from pybuild.engine import changing

    with engine(settings) as containers:
        return each(names, lambda name: changing.unpause(containers, containers.find(name)))


@click.command(epilog=examples("pybuild restart -t 2 web"))
@click.option("-t", "--timeout", "--time", default=None, type=int, help="Seconds until it is killed; -1: never.")
@_NAMES
@click.pass_obj
def restart(settings: Globals, *, timeout: int | None, names: tuple[str, ...]) -> int:
    """Stop containers and start them again."""
    with engine(settings) as containers:

        def again(name: str) -> None:
            found = containers.find(name)
            containers.stop(found, timeout)
            containers.start(found.record).close()
            containers.tell(found.record, "restart")

        containers.recover()
        return each(names, again)


@click.command(epilog=examples("pybuild rename web old-web"))
@click.argument("container")
@click.argument("name")
@click.pass_obj
def rename(settings: Globals, *, container: str, name: str) -> None:
    """Give a container another name."""
    from pybuild.engine import changing

    with engine(settings) as containers:
        changing.rename(containers, containers.find(container), name)


@click.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=examples("pybuild top web", "pybuild top web aux"),
)
@click.argument("container")
@click.argument("arguments", metavar="[PS-OPTIONS]", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def top(settings: Globals, *, container: str, arguments: tuple[str, ...]) -> None:
    """List the processes of a container, as ps(1) of this machine shows them."""
    from shlex import join

    from pybuild.cli import human
    from pybuild.engine.statistics import processes

    with engine(settings) as containers:
        found = processes(containers.find(container), join(arguments) or "-ef")
    click.echo(human.table([found["Titles"], *found["Processes"]]), nl=False)


@click.command(epilog=examples("pybuild diff web"))
@click.argument("container")
@click.pass_obj
def diff(settings: Globals, *, container: str) -> None:
    """List what a container has changed of its image: C changed, A added, D deleted."""
    from pybuild.cli.plain import plain
    from pybuild.engine.taking import changes

    with engine(settings) as containers:
        for kind, path in changes(containers, containers.find(container)):
            click.echo(plain(f"{'CAD'[kind]} {path}", keep=""))


@click.command(epilog=examples("pybuild export -o web.tar web"))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; standard output otherwise.")
@click.argument("container")
@click.pass_obj
def export(settings: Globals, *, output: Path | None, container: str) -> None:
    """Write a container's file system as an archive, without what is mounted in it."""
    from pybuild.engine.taking import export as write

    if output is None and sys.stdout.isatty():
        raise EngineError("an archive is nothing to show in a terminal", hint="give a file by -o")
    with engine(settings) as containers:
        found = containers.find(container)
        if output is None:
            write(containers, found, sys.stdout.buffer)
            return
        with output.open("wb") as out:
            write(containers, found, out)


@click.command(epilog=examples("pybuild commit -m 'with a fix' web web:fixed"))
@click.option("-a", "--author", default="", help="Who made it.")
@click.option("-m", "--message", default="", help="What was done.")
@click.option("--pause/--no-pause", "paused", default=True, help="Stop its processes meanwhile.  [default: yes]")
@click.argument("container")
@click.argument("name", default="")
@click.pass_obj
def commit(settings: Globals, *, author: str, message: str, paused: bool, container: str, name: str) -> None:
    """Make an image of a container: its own image, and what it has changed."""
    from pybuild.engine.taking import Commit
    from pybuild.engine.taking import commit as make
    from registry.model import Reference

    wanted = Commit(Reference.parse(name).tagged if name else None, author, message, pause=paused)
    with engine(settings) as containers:
        click.echo(str(make(containers, containers.find(container), wanted)))


@click.command(epilog=examples("pybuild events", "pybuild events --past"))
@click.option("--past", is_flag=True, help="Only what is kept of the past; do not wait.")
@click.pass_obj
def events(settings: Globals, *, past: bool) -> None:
    """Show what happens to containers, images and volumes, a JSON object a line, until Ctrl-C."""
    import os
    import select

    from pybuild.engine.events import as_json
    from pybuild.engine.roots import runtime_dir
    from runner.container.journal import Journal
    from runner.kernel import calls

    directory = runtime_dir(settings.root)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    notices = calls.inotify(str(directory), calls.IN_MODIFY | calls.IN_CREATE | calls.IN_MOVED_TO)
    journal = Journal(directory)
    found = journal.past()
    while True:
        for happened in found:
            click.echo(json.dumps(as_json(happened)))
        if past:
            return
        select.select([notices], [], [])
        os.read(notices, 65536)
        found = journal.more()
