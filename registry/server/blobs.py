"""Reading and removing blobs (distribution-spec end-2, end-10)."""

import secrets
from typing import BinaryIO

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.server.answers import IMMUTABLE, Answer, FileParts
from registry.server.conditions import is_fresh, range_applies
from registry.server.ranges import Span, part_heads, spans_of
from registry.server.state import SMALL_BLOB, Call
from registry.server.threads import in_thread

_TYPE = "application/octet-stream"  # never empty: stargz refuses that


async def get_blob(call: Call) -> Answer:
    """GET and HEAD. The repository's own row is asked each time: content being there is not enough."""
    digest = Digest.parse(call.argument)
    if not await _may_read(call, digest):
        raise BlobUnknown(f"{call.name} has no blob {digest}", hint="push it first")
    headers = {"Docker-Content-Digest": str(digest), "ETag": f'"{digest}"', "Cache-Control": IMMUTABLE}
    if is_fresh(call.headers, digest):
        return Answer(304, headers)
    headers |= {"Content-Type": _TYPE, "Accept-Ranges": "bytes"}
    size = call.store.size(digest)
    if call.method == "HEAD":
        return Answer(200, headers, length=size)
    wanted = call.headers.get("Range")
    spans = spans_of(wanted, size) if wanted and range_applies(call.headers, digest) else None
    if spans is None and size <= SMALL_BLOB:
        return Answer(200, headers, call.state.small.read(digest))
    return _parts(headers, call.store.open_blob(digest), size, spans)


async def _may_read(call: Call, digest: Digest) -> bool:
    """HEAD is how clients that push ask what to leave out: then the blob must stay until their manifest comes."""
    if call.method != "HEAD":
        return call.store.repo_has(call.name, digest)
    return await in_thread(call.store.repo_has, call.name, digest, extend=True)


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
    await in_thread(call.store.unlink_blob, call.name, digest)
    return Answer(202)
