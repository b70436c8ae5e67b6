"""A single file from a web server into the store, as `ADD https://…` wants it.

Promises: nothing is stored unless it came whole and, if a digest was asked for, is that; what is here already and has
          not changed (ETag) is not sent again.
Not here: what becomes of the file (builder/).
"""

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass

from registry.client.progress import Progress, Silent
from registry.client.settings import ClientSettings
from registry.client.transport import Broken, Request, Transport
from registry.client.trust import Home, origin, shown
from registry.errors import DigestInvalid, TransferError
from registry.model import Digest
from registry.storage import ContentStore, Lease


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file of the web that is in the store. `modified` is in seconds since 1970, 0 if the server does not say."""

    digest: Digest
    size: int
    modified: int = 0
    etag: str = ""


def fetch_file(
    store: ContentStore,
    url: str,
    *,
    checksum: Digest | None = None,
    known: FetchedFile | None = None,
    headers: Mapping[str, str] | None = None,
    lease: Lease | None = None,
    progress: Progress | None = None,
    settings: ClientSettings | None = None,
) -> FetchedFile:
    """Fetch `url`.

    Args:
        store: where it goes.
        url: http or https.
        checksum: what the file must be.
        known: what came of this URL before; it is asked for again only if it changed.
        headers: more request headers; an Authorization goes to this host only.
        lease: keeps it from collection.
        progress: told how far it is.
        settings: None reads registries.toml.

    Raises:
        TransferError: it can't be had.
        DigestInvalid: it is not what `checksum` says.
    """
    scheme, host, port = origin(url)
    given = {name: value for name, value in (headers or {}).items() if name.lower() != "authorization"}
    authorization = next((value for name, value in (headers or {}).items() if name.lower() == "authorization"), None)
    if known is not None and known.etag and store.has(known.digest):
        given["If-None-Match"] = known.etag
    home = Home(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")
    request = Request("GET", url, home, given, authorization)
    transport = Transport(settings or ClientSettings.load(store.root))
    try:
        with transport.open(request) as response:
            if response.status_code == 304 and known is not None:
                if lease is not None:
                    lease.hold(known.digest)
                return known
            if response.status_code != 200:
                raise TransferError(
                    f"{shown(url)} answers {response.status_code} {response.reason_phrase}".rstrip(),
                    hint="check the address",
                )
            total = _number(response.headers.get("Content-Length", ""))
            with store.ingest(checksum.algorithm if checksum else "sha256", lease) as blob:
                for piece in transport.pieces(response):
                    blob.write(piece)
                    (progress or Silent()).update("", "Downloading", blob.size, total)
                if total and blob.size != total:
                    raise Broken(f"{shown(url)} sent {blob.size} of {total} bytes", hint="try again")
                size = blob.size
                try:
                    digest = blob.commit(checksum)
                except DigestInvalid as error:
                    raise DigestInvalid(f"{shown(url)}: {error}", hint="check the URL and --checksum") from None
            modified = _seconds(response.headers.get("Last-Modified", ""))
            return FetchedFile(digest, size, modified, response.headers.get("ETag", "")[:1000])
    finally:
        transport.close()


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _seconds(date: str) -> int:
    """An HTTP date as seconds since 1970; 0 if it is none or older."""
    try:
        return max(0, int(email.utils.parsedate_to_datetime(date).timestamp()))
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0
