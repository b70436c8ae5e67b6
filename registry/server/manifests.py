"""Manifests: read, push, delete (distribution-spec end-3, end-7, end-9). Their bytes are never touched."""

from registry.errors import ManifestTooLarge, ManifestUnknown, TagInvalid
from registry.model import Digest, parse_manifest
from registry.model.manifest import MAX_MANIFEST
from registry.model.reference import check_tag
from registry.server.answers import IMMUTABLE, Answer
from registry.server.conditions import is_fresh, tag_conditions
from registry.server.state import Call
from registry.server.threads import in_thread


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
    found = call.store.manifest(call.name, reference)
    headers = {
        "Docker-Content-Digest": str(found.digest),
        "ETag": f'"{found.digest}"',
        "Cache-Control": IMMUTABLE if isinstance(reference, Digest) else "no-cache",
    }
    if is_fresh(call.headers, found.digest):
        return Answer(304, headers)
    headers["Content-Type"] = found.media_type
    return Answer(200, headers, found.content)


async def put_manifest(call: Call) -> Answer:
    reference = reference_of(call.argument)
    expected = reference if isinstance(reference, Digest) else None
    tags = tuple(check_tag(tag) for tag in call.tags) if expected else (str(reference),)
    content = await call.body.read(MAX_MANIFEST, _too_large())
    digest, subject = await in_thread(_put, call, content, tags, expected)
    headers = {"Location": f"/v2/{call.name}/manifests/{digest}", "Docker-Content-Digest": str(digest)}
    if subject is not None:
        headers["OCI-Subject"] = str(subject)
    if expected and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return Answer(201, headers)


def _put(call: Call, content: bytes, tags: tuple[str, ...], expected: Digest | None) -> tuple[Digest, Digest | None]:
    """Store it; its digest, and that of its subject."""
    manifest = parse_manifest(content, call.headers.get("Content-Type"))
    if_match, if_absent = tag_conditions(call.headers)
    sparse = call.state.settings.sparse_indexes
    digest = call.store.put_manifest(
        call.name, content, manifest.media_type, tags=tags, expected=expected, sparse=sparse,
        if_match=if_match, if_absent=if_absent,
    )  # fmt: skip
    return digest, manifest.subject.digest if manifest.subject else None


async def delete_manifest(call: Call) -> Answer:
    """A tag goes alone; a digest takes all its tags along."""
    reference = known_reference(call.argument)
    delete = call.store.delete_manifest if isinstance(reference, Digest) else call.store.untag
    await in_thread(delete, call.name, reference)  # type: ignore[arg-type]  # each takes its own kind
    return Answer(202)


def _too_large() -> ManifestTooLarge:
    return ManifestTooLarge(
        f"a manifest has at most {MAX_MANIFEST} bytes", hint="put large data into a blob and refer to it"
    )
