"""The one place that speaks HTTP: bounded connections, time limits, tries, redirects followed by hand.

Promises: an Authorization header goes to the origin it was made for and nowhere else; no answer that is read whole can
          exceed its limit; no request is tried without end.
Not here: who we are (auth.py); what the Distribution API says (distribution.py).
"""

import contextlib
import email.utils
import errno
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin

import httpx

from registry.client.settings import ClientSettings, waits
from registry.client.trust import Home, check_target, is_loopback, origin, shown, split
from registry.errors import TransferError, printable

MAX_REDIRECTS = 6
MAX_ERROR_BODY = 64 * 1024
_RETRIED = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SLOWEST = 64  # bytes a second, over one read timeout: slower than this is a broken registry, not a slow one
_NO_RETRY_ERRNOS = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})


class Cancelled(Exception):
    """The transfer has been given up: a signal among our own threads, never seen by a user."""


class Broken(TransferError):
    """The connection failed or timed out; the same request may succeed later."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "check the network, or try again later",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.headers = headers or {}  # of the answer that said so; may hold Retry-After

    @property
    def worth_retrying(self) -> bool:
        """Not when nobody listens, the name is unknown, or the certificate is refused: that stays so."""
        cause: BaseException | None = self.__cause__
        if not isinstance(cause, httpx.ConnectError):
            return True
        text = str(cause)
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _NO_RETRY_ERRNOS:
                return False
            cause = cause.__cause__ or cause.__context__
        return "SSL" not in text and "[Errno -" not in text


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request that can be sent again: its body is bytes, or a function that starts the body anew."""

    method: str
    url: str
    home: Home  # the registry on whose behalf it is sent
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = None
    content: bytes | Callable[[], Iterator[bytes]] | None = None
    length: int | None = None  # of a body that is a function
    again: bool = True  # whether it may be sent again after it failed
    read_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, read within its limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str  # after redirects


class Transport:
    """A bounded pool of connections; safe for several threads."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str | None, bool], httpx.Client] = {}

    def close(self) -> None:
        self.stop.set()
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def fetch(self, request: Request, limit: int) -> Answer:
        """Send, and read the whole answer, at most `limit` bytes of it.

        Raises:
            Broken: no whole answer after all tries.
            TransferError: the answer is longer than `limit`, or leads somewhere it must not.
        """
        for wait in (*waits(self.settings), None):
            try:
                with self._followed(request) as response:
                    body = _read_bounded(response, limit, self.settings.read_timeout)
                    answer = Answer(response.status_code, response.headers, body, str(response.url))
            except Broken as error:
                if wait is None or not request.again or not error.worth_retrying:
                    raise
                self.pause(wait)
                continue
            if answer.status not in _RETRIED or wait is None or not request.again:
                return answer
            self.pause(wait, answer.headers)
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[httpx.Response]:
        """Send, and give the answer with its body still to be read (see `pieces`); retried until a body starts."""
        with contextlib.ExitStack() as stack:
            yield self._opened(request, stack)

    def _opened(self, request: Request, stack: contextlib.ExitStack) -> httpx.Response:
        for wait in (*waits(self.settings), None):
            with contextlib.ExitStack() as attempt:
                try:
                    response = attempt.enter_context(self._followed(request))
                except Broken as error:
                    if wait is None or not request.again or not error.worth_retrying:
                        raise
                    self.pause(wait)
                    continue
                if response.status_code not in _RETRIED or wait is None or not request.again:
                    stack.push(attempt.pop_all())
                    return response
                headers = response.headers
            self.pause(wait, headers)
        raise AssertionError("the last try returns or raises")

    def pieces(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it comes, exactly as sent.

        Raises:
            Broken: the connection breaks.
            TransferError: it all but stops; bytes that drip would count as progress for ever.
        """
        started, received = time.monotonic(), 0
        with _translated(str(response.url)):
            for piece in response.iter_raw():
                if self.stop.is_set():
                    raise Cancelled
                received += len(piece)
                if (elapsed := time.monotonic() - started) > self.settings.read_timeout:
                    if received < _SLOWEST * elapsed:
                        raise TransferError(
                            f"{shown(str(response.url))} sends next to nothing", hint="try again later, or use a mirror"
                        )
                    started, received = time.monotonic(), 0
                yield piece

    def pause(self, seconds: float, headers: Mapping[str, str] | None = None) -> None:
        """Wait before the next try, as long as the registry asks in Retry-After, else `seconds` and a little more."""
        self._check_stop()
        asked = _retry_after(headers or {}, self.settings.longest_wait)
        spread = random.uniform(1.0, 1.25)  # noqa: S311 - spreads retries, guards nothing
        self.settings.pause(seconds * spread if asked is None else asked)
        self._check_stop()

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise Cancelled

    @contextlib.contextmanager
    def _followed(self, request: Request) -> Iterator[httpx.Response]:
        """Send once and follow redirects by hand, each checked; credentials stay at home."""
        first = origin(request.url)
        for _ in range(MAX_REDIRECTS):
            self._check_stop()
            with self._sent(request) as response:
                location = response.headers.get("Location")
                if response.status_code not in _REDIRECTS or not location:
                    yield response
                    return
            target = urljoin(request.url, location)
            check_target(request.home, target, "a redirect")
            if request.method not in {"GET", "HEAD"} and response.status_code not in {307, 308}:
                raise TransferError(
                    f"{shown(request.url)} answers {request.method} with a redirect ({response.status_code})",
                    hint="the registry, or a proxy before it, is set up wrongly",
                )
            kept = request.authorization if origin(target) == first else None
            request = replace(request, url=target, authorization=kept)
        raise TransferError(f"{shown(request.url)}: too many redirects", hint="the registry is set up wrongly")

    @contextlib.contextmanager
    def _sent(self, request: Request) -> Iterator[httpx.Response]:
        client = self._client(request)
        headers = {"Accept-Encoding": "identity", **request.headers}
        if request.authorization:
            headers["Authorization"] = request.authorization
        content: bytes | Iterator[bytes] | None
        if callable(request.content):
            headers["Content-Length"] = str(request.length)
            content = self._watched(request.content())
        else:
            content = request.content
        timeout = httpx.Timeout(
            connect=self.settings.connect_timeout,
            read=request.read_timeout or self.settings.read_timeout,
            write=self.settings.read_timeout,
            pool=None,
        )
        with _translated(request.url):
            built = client.build_request(request.method, request.url, headers=headers, content=content, timeout=timeout)
            response = client.send(built, stream=True)
        try:
            yield response
        finally:
            response.close()

    def _watched(self, body: Iterator[bytes]) -> Iterator[bytes]:
        for piece in body:
            self._check_stop()
            yield piece

    def _client(self, request: Request) -> httpx.Client:
        """One pool for all hosts that share a way to check certificates."""
        parts = split(request.url)
        at_home = origin(request.url) == origin(request.home.url)
        own = self.settings.of((at_home and request.home.domain) or parts.netloc.rpartition("@")[2])
        insecure = own.insecure or (is_loopback(parts.hostname or "") and own.ca is None)
        key = ("http", None, False) if parts.scheme == "http" else ("https", own.ca, insecure)
        with self._lock:
            self._check_stop()
            if key not in self._clients:
                self._clients[key] = _new_client(self.settings, _tls(*key))
            return self._clients[key]


