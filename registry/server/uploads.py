"""Pushing blobs: in one request, in chunks, as a stream, or by mounting (distribution-spec end-4, 5, 6, 11, 13, 14)."""

from dataclasses import replace

from registry.errors import ChunkOutOfOrder, DigestInvalid, DiskFull, NameInvalid, QuotaExceeded
from registry.model import Digest
from registry.model.reference import check_repository
from registry.server.answers import Answer, error_answer
from registry.server.backend import UploadSession
from registry.server.conditions import etag
from registry.server.ranges import check_chunk, received
from registry.server.state import Call


async def post_upload(call: Call) -> Answer:
    """Start a session; or take the whole blob at once (`digest`); or find it in another repository (`mount`)."""
    if wanted := call.query.get("mount"):
        digest = Digest.parse(wanted)
        if await call.meta.mount(call.name, digest, _source(call.query.get("from"))):
            return _created(call.name, digest)
    expected = Digest.parse(call.query["digest"]) if "digest" in call.query else None
    algorithm = expected.algorithm if expected else call.query.get("digest-algorithm", "sha256")
    upload = await call.blobs.start_upload(call.name, algorithm)
    return _progress(202, upload) if expected is None else await _receive(call, upload, expected)


def _source(name: str | None) -> str | None:
    """Where to mount from. A name that no repository can have is like one that does not exist: no mount."""
    try:
        return check_repository(name) if name else None
    except NameInvalid:
        return ""


async def patch_upload(call: Call) -> Answer:
    """One chunk (with Content-Range) or as much of a stream as comes."""
    return await _receive(call, await call.blobs.upload(call.name, call.argument), expected=None)


async def put_upload(call: Call) -> Answer:
    """The end of an upload, with its last bytes or none."""
    if "digest" not in call.query:
        raise DigestInvalid("no digest given", hint="end an upload with PUT …?digest=sha256:…")
    expected = Digest.parse(call.query["digest"])
    return await _receive(call, await call.blobs.upload(call.name, call.argument), expected)


async def _receive(call: Call, upload: UploadSession, expected: Digest | None) -> Answer:
    """Take the body; with `expected` it is the last of the upload. What has come counts, however this ends."""
    try:
        if claimed := call.headers.get("Content-Range"):
            check_chunk(upload.size, claimed, call.body.length)
        await upload.receive(call.body.pieces())
        if expected is not None:
            return _created(call.name, await upload.finish(expected))
        return _progress(202, upload)
    except ChunkOutOfOrder as error:
        refusal, stands = error_answer(error), _progress(204, await call.blobs.upload(call.name, upload.id))
        return replace(refusal, headers={**refusal.headers, **stands.headers})  # regctl goes on from these
    except (DiskFull, QuotaExceeded):
        await upload.cancel()  # what had no room makes room for the next push
        raise
    finally:
        upload.flush()


async def get_upload(call: Call) -> Answer:
    """Where to go on after a broken connection."""
    return _progress(204, await call.blobs.upload(call.name, call.argument))


async def delete_upload(call: Call) -> Answer:
    upload = await call.blobs.upload(call.name, call.argument)
    await upload.cancel()
    return Answer(204)


def _created(name: str, digest: Digest) -> Answer:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": str(digest), "ETag": etag(digest)}
    return Answer(201, headers)


def _progress(status: int, upload: UploadSession) -> Answer:
    headers = {
        "Location": f"/v2/{upload.repo}/blobs/uploads/{upload.id}",  # relative: no proxy in between can make it wrong
        "Range": received(upload.size),
        "Docker-Upload-UUID": upload.id,
    }
    return Answer(status, headers)
