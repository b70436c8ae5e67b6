"""`pybuild builder …`, `pybuild du`, `pybuild why`: care for the build cache, and questions about it."""

import json
import re
from typing import TYPE_CHECKING

import click

from pybuild.cli.door import Globals
from pybuild.cli.plain import plain
from pybuild.errors import UsageError

if TYPE_CHECKING:
    from pybuild.engine.pruning import CacheItem, Rules

_HELP = {"help_option_names": ["-h", "--help"]}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TYPES = {
    "step": "step", "mount": "mount", "unpacked": "unpacked",
    "repository": "repository",
    "regular": "step", "exec.cachemount": "mount", "source.git.checkout": "repository",  # docker's words
}  # fmt: skip
_WHAT = {
    "images": "Image blobs", "layers": "Cached layers", "spare": "Other blobs", "unpacked": "Unpacked layers",
    "mounts": "Cache mounts", "repositories": "Git mirrors", "uploads": "Uploads", "containers": "Containers",
    "volumes": "Volumes", "records": "Indexes, logs", "total": "Total",
}  # fmt: skip


@click.group(context_settings=_HELP, epilog="\b\nExample:\n  pybuild builder prune --keep-storage 10GB")
def builder() -> None:
    """Care for the build cache."""


@builder.command(
    context_settings=_HELP,
    epilog="""\b
Examples:
  pybuild builder prune                            what no image needs
  pybuild builder prune --all                      all of the cache, but for what is in use
  pybuild builder prune --keep-storage 10GB        the longest unused first, until 10 GB are left
  pybuild builder prune --max-age 24h              what nobody used for a day
  pybuild builder prune --filter type=mount --filter description=pip""",
)
@click.option("-a", "--all", "every", is_flag=True, help="Also what images of the store have.")
@click.option("--keep-storage", metavar="SIZE", help="Stop as soon as no more than this is left (10GB, 512MiB).")
@click.option("--max-age", metavar="TIME", help="Only what was not used for so long (90m, 24h, 7d).")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="until=TIME, type=step|mount|unpacked|repository, id=, description=.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--now", is_flag=True, help="Also what was used in the last minutes; not while a build runs.")
@click.option("-f", "--force", is_flag=True, help="Nothing is asked anyway.")
@click.pass_obj
def prune(
    settings: Globals,
    *,
    every: bool,
    keep_storage: str | None,
    max_age: str | None,
    filters: tuple[str, ...],
    dry_run: bool,
    now: bool,
    force: bool,
) -> None:
    """Forget cached steps, cache mounts and unpacked layers, and free what only they need."""
    del force
    import time

    from pybuild.cli import human
    from pybuild.engine.pruning import JUST_USED, cache_items, choose, prune
    from registry.storage import ContentStore

    rules = _rules(every, keep_storage, max_age, filters)
    idle = 0 if now else JUST_USED
    with ContentStore.open(settings.root) as store:
        if dry_run:
            gone = choose(cache_items(store, settings.root, idle_seconds=idle), rules, time.time())
            freed = sum(item.bytes for item in gone)
        else:
            gone, freed = prune(store, settings.root, rules, idle_seconds=idle)
    if gone:
        click.echo(_table(gone), nl=False)
    click.echo(f"{'Would reclaim' if dry_run else 'Total reclaimed space'}: {human.size(freed)}")