def _new_client(settings: ClientSettings, context: ssl.SSLContext) -> httpx.Client:
    connections = settings.parallel + 2
    direct = ("all://localhost", "all://127.0.0.1", "all://[::1]")  # a proxy has another loopback than we
    try:
        client = httpx.Client(
            verify=context,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"User-Agent": "pybuild"},
            mounts=dict.fromkeys(direct),
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise TransferError(
            f"can't use the proxy of the environment: {error}",
            hint="see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY; http:// proxies work",
        ) from None
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # a registry needs none; keep none
    return client


def _tls(scheme: str, ca: str | None, insecure: bool) -> ssl.SSLContext:
    """How to check the other end: the system's CAs (SSL_CERT_FILE is OpenSSL's own business), and one more."""
    if scheme == "http" or insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context = ssl.create_default_context()
    known = ssl.get_default_verify_paths()
    if not (known.cafile or known.capath):
        import certifi

        context.load_verify_locations(certifi.where())
    if ca:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise TransferError(f"can't use the CA {ca}: {error}", hint="see ca in registries.toml") from None
    return context


def _read_bounded(response: httpx.Response, limit: int, deadline: float) -> bytes:
    """The body, if it ends within `limit` bytes and `deadline` seconds."""
    url, started, body = str(response.url), time.monotonic(), bytearray()
    if response.request.method == "HEAD":
        return b""
    with _translated(url):
        for piece in response.iter_raw():
            body += piece
            if len(body) > limit:
                raise TransferError(
                    f"{shown(url)} answers with more than {limit} bytes", hint="this is no answer a registry may give"
                )
            if time.monotonic() - started > deadline:
                raise Broken(f"{shown(url)} did not finish its answer in {deadline:.0f} s")
    return bytes(body)


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn httpx's errors into ours."""
    place = shown(url)
    try:
        yield
    except httpx.TimeoutException:
        raise Broken(f"{place} does not answer in time") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise TransferError(f"not an address of the web: {place}", hint="the registry answers nonsense") from None
    except httpx.TransportError as error:
        hint = "check the registry's name and that it is running"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = "give its CA with SSL_CERT_FILE or `ca` in registries.toml"
        raise Broken(f"can't talk to {place}: {printable(str(error)) or type(error).__name__}", hint=hint) from error


def _retry_after(headers: Mapping[str, str], longest: float) -> float | None:
    """Seconds that the registry asks us to wait: a number or an HTTP date (RFC 9110 §10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), longest)
    try:
        return min(max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()), longest)
    except (TypeError, ValueError, IndexError):
        return None
