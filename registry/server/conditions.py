"""Conditional requests (RFC 9110, 13): the entity tag of content is its digest. Pure."""

from collections.abc import Mapping

from registry.errors import UploadInvalid
from registry.model import Digest


def is_fresh(headers: Mapping[str, str], digest: Digest) -> bool:
    """Whether the client already has what it asks for (If-None-Match)."""
    known = headers.get("If-None-Match")
    return known is not None and (known.strip() == "*" or str(digest) in _digests(known))


def range_applies(headers: Mapping[str, str], digest: Digest) -> bool:
    """Whether Range is to be heeded: an If-Range that names another content means "then send all"."""
    condition = headers.get("If-Range")
    return condition is None or condition.strip() == f'"{digest}"'


def tag_conditions(headers: Mapping[str, str]) -> tuple[Digest | None, bool]:
    """If-Match and If-None-Match of a manifest's PUT: what the tag must point to, and whether it must be new.

    Raises:
        UploadInvalid: a condition that can't be checked must not be ignored, or an update would be lost.
    """
    if_match, if_none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if if_none_match is not None and if_none_match.strip() != "*":
        raise UploadInvalid("If-None-Match of a PUT must be *", hint="it means: only when the tag does not exist")
    if if_match is None:
        return None, if_none_match is not None
    match _digests(if_match):
        case [digest] if digest != "*":
            return Digest.parse(digest), if_none_match is not None
    raise UploadInvalid("If-Match of a PUT takes one digest", hint='write If-Match: "sha256:…", the ETag of a GET')


def _digests(header: str) -> list[str]:
    """The entity tags in a header, weak or strong, without their quotes."""
    return [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",") if tag.strip()]
