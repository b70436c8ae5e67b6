"""`pybuild builder …`: care for the build cache."""

import click

from pybuild.cli.door import Globals


@click.group(epilog="\b\nExample:\n  pybuild builder prune")
def builder() -> None:
    """Care for the build cache."""


@builder.command(epilog="\b\nExample:\n  pybuild builder prune --now")
@click.option("--now", is_flag=True, help="Also what was used in the last minutes; not while a build runs.")
@click.pass_obj
def prune(settings: Globals, *, now: bool) -> None:
    """Forget cached steps, and free what only they need."""
    from pybuild.cli.human import size
    from pybuild.engine.pruning import JUST_USED, prune_builds
    from registry.storage import ContentStore

    with ContentStore.open(settings.root) as store:
        freed = prune_builds(store, settings.root, idle_seconds=0 if now else JUST_USED)
    click.echo(f"Total reclaimed space: {size(freed)}")