@click.command(
    context_settings=_HELP, epilog="\b\nExamples:\n  pybuild du\n  pybuild du -v\n  pybuild du --format json"
)
@click.option("-v", "--verbose", is_flag=True, help="Each cached step, cache mount and unpacked layer.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.pass_obj
def disk_usage(settings: Globals, *, verbose: bool, form: str) -> None:
    """Tell what takes how much of the disk; the total is what du(1) says of the root directory."""
    from pybuild.cli import human
    from pybuild.engine.pruning import KINDS, Rules, cache_items, choose
    from pybuild.engine.usage import measure
    from registry.storage import ContentStore

    with ContentStore.open(settings.root) as store:
        usage = measure(store, settings.root)
        items = cache_items(store, settings.root)
    spare = choose(items, Rules(), float("inf"))
    free = {kind: sum(item.bytes for item in spare if item.kind == kind) for kind in KINDS}
    reclaimable = {"layers": free["step"], "mounts": free["mount"], "unpacked": free["unpacked"]}
    reclaimable["repositories"] = free["repository"]
    reclaimable["total"] = sum(reclaimable.values())
    if form == "json":
        rows = [
            {"type": each.what, "count": each.count, "bytes": each.bytes, "reclaimable": reclaimable.get(each.what, 0)}
            for each in usage
        ]
        click.echo(json.dumps({"usage": rows, "items": [_as_json(item) for item in items]}, indent=2))
        return
    if verbose and items:
        click.echo(_table(items))
    table = [("TYPE", "COUNT", "SIZE", "RECLAIMABLE")]
    for each in usage:
        left = human.size(reclaimable[each.what]) if each.what in reclaimable else ""
        table.append((_WHAT[each.what], str(each.count) if each.count else "", human.size(each.bytes), left))
    click.echo(human.table(table), nl=False)


@click.command(
    context_settings=_HELP,
    epilog="""\b
Examples:
  pybuild why                    every step of the last build
  pybuild why 7
  pybuild why "RUN make\"""",
)
@click.argument("step", default="")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.pass_obj
def why(settings: Globals, *, step: str, form: str) -> None:
    """Tell which steps of the last build were not cached, and the very inputs that differed."""
    from builder.cache import report

    found = report.latest(settings.root)
    if found is None:
        raise UsageError("no build was recorded here", hint="build something first, with the same --root")
    steps = found.find(step) if step else list(found.steps)
    if not steps:
        names = ", ".join(f"#{each.number}" for each in found.steps if each.number)
        raise UsageError(f"the last build has no step {step!r}", hint=f"there is {names}; or a part of a step's text")
    if form == "json":
        click.echo(json.dumps(json.loads(report.as_json(steps)), indent=2))
        return
    click.echo(plain(report.table(steps, most=None if step else report.MOST)), nl=False)


def _rules(every: bool, keep: str | None, max_age: str | None, filters: tuple[str, ...]) -> "Rules":
    from pybuild.engine.pruning import KINDS, Rules

    found: dict[str, list[str]] = {"until": [], "type": [], "id": [], "description": []}
    for word in filters:
        key, equals, value = word.partition("=")
        if not equals or not value or key not in found:
            raise UsageError(
                f"--filter {word}: no such filter", hint=f"there is {', '.join(f'{key}=' for key in found)}"
            )
        found[key].append(value)
    if unknown := set(found["type"]) - set(_TYPES):
        raise UsageError(f"--filter type={min(unknown)}: no such type", hint=f"there is {', '.join(KINDS)}")
    ages = [parse_time(text) for text in (*found["until"], *([max_age] if max_age else ()))]
    return Rules(
        every=every,
        keep_bytes=None if keep is None else parse_size(keep),
        max_age=max(ages, default=0.0),
        kinds=frozenset(_TYPES[each] for each in found["type"]) or frozenset(KINDS),
        ids=tuple(found["id"]),
        titles=tuple(found["description"]),
    )


def parse_size(text: str) -> int:
    """`10GB` and `10g` are powers of 1000, `10GiB` of 1024; a bare number is bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([bkmgt]?)(i?)b?", text.strip().lower())
    if found is None:
        raise UsageError(f"not a size: {text!r}", hint="write 500MB, 10GB or 2GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _BYTES[found[2]])


def parse_time(text: str) -> float:
    """`90m`, `24h`, `7d`, `1h30m`; a bare number is seconds. In seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise UsageError(f"not a length of time: {text!r}", hint="write 90m, 24h or 7d")
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def _table(items: "list[CacheItem]") -> str:
    from datetime import UTC, datetime

    from pybuild.cli import human

    rows = [("TYPE", "ID", "SIZE", "LAST USED", "DESCRIPTION")]
    for item in items:
        used = human.ago(datetime.fromtimestamp(item.used, UTC).isoformat())
        title = item.title if item.title != item.id else ""
        note = " (in use)" if item.in_use else " (shared)" if item.shared else ""
        name = item.id.removeprefix("sha256:")[:12]
        rows.append((item.kind + note, name, human.size(item.bytes), used, title[:80]))
    return human.table(rows)


def _as_json(item: "CacheItem") -> dict[str, object]:
    return {
        "type": item.kind, "id": item.id, "description": item.title, "bytes": item.bytes, "used": item.used,
        "shared": item.shared, "inUse": item.in_use,
    }  # fmt: skip
