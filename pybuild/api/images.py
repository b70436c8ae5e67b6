"""Images: /images/…, all but transfers (transfers.py)."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pybuild.api.calls import Call, boolean_filter, done, reply
from pybuild.api.daemon import Daemon
from pybuild.api.problems import BadRequest
from pybuild.api.versions import NO_VIRTUAL_SIZE
from pybuild.engine.events import tell
from pybuild.engine.images import NONE, Listed
from pybuild.engine.times import parse_time
from pybuild.errors import NotFound
from registry.errors import NameInvalid
from registry.model import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

_FILTERS = ("dangling", "label", "label!", "before", "since", "reference", "until")


def shown(name: str) -> str:
    """A name as docker's messages have it, with its tag."""
    try:
        return str(Reference.parse(name).tagged)
    except NameInvalid:
        return name


async def listing(call: Call) -> web.StreamResponse:
    """GET /images/json: an entry an image, with all its names."""
    filters = call.filters(_FILTERS)
    for key in ("label!", "before", "since", "until"):
        if key in filters:
            raise BadRequest(f"the image filter '{key}' is not supported yet")
    dangling = boolean_filter(filters, "dangling")
    wanted = [f"label={label}" for label in filters.get("label", ())]

    def keeps(rows: list[Listed]) -> list[Listed]:
        if dangling is not None and dangling == any(row.tag != NONE for row in rows):
            return []
        if references := filters.get("reference", []):
            rows = [row for row in rows if any(row.fits(f"reference={text}") for text in references)]
        return rows if rows and all(rows[0].fits(one) for one in wanted) else []

    found = await call.daemon.run(listed, call.daemon, keeps)
    if call.version < NO_VIRTUAL_SIZE:
        found = [entry | {"VirtualSize": entry["Size"]} for entry in found]
    return reply(found if call.flag("shared-size") else [entry | {"Containers": -1} for entry in found])


def listed(daemon: Daemon, keeps: "Callable[[list[Listed]], list[Listed]]" = lambda rows: rows) -> list[dict[str, Any]]:
    """An entry for each image, with those of its names that `keeps` gives back."""
    used: dict[str, int] = {}
    for one in daemon.containers.all():
        used[one.record.image_id] = used.get(one.record.image_id, 0) + 1
    found: dict[str, list[Listed]] = {}
    for row in daemon.images.listing():
        found.setdefault(str(row.id), []).append(row)
    kept = {image: keeps(rows) for image, rows in found.items()}
    return [_entry(image, rows, used.get(image, 0)) for image, rows in kept.items() if rows]


def _entry(image: str, rows: list[Listed], containers: int) -> dict[str, Any]:
    first = rows[0]
    return {
        "Id": image,
        "ParentId": "",
        "RepoTags": [f"{row.repository}:{row.tag}" for row in rows if row.tag != NONE],
        "RepoDigests": sorted({f"{row.repository}@{row.digest}" for row in rows if row.repository != NONE}),
        "Created": _seconds(parse_time(first.created)),
        "Size": first.size,
        "SharedSize": -1,
        "Labels": dict(first.labels) or None,
        "Containers": containers,
    }


def _seconds(moment: datetime | None) -> int:
    return 0 if moment is None or moment.year <= 1 else int(moment.timestamp())


async def inspect(call: Call) -> web.StreamResponse:
    with_name = await call.daemon.run(found_or_unknown, call.daemon, call.name)
    if call.version >= NO_VIRTUAL_SIZE:
        with_name.pop("VirtualSize", None)
    return reply(with_name)


def found_or_unknown(daemon: Daemon, name: str) -> dict[str, Any]:
    try:
        return daemon.images.inspect(name)
    except NotFound:
        raise unknown(name) from None


def unknown(name: str) -> NotFound:
    return NotFound(f"No such image: {shown(name)}")


async def history(call: Call) -> web.StreamResponse:
    def work() -> list[dict[str, Any]]:
        tags = found_or_unknown(call.daemon, call.name)["RepoTags"]
        return [
            {
                "Id": step.id, "Created": _seconds(parse_time(step.created)), "CreatedBy": step.created_by,
                "Tags": tags if step.id != "<missing>" else None, "Size": step.size, "Comment": step.comment,
            }
            for step in call.daemon.images.history(call.name)
        ]  # fmt: skip

    return reply(await call.daemon.run(work))


async def tag(call: Call) -> web.StreamResponse:
    repository, name = call.text("repo"), call.text("tag")
    if not repository:
        raise BadRequest("repository name must be given: repo=NAME")
    target = f"{repository}:{name}" if name else repository

    def work() -> None:
        image = found_or_unknown(call.daemon, call.name)
        call.daemon.images.tag(call.name, target)
        tell(call.daemon.root, "image", "tag", image["Id"], name=target)

    await call.daemon.run(work)
    return done(201)


async def remove(call: Call) -> web.StreamResponse:
    def work() -> list[dict[str, str]]:
        found_or_unknown(call.daemon, call.name)
        removed = call.daemon.images.remove(call.name, force=call.flag("force"))
        for one in removed:
            tell(call.daemon.root, "image", "untag" if one.action == "Untagged" else "delete", one.what, name=one.what)
        return [{one.action: one.what} for one in removed]

    return reply(await call.daemon.run(work))


async def prune(call: Call) -> web.StreamResponse:
    filters = call.filters(("dangling", "label", "label!", "until"))
    if set(filters) - {"dangling"}:
        raise BadRequest("only the filter dangling is supported")
    every = boolean_filter(filters, "dangling") is False
    removed, size = await call.daemon.run(partial(call.daemon.images.prune, every=every))
    return reply({"ImagesDeleted": [{one.action: one.what} for one in removed] or None, "SpaceReclaimed": size})
