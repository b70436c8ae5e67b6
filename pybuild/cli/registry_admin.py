"""`pybuild registry …` for its operator: what is kept and why, what is allowed, the way back, moving house.

Each command opens the store by itself, so it works beside running servers and without any.
"""

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pybuild.cli.door import Globals, examples, root_option
from pybuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage import ContentStore

TOP = "_"  # how the namespace of names without a slash is written
EVERYTHING = "*"


@contextmanager
def _store(settings: Globals) -> "Iterator[ContentStore]":
    from registry.storage import ContentStore

    with ContentStore.open(settings.root) as store:
        yield store


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _namespace(text: str) -> str:
    return "" if text == TOP else text


# -- what is kept, and whether it is sound ----------------------------------------------------------------------------


@click.command(epilog=examples("pybuild registry explain sha256:…"))
@root_option
@click.argument("digest")
@click.pass_obj
def explain(settings: Globals, *, digest: str) -> None:
    """Say why a blob or manifest is kept, or that nothing keeps it."""
    from registry.model import Digest

    with _store(settings) as store:
        for reason in store.explain(Digest.parse(digest)):
            until = f" (until {_when(reason.until)})" if reason.until is not None else ""
            click.echo(reason.text + until)


@click.command(
    epilog=examples("pybuild registry scrub", "pybuild registry scrub --rate 20MB", "pybuild registry scrub --known")
)
@root_option
@click.option("--rate", metavar="SIZE", help="Bytes a second, so that others have something of the disk too.")
@click.option("--known", is_flag=True, help="Only list what was found before and is not healed yet.")
@click.pass_context
def scrub(context: click.Context, *, rate: str | None, known: bool) -> None:
    """Read everything and report what the disk changed or lost; exit code 1 if there is something.

    What is damaged is not served any more until somebody pushes or pulls it again, which heals it.
    """
    from pybuild.cli.builder import parse_size
    from registry.storage import ScrubReport

    pace = parse_size(rate) if rate else 0
    with _store(context.obj) as store:
        report = ScrubReport(damages=store.scrubber.known_damage() if known else [])
        if not known:
            for size in store.scrubber.steps(report):
                if pace:
                    time.sleep(size / pace)
    for damage in report.damages:
        click.echo(f"{damage.digest} {damage.problem}; needed by {', '.join(damage.repositories) or 'nobody'}")
    if not known:
        click.echo(
            f"read {report.blobs} blobs and {report.manifests} manifests, {report.bytes} bytes: "
            f"{len(report.damages)} damaged"
        )
    context.exit(1 if report.damages else 0)


@click.command(epilog=examples("pybuild registry migrate", "pybuild registry migrate --contract"))
@root_option
@click.option(
    "--contract", is_flag=True, help="Also take away what only older programs use: they refuse the store then."
)
@click.pass_obj
def migrate(settings: Globals, *, contract: bool) -> None:
    """Bring the store's metadata to this version; say which that is.

    Opening a store adds what is new by itself, and programs of the version before go on working. Nothing is ever taken
    away but by --contract, for which every older program must be gone.
    """
    with _store(settings) as store:
        version = store.migrate(contract=contract)
    click.echo(f"metadata: expanded to version {version.expanded}, contracted to version {version.contracted}")


# -- what is allowed --------------------------------------------------------------------------------------------------


@click.command("read-only", epilog=examples("pybuild registry read-only on", "pybuild registry read-only off team"))
@root_option
@click.argument("switch", type=click.Choice(["on", "off"]))
@click.argument("namespace", default=EVERYTHING)
@click.pass_obj
def read_only(settings: Globals, *, switch: str, namespace: str) -> None:
    """Refuse all pushes and deletions, or those to one namespace; running servers obey at once."""
    with _store(settings) as store:
        store.namespaces.set_read_only(_namespace(namespace), switch == "on")


@click.command(
    epilog=examples("pybuild registry quota", "pybuild registry quota team 50GB", "pybuild registry quota team none")
)
@root_option
@click.argument("namespace", required=False)
@click.argument("size", required=False)
@click.pass_obj
def quota(settings: Globals, *, namespace: str | None, size: str | None) -> None:
    """List what namespaces use, or set what one may use.

    A namespace is the first component of repository names; _ is that of names without a slash.
    """
    from pybuild.cli import human
    from pybuild.cli.builder import parse_size

    with _store(settings) as store:
        if namespace is None:
            rows = [("NAMESPACE", "USED", "QUOTA", "MODE")]
            for space in store.namespaces.all():
                limit = "" if space.quota is None else human.size(space.quota)
                used = "" if space.name == EVERYTHING else human.size(space.used)
                rows.append((space.name or TOP, used, limit, "read-only" if space.read_only else ""))
            click.echo(human.table(rows), nl=False)
            return
        if size is None or namespace == EVERYTHING:
            raise UsageError("a quota needs a namespace and a size", hint="pybuild registry quota team 50GB")
        store.namespaces.set_quota(_namespace(namespace), None if size == "none" else parse_size(size))


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "pybuild registry rule immutable '*' 'v[0-9]*'",
        "pybuild registry rule retain 'ci/*' '*' --keep-last 20 --keep-pulled 30d",
        "pybuild registry rule remove 3",
    ),
)
def rule() -> None:
    """Rules about tags: which never move, and which go when they are old."""


