"""ADD of a URL: fetched once, asked for again only if the server says that it changed."""

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from builder.ops.files import WebFile
from builder.ops.mounts import read_secret
from builder.ops.workshop import Secret, Workshop
from builder.plan.vertices import HttpOp, canonical
from builder.progress import Step
from registry.client.fetch import FetchedFile, fetch_file
from registry.client.progress import Progress
from registry.model import Digest
from registry.storage import ContentStore, Lease


def fetch(op: HttpOp, shop: Workshop, step: Step) -> tuple[WebFile, bool]:
    """The file, in the store; and whether it was there already. Raises TransferError, DigestInvalid."""
    progress = shop.until_canceled(step)
    file, known = download(op.url, shop.store, shop.secrets, checksum=op.checksum, lease=shop.lease, step=progress)
    return WebFile(op, file.digest, file.modified), known


def download(
    url: str,
    store: ContentStore,
    secrets: Mapping[str, Secret],
    *,
    lease: Lease,
    step: Progress,
    checksum: Digest | None = None,
) -> tuple[FetchedFile, bool]:
    """As fetch()."""
    key = Digest.of(canonical({"http": url, "algorithm": checksum.algorithm if checksum else "sha256"}))
    known = _known(store.cache_get(key))
    if known is not None and known.digest == checksum and store.has(known.digest):
        lease.hold(known.digest)
        return known, True
    headers = _headers(url, secrets)
    file = fetch_file(store, url, checksum=checksum, known=known, headers=headers, lease=lease, progress=step)
    store.cache_put(key, _record(file), [file.digest], kind="download")
    return file, file is known


def _headers(url: str, secrets: Mapping[str, Secret]) -> Mapping[str, str]:
    """Who we are, if a secret named after the host says so, as BuildKit has it."""
    host = urlsplit(url).hostname or ""
    for prefix, form in (("HTTP_AUTH_HEADER_", "{}"), ("HTTP_AUTH_TOKEN_", "Bearer {}")):
        if (secret := secrets.get(prefix + host)) is not None:
            return {"Authorization": form.format(read_secret(secret).decode().strip())}
    return {}


def _record(file: FetchedFile) -> bytes:
    return json.dumps([str(file.digest), file.size, file.modified, file.etag]).encode()


def _known(record: bytes | None) -> FetchedFile | None:
    if record is None:
        return None
    digest, size, modified, etag = json.loads(record)
    return FetchedFile(Digest.parse(digest), size, modified, etag)
