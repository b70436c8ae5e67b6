"""`pybuild verify`: build an image again, and say whether it is the same."""

import re
import sys
from typing import TYPE_CHECKING

import click

from pybuild.cli.build import Line, build, sigterm_is_an_interrupt
from pybuild.cli.plain import plain

if TYPE_CHECKING:
    from pybuild.cli.door import Globals
    from registry.model import Reference
    from registry.storage import ContentStore

_ID = re.compile(r"(sha256:)?[0-9a-f]{4,64}")

_EPILOG = """\b
Examples:
  pybuild verify app:1 -- .
  pybuild verify app:1 -- -f docker/Dockerfile.prod --build-arg VERSION=1 .
  SOURCE_DATE_EPOCH=1700000000 pybuild verify registry.example.com/app:1 -- .

What follows -- is the command line of the build. Exit code 0: the same digest; 1: not."""


@click.command(
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True},
)
@click.argument("image", metavar="IMAGE")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- BUILD ARGUMENTS…")
@click.pass_obj
def verify(settings: "Globals", /, image: str, words: tuple[str, ...]) -> None:
    """Build an image again with nothing cached, and name the first difference."""
    from builder.verify import verify as check
    from pybuild.cli.progress import progress_to
    from registry.storage import ContentStore

    parsed = build.make_context("pybuild verify IMAGE --", list(words), resilient_parsing=False)
    line = Line(**parsed.params)
    style = "quiet" if line.quiet else line.progress
    with (
        sigterm_is_an_interrupt(),
        ContentStore.open(settings.root) as store,
        progress_to(sys.stderr, style, debug=settings.debug) as listener,
    ):
        verdict = check(settings.root, store, _named(store, image), line.request(), listener)
    if verdict.difference is None:
        click.echo(f"the same: {image} is {verdict.digest}")
        return
    click.echo(plain(f"different: {verdict.difference}"))
    raise click.exceptions.Exit(1)


def _named(store: "ContentStore", image: str) -> "Reference":
    """A name as it is; (a part of) an ID as the image that it is of. Raises RegistryError: there is no such image."""
    from registry.errors import RegistryError
    from registry.model import Reference
    from registry.storage.images import find_by_id

    try:
        name = Reference.parse(image).tagged
        store.manifest(name.repository, name.digest or name.tag or "latest")
    except RegistryError:
        if not _ID.fullmatch(image):
            raise
        found = find_by_id(store, image)
        return found.reference.with_digest(found.index_digest or found.digest)
    return name
