"""`pybuild volume …`: directories that outlive containers."""

import json

import click

from pybuild.cli.door import Globals, examples


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=examples("pybuild volume ls"))
def volume() -> None:
    """List, make and remove volumes."""


@volume.command("ls", epilog=examples("pybuild volume ls -q"))
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.pass_obj
def list_(settings: Globals, *, quiet: bool) -> None:
    """List volumes."""
    from pybuild.cli import human
    from pybuild.engine.volumes import Volumes

    found = Volumes(settings.root).all()
    if quiet:
        click.echo("".join(f"{one.name}\n" for one in found), nl=False)
    else:
        rows = [("DRIVER", "VOLUME NAME"), *(("local", one.name) for one in found)]
        click.echo(human.table(rows), nl=False)


@volume.command(epilog=examples("pybuild volume create --label team=web data"))
@click.option("--label", "labels", multiple=True, help="KEY=value.")
@click.argument("name", default="")
@click.pass_obj
def create(settings: Globals, *, labels: tuple[str, ...], name: str) -> None:
    """Make a volume; one that is there already stays as it is."""
    from pybuild.engine.events import tell
    from pybuild.engine.options import parse_labels
    from pybuild.engine.volumes import Volumes

    made = Volumes(settings.root).make(name, parse_labels(labels))
    tell(settings.root, "volume", "create", made.name, driver="local")
    click.echo(made.name)


@volume.command(epilog=examples("pybuild volume inspect data"))
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def inspect(settings: Globals, *, names: tuple[str, ...]) -> None:
    """Show all there is to know of volumes, as JSON."""
    from pybuild.engine.views import inspect_volume
    from pybuild.engine.volumes import Volumes

    found = [inspect_volume(Volumes(settings.root).get(name)) for name in names]
    click.echo(json.dumps(found, indent=4))


@volume.command(epilog=examples("pybuild volume rm data"))
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def rm(settings: Globals, *, names: tuple[str, ...]) -> None:
    """Remove volumes that no container has."""
    from pybuild.engine.containers import Containers
    from pybuild.engine.events import tell
    from pybuild.engine.volumes import Volumes

    with Containers(settings.root) as containers:
        for name in names:
            users = [
                one.record.name for one in containers.all() if any(mount.name == name for mount in one.record.mounts)
            ]
            Volumes(settings.root).remove(name, users)
            tell(settings.root, "volume", "destroy", name, driver="local")
            click.echo(name)
