"""Lists: tags, referrers, repositories, extensions (distribution-spec end-8, end-12; Docker's catalog)."""

from registry.errors import NameInvalid
from registry.model import Digest, MediaType
from registry.model.reference import check_repository
from registry.server.answers import Answer, json_answer
from registry.server.pages import MAX_PAGE, next_link, page_of
from registry.server.problems import PageInvalid
from registry.server.state import Call

WHOLE_LIST = 10_000  # tags in one answer when the client does not ask for pages
REFERRERS_PAGE = 100


async def list_tags(call: Call) -> Answer:
    page = page_of(call.query)
    limit = WHOLE_LIST if page.limit is None else page.limit
    tags = call.store.tags(call.name, after=page.after, limit=limit + 1)
    headers = {}
    if limit and len(tags) > limit:
        headers["Link"] = next_link(f"/v2/{call.name}/tags/list", n=limit, last=tags[limit - 1])
    return json_answer({"name": call.name, "tags": tags[:limit]}, headers)


async def list_repositories(call: Call) -> Answer:
    """Only those that can be asked for over HTTP: builds on this machine may have names with another's domain."""
    page = page_of(call.query)
    limit = MAX_PAGE if page.limit is None else page.limit
    if limit == 0:
        return json_answer({"repositories": []})
    found: list[str] = []
    after, more = page.after, True
    while more and len(found) <= limit:
        names = call.store.repositories(after=after, limit=limit + 1)
        found += [name for name in names if _is_served(name)]
        more = len(names) > limit
        after = names[-1] if names else after
    headers = {"Link": next_link("/v2/_catalog", n=limit, last=found[limit - 1])} if len(found) > limit else {}
    return json_answer({"repositories": found[:limit]}, headers)


def _is_served(name: str) -> bool:
    try:
        return bool(check_repository(name))
    except NameInvalid:
        return False


async def list_referrers(call: Call) -> Answer:
    """Never 404: of content or a repository that is not there, nothing is a referrer (oras asks so to find out)."""
    digest = Digest.parse(call.argument)
    wanted = call.query.get("artifactType") or None
    entries, cursor = call.store.referrers(
        call.name, digest, artifact_type=wanted, after=_cursor(call.query.get("after")), limit=REFERRERS_PAGE
    )
    headers = {"Content-Type": str(MediaType.OCI_INDEX)}
    if wanted:
        headers["OCI-Filters-Applied"] = "artifactType"
    if cursor is not None:
        path = f"/v2/{call.name}/referrers/{digest}"
        headers["Link"] = next_link(path, artifactType=wanted, after=cursor)
    index = {
        "schemaVersion": 2,
        "mediaType": str(MediaType.OCI_INDEX),
        "manifests": [entry.to_json() for entry in entries],
    }
    return json_answer(index, headers)


def _cursor(text: str | None) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise PageInvalid(f"not a page: {text[:40]!r}", hint="follow the Link of the page before")
    return int(text)


async def list_extensions(call: Call) -> Answer:
    del call
    discover = {
        "name": "_oci",
        "url": "https://github.com/opencontainers/distribution-spec/tree/main/extensions",
        "description": "lists the extensions of this registry",
        "endpoints": ["_oci/ext/discover"],
    }
    return json_answer({"extensions": [discover]})
