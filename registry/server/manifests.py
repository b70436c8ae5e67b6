"""Manifests: read, push, delete (distribution-spec end-3, end-7, end-9). Their bytes are never touched."""

from registry.errors import ManifestTooLarge, ManifestUnknown, TagInvalid
from registry.model import Digest, parse_manifest
from registry.model.manifest import MAX_MANIFEST
from registry.model.reference import check_tag
from registry.server.answers import IMMUTABLE, Answer
from registry.server.conditions import etag, is_fresh, precondition_of
from registry.server.state import Call
from registry.server.warnings import warning_header

_NEARLY_FULL = 0.8  # of a quota: from here on, pushes are warned


def reference_of(text: str) -> str | Digest:
    """A tag or a digest; only digests have a colon. Raises TagInvalid, DigestInvalid."""
    return Digest.parse(text) if ":" in text else check_tag(text)


def known_reference(text: str) -> str | Digest:
    """The same of what should exist: an impossible tag is just not there, says the conformance suite."""
    try:
        return reference_of(text)
    except TagInvalid as error:
        raise ManifestUnknown(str(error), hint=error.hint) from None


async def get_manifest(call: Call) -> Answer:
    """GET and HEAD. What was pushed is what is sent, whatever Accept says: by its digest nothing else would do."""
    reference = known_reference(call.argument)
    found = await call.meta.manifest(call.name, reference)
    headers = {
        "Docker-Content-Digest": str(found.digest),
        "ETag": etag(found.digest),
        "Cache-Control": IMMUTABLE if isinstance(reference, Digest) else "no-cache",
    }
    if is_fresh(call.headers, found.digest):
        return Answer(304, headers)
    if call.method == "GET":
        call.meta.note_pull(call.name, found.digest)
    headers["Content-Type"] = found.media_type
    return Answer(200, headers, found.content)


async def put_manifest(call: Call) -> Answer:
    reference = reference_of(call.argument)
    expected = reference if isinstance(reference, Digest) else None
    tags = tuple(check_tag(tag) for tag in call.tags) if expected else (str(reference),)
    content = await call.body.read(MAX_MANIFEST, _too_large())
    manifest = parse_manifest(content, call.headers.get("Content-Type"))
    digest = await call.meta.put_manifest(
        call.name, content, manifest.media_type, tags=tags, expected=expected,
        sparse=call.state.settings.sparse_indexes, when=precondition_of(call.headers), by=call.client,
    )  # fmt: skip
    headers = {
        "Location": f"/v2/{call.name}/manifests/{digest}",
        "Docker-Content-Digest": str(digest),
        "ETag": etag(digest),
    }
    if manifest.subject is not None:
        headers["OCI-Subject"] = str(manifest.subject.digest)
    if expected and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return Answer(201, headers | warning_header(await _cautions(call)))


async def _cautions(call: Call) -> list[str]:
    space = await call.meta.limited(call.name)
    if space is None or space.quota is None or space.used < space.quota * _NEARLY_FULL:
        return []
    return [f"{space.used} of the {space.quota} bytes that this namespace may hold are used"]


async def delete_manifest(call: Call) -> Answer:
    """A tag goes alone; a digest takes all its tags along."""
    reference = known_reference(call.argument)
    when = precondition_of(call.headers)
    if isinstance(reference, Digest):
        await call.meta.delete_manifest(call.name, reference, when=when, by=call.client)
    else:
        await call.meta.untag(call.name, reference, when=when, by=call.client)
    return Answer(202)


def _too_large() -> ManifestTooLarge:
    return ManifestTooLarge(
        f"a manifest has at most {MAX_MANIFEST} bytes", hint="put large data into a blob and refer to it"
    )
