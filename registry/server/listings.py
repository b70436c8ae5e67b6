"""Lists: tags, referrers, repositories, extensions (distribution-spec end-8, end-12; Docker's catalog)."""

from collections.abc import Mapping
from dataclasses import replace

from registry.errors import NameInvalid
from registry.model import Digest, MediaType
from registry.model.reference import check_repository
from registry.server.answers import Answer, json_answer
from registry.server.conditions import etag, is_fresh
from registry.server.pages import MAX_PAGE, next_link, page_of
from registry.server.problems import PageInvalid
from registry.server.state import Call

WHOLE_LIST = 10_000  # tags in one answer when the client does not ask for pages
REFERRERS_PAGE = 100


def _listing(call: Call, content: object, headers: Mapping[str, str] | None = None) -> Answer:
    """A list that a client which has it already is not sent again."""
    answer = json_answer(content, headers)
    assert isinstance(answer.body, bytes)
    digest = Digest.of(answer.body)
    kept = {**answer.headers, "ETag": etag(digest), "Cache-Control": "no-cache"}
    return Answer(304, kept) if is_fresh(call.headers, digest) else replace(answer, headers=kept)


async def list_tags(call: Call) -> Answer:
    page = page_of(call.query)
    limit = WHOLE_LIST if page.limit is None else page.limit
    tags = await call.meta.tags(call.name, after=page.after, limit=limit + 1)
    headers = {}
    if limit and len(tags) > limit:
        headers["Link"] = next_link(f"/v2/{call.name}/tags/list", n=limit, last=tags[limit - 1])
    return _listing(call, {"name": call.name, "tags": tags[:limit]}, headers)


async def list_repositories(call: Call) -> Answer:
    """Only those that can be asked for over HTTP: builds on this machine may have names with another's domain."""
    page = page_of(call.query)
    limit = MAX_PAGE if page.limit is None else page.limit
    if limit == 0:
        return _listing(call, {"repositories": []})
    found: list[str] = []
    after, more = page.after, True
    while more and len(found) <= limit:
        names = await call.meta.repositories(after=after, limit=limit + 1)
        found += [name for name in names if _is_served(name)]
        more = len(names) > limit
        after = names[-1] if names else after
    headers = {"Link": next_link("/v2/_catalog", n=limit, last=found[limit - 1])} if len(found) > limit else {}
    return _listing(call, {"repositories": found[:limit]}, headers)


def _is_served(name: str) -> bool:
    try:
        return bool(check_repository(name))
    except NameInvalid:
        return False


async def list_referrers(call: Call) -> Answer:
    """Never 404: of content or a repository that is not there, nothing is a referrer (oras asks so to find out)."""
    digest = Digest.parse(call.argument)
    wanted = call.query.get("artifactType") or None
    entries, cursor = await call.meta.referrers(
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
    return _listing(call, index, headers)


def _cursor(text: str | None) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise PageInvalid(f"not a page: {text[:40]!r}", hint="follow the Link of the page before")
    return int(text)


async def list_extensions(call: Call) -> Answer:
    discover = {
        "name": "_oci",
        "url": "https://github.com/opencontainers/distribution-spec/tree/main/extensions",
        "description": "lists the extensions of this registry",
        "endpoints": ["_oci/ext/discover"],
    }
    return _listing(call, {"extensions": [discover]})
