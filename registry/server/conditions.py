"""Conditional requests (RFC 9110, 13): the entity tag of content is its digest. Pure."""

from collections.abc import Mapping

from registry.errors import DigestInvalid, UploadInvalid
from registry.model import Digest
from registry.server.problems import PreconditionFailed
from registry.storage import ANYHOW, Precondition


def etag(digest: Digest) -> str:
    return f'"{digest}"'


def must_match(headers: Mapping[str, str], digest: Digest) -> None:
    """Raises PreconditionFailed if the request is meant for other content than `digest` (If-Match)."""
    wanted = headers.get("If-Match")
    if wanted is not None and wanted.strip() != "*" and str(digest) not in _digests(wanted, weak=False):
        raise PreconditionFailed(f"it is {digest} now", hint="ask again without If-Match")


def is_fresh(headers: Mapping[str, str], digest: Digest) -> bool:
    """Whether the client already has what it asks for. Raises PreconditionFailed."""
    must_match(headers, digest)
    known = headers.get("If-None-Match")
    return known is not None and (known.strip() == "*" or str(digest) in _digests(known, weak=True))


def range_applies(headers: Mapping[str, str], digest: Digest) -> bool:
    """Whether Range is to be heeded: an If-Range that names another content means "then send all"."""
    condition = headers.get("If-Range")
    return condition is None or condition.strip() == etag(digest)


def precondition_of(headers: Mapping[str, str]) -> Precondition:
    """If-Match and If-None-Match of a PUT or DELETE of a manifest: compare-and-swap of a tag.

    Raises:
        UploadInvalid: a condition that can't be read must not be ignored, or an update would be lost.
    """
    wanted, unwanted = headers.get("If-Match"), headers.get("If-None-Match")
    if wanted is None and unwanted is None:
        return ANYHOW
    for name, condition in (("If-Match", wanted), ("If-None-Match", unwanted)):
        if condition is not None and not _digests(condition, weak=True):
            raise UploadInvalid(f"{name} is empty", hint=f'write {name}: "sha256:…", the ETag of a GET, or *')
    one_of = None if wanted is None or wanted.strip() == "*" else _known(_digests(wanted, weak=False))
    must_be_new = unwanted is not None and unwanted.strip() == "*"
    none_of = frozenset[Digest]() if unwanted is None or must_be_new else _known(_digests(unwanted, weak=True))
    return Precondition(one_of, none_of, must_exist=wanted is not None, must_be_new=must_be_new)


def _known(tags: list[str]) -> frozenset[Digest]:
    """Those that can be a manifest's; no manifest has any other entity tag, so they never match."""
    found = set()
    for tag in tags:
        try:
            found.add(Digest.parse(tag))
        except DigestInvalid:
            continue
    return frozenset(found)


def _digests(header: str, *, weak: bool) -> list[str]:
    """The entity tags in a header without their quotes; those marked weak only where a weak comparison is asked for."""
    tags = [tag.strip() for tag in header.split(",")]
    return [tag.removeprefix("W/").strip('"') for tag in tags if tag and (weak or not tag.startswith("W/"))]