@rule.command("list")
@root_option
@click.pass_obj
def rule_list(settings: Globals) -> None:
    """Print all rules with their numbers."""
    from pybuild.cli import human

    rows = [("NUMBER", "KIND", "REPOSITORIES", "TAGS", "KEEPS")]
    with _store(settings) as store:
        for found in store.tag_rules.all():
            keeps = [
                f"the last {found.keep_last}" if found.keep_last else "",
                f"younger than {human.duration(found.keep_younger)}" if found.keep_younger else "",
                f"pulled within {human.duration(found.keep_pulled)}" if found.keep_pulled else "",
            ]
            rows.append((str(found.number), found.kind, found.repositories, found.tags, ", ".join(filter(None, keeps))))
    click.echo(human.table(rows), nl=False)


@rule.command("immutable")
@root_option
@click.argument("repositories")
@click.argument("tags")
@click.pass_obj
def rule_immutable(settings: Globals, *, repositories: str, tags: str) -> None:
    """Tags that match may be made, but never moved or removed by clients of the registry."""
    from registry.storage import TagRule

    with _store(settings) as store:
        click.echo(store.tag_rules.add(TagRule("immutable", repositories, tags)))


@rule.command("retain")
@root_option
@click.argument("repositories")
@click.argument("tags")
@click.option(
    "--keep-last", type=click.IntRange(min=1), metavar="N", help="The newest N that match, in each repository."
)
@click.option("--keep-younger", metavar="AGE", help="Those that moved within this time, like 30d.")
@click.option("--keep-pulled", metavar="AGE", help="Those that somebody pulled within this time.")
@click.pass_obj
def rule_retain(
    settings: Globals,
    *,
    repositories: str,
    tags: str,
    keep_last: int | None,
    keep_younger: str | None,
    keep_pulled: str | None,
) -> None:
    """Of the tags that match, keep what any option keeps; the others go when `retain` runs, or a server collects."""
    from pybuild.cli.builder import parse_time
    from registry.storage import TagRule

    found = TagRule(
        "retain", repositories, tags, keep_last,
        parse_time(keep_younger) if keep_younger else None, parse_time(keep_pulled) if keep_pulled else None,
    )  # fmt: skip
    with _store(settings) as store:
        click.echo(store.tag_rules.add(found))


@rule.command("remove")
@root_option
@click.argument("number", type=int)
@click.pass_obj
def rule_remove(settings: Globals, *, number: int) -> None:
    """Forget a rule."""
    with _store(settings) as store:
        if not store.tag_rules.remove(number):
            raise UsageError(f"no rule {number}", hint="`pybuild registry rule list` shows them")


@click.command(epilog=examples("pybuild registry retain --dry-run"))
@root_option
@click.option("--dry-run", is_flag=True, help="Only list the tags that would go.")
@click.option("--undelete", default="7d", show_default=True, metavar="AGE", help="How long they can come back.")
@click.pass_obj
def retain(settings: Globals, *, dry_run: bool, undelete: str) -> None:
    """Remove the tags that the retain rules no longer keep; servers do so too, each time they collect."""
    from pybuild.cli.builder import parse_time
    from registry.storage import Client

    with _store(settings) as store:
        gone = store.retention.run(dry_run=dry_run, by=Client("retention", parse_time(undelete)))
    for found in gone:
        click.echo(f"{found.repository}:{found.tag} {found.digest} (rule {found.rule})")
    click.echo(f"{'would remove' if dry_run else 'removed'} {len(gone)} tags", err=True)


# -- the way back, and moving house -----------------------------------------------------------------------------------


@click.command(epilog=examples("pybuild registry history team/app", "pybuild registry history team/app latest"))
@root_option
@click.argument("repository")
@click.argument("tag", required=False)
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(min=1), help="Changes to show.")
@click.pass_obj
def history(settings: Globals, *, repository: str, tag: str | None, limit: int) -> None:
    """Show where the tags of a repository were and went, the latest change first."""
    from pybuild.cli import human

    with _store(settings) as store:
        changes = store.history.changes(repository, tag, limit)
    rows = [
        (_when(change.at), change.tag, str(change.old or "-"), str(change.new or "-"), change.actor)
        for change in changes
    ]
    click.echo(human.table([("WHEN", "TAG", "FROM", "TO", "BY"), *rows]), nl=False)


@click.command(epilog=examples("pybuild registry restore team/app latest"))
@root_option
@click.argument("repository")
@click.argument("tag")
@click.argument("digest", required=False)
@click.pass_obj
def restore(settings: Globals, *, repository: str, tag: str, digest: str | None) -> None:
    """Bring a tag back to where it was before its last change, or to DIGEST, with the image it led to."""
    from registry.model import Digest

    with _store(settings) as store:
        click.echo(store.history.restore(repository, tag, Digest.parse(digest) if digest else None))


@click.command(epilog=examples("pybuild registry export /backup/registry"))
@root_option
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_obj
def export(settings: Globals, *, folder: Path) -> None:
    """Write all repositories as one OCI layout; safe while the registry is in use, and continued when run again."""
    from registry.layouts.whole import export_registry

    with _store(settings) as store:
        moved = export_registry(store, folder)
    click.echo(f"wrote {moved.manifests} manifests, {moved.tags} tags, {moved.blobs} blobs")


@click.command("import", epilog=examples("pybuild registry import /backup/registry"))
@root_option
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.pass_obj
def import_(settings: Globals, *, folder: Path) -> None:
    """Take in what `export` wrote, or an OCI layout of another tool; what is here already is not copied again."""
    from registry.layouts.whole import import_registry

    with _store(settings) as store:
        moved = import_registry(store, folder)
    click.echo(f"took in {moved.manifests} manifests, {moved.tags} tags, {moved.blobs} blobs")


COMMANDS: tuple[click.Command, ...] = (
    explain, scrub, migrate, read_only, quota, rule, retain, history, restore, export, import_,
)  # fmt: skip
