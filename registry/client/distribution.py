"""The Distribution API of one registry, from a client's side: one method a thing that can be asked.

Promises: a manifest that is returned has been checked against its digest and its media type; errors say which registry
          said what.
Not here: which content to move and where it is kept (pulling.py, pushing.py).
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self
from urllib.parse import quote, urljoin

import httpx
import msgspec

from registry.client.auth import Authorizer, repository_scope
from registry.client.credentials import CredentialFiles, Credentials
from registry.client.settings import ClientSettings
from registry.client.transport import MAX_ERROR_BODY, Answer, Broken, Request, Transport
from registry.client.trust import Home, check_target, is_loopback, origin
from registry.errors import (
    Denied,
    DigestInvalid,
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
    SizeInvalid,
    TransferError,
    Unauthorized,
    printable,
)
from registry.model import Descriptor, Digest, Index, Manifest, parse_manifest
from registry.model.manifest import MAX_MANIFEST
from registry.model.media_types import ACCEPTED_MANIFESTS
from registry.model.reference import DEFAULT_DOMAIN

HUB_HOST = "registry-1.docker.io"
# What servers that know nothing of images call a JSON file; then the body itself must say what it is.
_UNTYPED = frozenset({"", "application/json", "application/octet-stream", "text/plain"})
_ACCEPT = ", ".join(ACCEPTED_MANIFESTS)
_WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')
_MAX_WARNINGS = 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that serves a registry's content: the registry itself, or a mirror of it."""

    domain: str  # whose credentials and settings count
    prefix: str = ""  # path before the repository's
    mirror_of: str | None = None
    scheme: str | None = None  # None: whichever it speaks

    @classmethod
    def mirror(cls, text: str, of: str) -> Self:
        """Read `host`, `host:port/prefix` or a URL."""
        scheme, separator, rest = text.rpartition("://")
        domain, _, prefix = rest.strip("/").partition("/")
        return cls(domain, prefix, of, scheme if separator else None)


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest as it came, and what it says."""

    digest: Digest
    media_type: str
    content: bytes
    parsed: Manifest | Index

    @classmethod
    def read(cls, digest: Digest, media_type: str, content: bytes) -> Self:
        return cls(digest, media_type, content, parse_manifest(content, media_type))


@dataclass(frozen=True, slots=True)
class Session:
    """An upload that has been started: where the next request goes, and how much is there."""

    location: str
    offset: int = 0
    chunk_minimum: int = 0


class RefusedUpload(TransferError):
    """A registry did not take a piece of a blob."""

    def __init__(self, answer: Answer, message: str, hint: str | None) -> None:
        super().__init__(message, hint=hint)
        self.answer = answer


class RegistryClient:
    """A connection pool, credentials and manners for one registry. Safe for several threads; close it."""

    def __init__(
        self,
        domain: str | Endpoint,
        settings: ClientSettings | None = None,
        *,
        credentials: CredentialFiles | Credentials | None = None,
        path: str = "",
    ) -> None:
        self.endpoint = Endpoint(domain) if isinstance(domain, str) else domain
        self.settings = settings or ClientSettings.load()
        self.transport = Transport(self.settings)
        self._credentials = CredentialFiles() if credentials is None else credentials
        self._path = path
        self._home: Home | None = None
        self._auth: Authorizer | None = None
        self.warnings: list[str] = []  # what the registry's operator wants people to know, each once

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()

    # -- what can be asked ------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Find out how the registry is spoken to, and what it asks of us. Called by all others; once is enough.

        Raises:
            TransferError: nobody there, or nothing that is a registry.
        """
        if self._auth is not None:
            return
        domain = self.endpoint.domain
        own = self.settings.of(domain)
        host = HUB_HOST if domain == DEFAULT_DOMAIN else domain
        schemes = self._schemes(insecure=own.insecure)
        failure: RegistryError | None = None
        for scheme in schemes:
            home = Home(f"{scheme}://{host}", own.private_redirects, domain)
            greeting = Request("GET", f"{home.url}/v2/", home, again=scheme == schemes[-1])
            try:
                answer = self.transport.fetch(greeting, MAX_ERROR_BODY)
            except Broken as error:
                failure = failure or error
                continue
            if answer.status == 400 and b"HTTPS" in answer.body.upper():
                failure = TransferError(f"{domain} wants https", hint="do not list it with http://")
                continue
            self._home = home
            auth = Authorizer(self.transport, home, domain, self._credentials, self._path)
            if answer.status == 401:
                auth.learn(answer.headers.get("WWW-Authenticate", ""), ())
            elif answer.status not in {200, 403, 404}:
                raise self._error(answer, "GET /v2/")
            self._auth = auth
            return
        assert failure is not None
        raise failure

    def check_login(self) -> None:
        """Prove that the credentials are accepted. Raises Unauthorized."""
        self.connect()
        answer = self._fetch("GET", "/v2/", scopes=(), limit=MAX_ERROR_BODY)
        if answer.status >= 400 and answer.status != 404:
            raise self._error(answer, "GET /v2/")

    def head_manifest(self, path: str, wanted: str | Digest) -> Digest | None:
        """The digest a tag points to, if the registry tells without sending it."""
        answer = self._fetch(
            "HEAD",
            self._manifest_url(path, wanted),
            scopes=(repository_scope(path, "pull"),),
            headers={"Accept": _ACCEPT},
        )
        if answer.status != 200:
            return None
        try:
            return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
        except DigestInvalid:
            return None

    def manifest(self, path: str, wanted: str | Digest) -> FetchedManifest:
        """Fetch a manifest by tag or digest, and check it.

        Raises:
            ManifestUnknown: not there.
            DigestInvalid: the bytes are not what was asked for, or what the registry says they are.
            ManifestInvalid: no manifest, or of another type than the registry says.
        """
        answer = self._fetch(
            "GET",
            self._manifest_url(path, wanted),
            scopes=(repository_scope(path, "pull"),),
            headers={"Accept": _ACCEPT},
            limit=MAX_MANIFEST,
        )
        if answer.status == 404:
            raise ManifestUnknown(
                f"no such image: {self.endpoint.domain}/{path}{_suffix(wanted)}",
                hint="check its name and tag; a private one needs `pybuild login`",
            )
        if answer.status != 200:
            raise self._error(answer, f"manifest of {path}{_suffix(wanted)}")
        digest = self._checked_digest(answer, wanted)
        declared = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        try:
            parsed = parse_manifest(answer.body, None if declared in _UNTYPED else declared)
        except (ManifestInvalid, DigestInvalid, SizeInvalid) as error:
            raise type(error)(
                f"{self.endpoint.domain}/{path}{_suffix(wanted)}: {error}",
                hint=error.hint or "the image is broken, or the registry lies; do not trust it",
            ) from None
        return FetchedManifest(digest, parsed.media_type, answer.body, parsed)

    @contextlib.contextmanager
    def blob(self, path: str, descriptor: Descriptor, offset: int = 0) -> Iterator[httpx.Response]:
        """The bytes of a blob from `offset` on; status 200 (all of it, whatever was asked) or 206. Tried only once."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        request = self._request("GET", f"/v2/{self._name(path)}/blobs/{descriptor.digest}", headers=headers)
        request = replace(request, again=False)
        with self._authorized(request, (repository_scope(path, "pull"),)) as response:
            yield response

    @contextlib.contextmanager
    def foreign(self, url: str, offset: int = 0) -> Iterator[httpx.Response]:
        """Bytes from where a manifest says they are, outside of the registry: credentials never go there."""
        check_target(self._at_home(), url, "a layer's URL")
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self.transport.open(Request("GET", url, self._at_home(), headers, again=False)) as response:
            yield response

    def has_blob(self, path: str, digest: Digest) -> bool:
        """Whether it need not be sent. A registry that won't say will say so when it is sent."""
        scopes = (repository_scope(path, "pull,push"),)
        return self._fetch("HEAD", f"/v2/{self._name(path)}/blobs/{digest}", scopes=scopes).status == 200

    def has_manifest(self, path: str, digest: Digest) -> bool:
        scopes = (repository_scope(path, "pull,push"),)
        headers = {"Accept": _ACCEPT}
        return self._fetch("HEAD", self._manifest_url(path, digest), scopes=scopes, headers=headers).status == 200

    def start_upload(self, path: str, mount: Digest | None = None, source: str | None = None) -> Session | None:
        """Start an upload, or have the blob mounted from repository `source`; None when that was done."""
        scopes = [repository_scope(path, "pull,push")]
        url = f"/v2/{self._name(path)}/blobs/uploads/"
        if mount is not None and source is not None:
            scopes.append(repository_scope(source, "pull"))
            url += f"?mount={mount}&from={quote(source, safe='/')}"
        try:
            answer = self._fetch("POST", url, scopes=tuple(scopes), content=b"")
        except Unauthorized:
            if source is None:
                raise
            return self.start_upload(path)  # we may push here but not read there
        if answer.status == 201 and source is not None:
            return None
        if answer.status in {401, 403, 404, 405} and source is not None:
            return self.start_upload(path)
        if answer.status != 202:
            raise self._error(answer, f"an upload to {path}")
        return self._session(answer)

    def upload_status(self, path: str, session: Session) -> Session | None:
        """Where an upload stands (distribution-spec end-13); None when the registry has forgotten it."""
        scopes = (repository_scope(path, "pull,push"),)
        answer = self._fetch("GET", session.location, scopes=scopes, limit=MAX_ERROR_BODY)
        if answer.status not in {200, 202, 204}:
            return None
        return self._session(answer, session)

    def put_blob(
        self, path: str, session: Session, digest: Digest, body: Callable[[], Iterator[bytes]] | None, length: int
    ) -> None:
        """Send what is left of a blob, `length` bytes, and close the upload."""
        scopes = (repository_scope(path, "pull,push"),)
        joint = "&" if "?" in session.location else "?"
        headers = {"Content-Type": "application/octet-stream"}
        if session.offset and length:
            headers["Content-Range"] = f"{session.offset}-{session.offset + length - 1}"
        request = self._request("PUT", f"{session.location}{joint}digest={digest}", headers=headers)
        request = replace(
            request,
            content=body if length else b"",
            length=length,
            again=False,
            read_timeout=self.settings.commit_timeout,
        )
        answer = self._answered(request, scopes)
        if answer.status not in {201, 204}:
            raise self._refused(answer, f"blob {digest.short} of {path}")

    def patch_blob(self, path: str, session: Session, body: Callable[[], Iterator[bytes]], length: int) -> Session:
        """Send the next `length` bytes of a blob; the upload goes on where the result says."""
        scopes = (repository_scope(path, "pull,push"),)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{session.offset}-{session.offset + length - 1}",
        }
        request = self._request("PATCH", session.location, headers=headers)
        answer = self._answered(replace(request, content=body, length=length, again=False), scopes)
        if answer.status not in {202, 204}:
            raise self._refused(answer, f"a piece of a blob of {path}")
        return self._session(answer, replace(session, offset=session.offset + length))

    def put_manifest(self, path: str, wanted: str | Digest, content: bytes, media_type: str, digest: Digest) -> None:
        """Publish a manifest, exactly these bytes. Raises TransferError when the registry kept other ones."""
        answer = self._fetch(
            "PUT",
            self._manifest_url(path, wanted, mirrored=False),
            scopes=(repository_scope(path, "pull,push"),),
            headers={"Content-Type": media_type},
            content=content,
        )
        if answer.status not in {200, 201, 202}:
            raise self._error(answer, f"manifest of {path}{_suffix(wanted)}")
        told = answer.headers.get("Docker-Content-Digest", "")
        if told.startswith(f"{digest.algorithm}:") and told != str(digest):
            raise TransferError(
                f"{self.endpoint.domain} changed the manifest: sent {digest}, kept {printable(told)}",
                hint="the registry rewrites manifests; pull by the digest it gives, or use another",
            )

    # -- how it is asked --------------------------------------------------------------------------------------------

    def _schemes(self, *, insecure: bool) -> tuple[str, ...]:
        """Which to try: https alone, unless this host is us or is listed."""
        domain = self.endpoint.domain
        host = domain[: domain.rindex("]") + 1] if domain.startswith("[") else domain.partition(":")[0]
        if self.endpoint.scheme == "http" and not (insecure or is_loopback(host)):
            raise TransferError(
                f"{domain} is listed with http, which is only for registries with insecure = true",
                hint=f'add [registry."{domain}"] with insecure = true to registries.toml',
            )
        if self.endpoint.scheme:
            return (self.endpoint.scheme,)
        if is_loopback(host):
            return ("http", "https")
        return ("https", "http") if insecure else ("https",)

    def _at_home(self) -> Home:
        self.connect()
        assert self._home is not None
        return self._home

    def _name(self, path: str) -> str:
        return f"{self.endpoint.prefix}/{path}" if self.endpoint.prefix else path

    def _manifest_url(self, path: str, wanted: str | Digest, *, mirrored: bool = True) -> str:
        of = self.endpoint.mirror_of if mirrored else None
        return f"/v2/{self._name(path)}/manifests/{wanted}" + (f"?ns={of}" if of else "")

    def _request(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Request:
        home = self._at_home()
        return Request(method, home.url + url if url.startswith("/") else url, home, headers or {})

    def _fetch(
        self,
        method: str,
        url: str,
        *,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limit: int = MAX_ERROR_BODY,
    ) -> Answer:
        return self._answered(replace(self._request(method, url, headers), content=content), scopes, limit)

    def _answered(self, request: Request, scopes: tuple[str, ...], limit: int = MAX_ERROR_BODY) -> Answer:
        """Send with credentials; once more when a 401 teaches us how."""
        auth = self._authorizer()
        answer = self.transport.fetch(replace(request, authorization=self._header(request, scopes)), limit)
        if answer.status != 401:
            self._note_warnings(answer)
            return answer
        if auth.learn(answer.headers.get("WWW-Authenticate", ""), scopes):
            answer = self.transport.fetch(replace(request, authorization=self._header(request, scopes)), limit)
        if answer.status == 401:
            raise auth.refused(" ".join(scopes) or "this")
        return answer

    def _note_warnings(self, answer: Answer) -> None:
        """Keep warnings of the one form that registries may send (distribution-spec, "Warnings")."""
        for text in _WARNING.findall(answer.headers.get("Warning", "")[:4096]):
            plain = printable(re.sub(r"\\(.)", r"\1", text))
            if plain not in self.warnings and len(self.warnings) < _MAX_WARNINGS:
                self.warnings.append(plain)

    @contextlib.contextmanager
    def _authorized(self, request: Request, scopes: tuple[str, ...]) -> Iterator[httpx.Response]:
        auth = self._authorizer()
        with contextlib.ExitStack() as stack:
            opened = replace(request, authorization=self._header(request, scopes))
            response = stack.enter_context(self.transport.open(opened))
            if response.status_code == 401:
                stack.close()
                if not auth.learn(response.headers.get("WWW-Authenticate", ""), scopes):
                    raise auth.refused(" ".join(scopes))
                opened = replace(request, authorization=self._header(request, scopes))
                response = stack.enter_context(self.transport.open(opened))
            if response.status_code == 401:
                raise auth.refused(" ".join(scopes))
            yield response

    def _authorizer(self) -> Authorizer:
        self.connect()
        assert self._auth is not None
        return self._auth

    def _header(self, request: Request, scopes: tuple[str, ...]) -> str | None:
        """Our credentials, if the request goes to the registry: an upload's Location may be elsewhere."""
        return self._authorizer().header(scopes) if origin(request.url) == origin(request.home.url) else None

    def _session(self, answer: Answer, known: Session | None = None) -> Session:
        """Read Location, Range and the least size of a chunk of an answer to an upload's request."""
        location = answer.headers.get("Location")
        if location is None and known is None:
            raise TransferError(f"{self.endpoint.domain} starts an upload without Location", hint="it is no registry")
        target = urljoin(answer.url, location) if location else (known.location if known else "")
        check_target(self._at_home(), target, "an upload")
        offset = known.offset if known else 0
        if known is not None and (
            match := re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
        ):
            offset = int(match[1]) + 1 if int(match[1]) else 0
        minimum = answer.headers.get("OCI-Chunk-Min-Length", "")
        least = int(minimum) if minimum.isascii() and minimum.isdigit() and len(minimum) < 12 else 0
        return Session(target, offset, least or (known.chunk_minimum if known else 0))

    def _checked_digest(self, answer: Answer, wanted: str | Digest) -> Digest:
        """The digest of a manifest's bytes, equal to that which was asked for and to that which the registry tells."""
        expected = wanted if isinstance(wanted, Digest) else None
        if expected is None and (told := answer.headers.get("Docker-Content-Digest")):
            expected = Digest.parse(told)
        found = Digest.of(answer.body, expected.algorithm if expected else "sha256")
        if expected is not None and found != expected:
            raise DigestInvalid(
                f"{self.endpoint.domain} sent a manifest with digest {found}, expected {expected}",
                hint="the registry or something on the way to it changes content; do not trust it",
            )
        return found

    def _error(self, answer: Answer, what: str) -> RegistryError:
        """The error for an answer that is none of the expected ones."""
        message = f"{self.endpoint.domain} answers {answer.status} for {what}{_told(answer.body)}"
        if answer.status == 401:
            return self._authorizer().refused(what)
        if answer.status == 403:
            return Denied(message, hint=f"another user may be allowed to: pybuild login {self.endpoint.domain}")
        if answer.status == 429:
            return TransferError(message, hint="it limits how much may be fetched; log in, or wait")
        if answer.status >= 500:
            return TransferError(message, hint="the registry has a fault of its own; try again later, or see its log")
        return TransferError(
            message, hint="see the log of the registry" if _told(answer.body) else "is this a registry?"
        )

    def _refused(self, answer: Answer, what: str) -> RegistryError:
        error = self._error(answer, what)
        return RefusedUpload(answer, str(error), error.hint) if isinstance(error, TransferError) else error


class _ErrorJson(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorsJson(msgspec.Struct):
    errors: list[_ErrorJson] = []


def _told(body: bytes) -> str:
    """The registry's own words, short and without anything that could drive a terminal."""
    try:
        errors = msgspec.json.decode(body, type=_ErrorsJson).errors
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    told = "; ".join(printable(f"{error.code} {error.message}".strip()) for error in errors[:3])
    return f": {told}" if told else ""


def _suffix(wanted: str | Digest) -> str:
    return f"@{wanted}" if isinstance(wanted, Digest) else f":{wanted}"
