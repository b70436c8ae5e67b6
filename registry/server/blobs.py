"""Reading and removing blobs (distribution-spec end-2, end-10)."""

import secrets
from typing import BinaryIO

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.server.answers import IMMUTABLE, Answer, FileParts
from registry.server.backend import SMALL_BLOB
from registry.server.conditions import etag, is_fresh, must_match, range_applies
from registry.server.ranges import Span, part_heads, spans_of
from registry.server.state import Call

_TYPE = "application/octet-stream"  # never empty: stargz refuses that


async def get_blob(call: Call) -> Answer:
    """GET and HEAD. The repository's own row is asked each time: content being there is not enough."""
    digest = Digest.parse(call.argument)
    # HEAD is how clients that push ask what to leave out: then the blob must stay until their manifest comes
    if not await call.meta.may_read(call.name, digest, pushing=call.method == "HEAD"):
        raise BlobUnknown(f"{call.name} has no blob {digest}", hint="push it first")
    headers = {"Docker-Content-Digest": str(digest), "ETag": etag(digest), "Cache-Control": IMMUTABLE}
    if is_fresh(call.headers, digest):
        return Answer(304, headers)
    headers |= {"Content-Type": _TYPE, "Accept-Ranges": "bytes"}
    size = await call.blobs.size(digest)
    if call.method == "HEAD":
        return Answer(200, headers, length=size)
    wanted = call.headers.get("Range")
    spans = spans_of(wanted, size) if wanted and range_applies(call.headers, digest) else None
    if spans is None and size <= SMALL_BLOB:
        return Answer(200, headers, await call.blobs.read_small(digest))
    return _parts(headers, await call.blobs.open(digest), size, spans)


def _parts(headers: dict[str, str], file: BinaryIO, size: int, spans: tuple[Span, ...] | None) -> Answer:
    if spans is None:
        return Answer(200, headers, FileParts(file, (Span(0, size),)))
    if len(spans) == 1:
        return Answer(206, headers | {"Content-Range": spans[0].content_range(size)}, FileParts(file, spans))
    boundary = secrets.token_hex(16)
    heads, tail = part_heads(spans, size, boundary, _TYPE)
    headers = headers | {"Content-Type": f"multipart/byteranges; boundary={boundary}"}
    return Answer(206, headers, FileParts(file, spans, tuple(heads), tail))


async def delete_blob(call: Call) -> Answer:
    digest = Digest.parse(call.argument)
    must_match(call.headers, digest)
    await call.meta.unlink_blob(call.name, digest)
    return Answer(202)
