"""ADD of a URL: fetched once, asked for again only if the server says that it changed."""

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from builder.ops.files import WebFile
from builder.ops.mounts import read_secret
from builder.ops.workshop import Workshop
from builder.plan.vertices import HttpOp, canonical
from builder.progress import Step
from registry.client.fetch import FetchedFile, fetch_file
from registry.model import Digest


def fetch(op: HttpOp, shop: Workshop, step: Step) -> tuple[WebFile, bool]:
    """The file, in the store; and whether it was there already. Raises TransferError, DigestInvalid."""
    key = Digest.of(canonical({"http": op.url, "algorithm": op.checksum.algorithm if op.checksum else "sha256"}))
    known = _known(shop.store.cache_get(key))
    if known is not None and known.digest == op.checksum and shop.store.has(known.digest):
        shop.lease.hold(known.digest)
        return WebFile(op, known.digest, known.modified), True
    file = fetch_file(
        shop.store, op.url, checksum=op.checksum, known=known, headers=_headers(op.url, shop), lease=shop.lease,
        progress=step,
    )  # fmt: skip
    shop.store.cache_put(key, _record(file), [file.digest], kind="download")
    return WebFile(op, file.digest, file.modified), file is known


def _headers(url: str, shop: Workshop) -> Mapping[str, str]:
    """Who we are, if a secret named after the host says so, as BuildKit has it."""
    host = urlsplit(url).hostname or ""
    for prefix, form in (("HTTP_AUTH_HEADER_", "{}"), ("HTTP_AUTH_TOKEN_", "Bearer {}")):
        if (secret := shop.secrets.get(prefix + host)) is not None:
            return {"Authorization": form.format(read_secret(secret).decode().strip())}
    return {}


def _record(file: FetchedFile) -> bytes:
    return json.dumps([str(file.digest), file.size, file.modified, file.etag]).encode()


def _known(record: bytes | None) -> FetchedFile | None:
    if record is None:
        return None
    digest, size, modified, etag = json.loads(record)
    return FetchedFile(Digest.parse(digest), size, modified, etag)
