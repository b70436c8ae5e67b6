"""How we show who we are: challenges, Basic, and Bearer tokens (distribution: docs/spec/auth).

A registry answers 401 with a challenge. Basic sends user and password each time; Bearer sends them to a token service,
once for a set of scopes, and the registry sees only the token.
"""

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import msgspec

from registry.client.credentials import CredentialFiles, Credentials, CredentialsError
from registry.client.transport import Answer, Request, Transport
from registry.client.trust import Home, check_target, may_see_credentials, shown
from registry.errors import TransferError, Unauthorized

CLIENT_ID = "pybuild"
MAX_TOKEN_ANSWER = 1024 * 1024
_DEFAULT_LIFE = 60.0  # seconds, where the token service does not say
_SLACK = 5.0  # seconds before its end at which a token counts as old
_MAX_LIFE = 3600.0
_PART = re.compile(r"""([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?\s*(,?)\s*""")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme of a WWW-Authenticate header, in lower case, with its parameters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Read WWW-Authenticate, which may hold several challenges, each with parameters, all parted by commas."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header) and (match := _PART.match(header, position)):
        position = match.end()
        name, quoted, plain, _ = match.groups()
        if quoted is None and plain is None:
            found.append((name.lower(), {}))
        elif found:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            found[-1][1].setdefault(name.lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def repository_scope(path: str, actions: str) -> str:
    """The right to do `actions` ("pull" or "pull,push") in one repository."""
    return f"repository:{path}:{actions}"


class _TokenJson(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    until: float  # by time.monotonic()


class Authorizer:
    """Makes Authorization headers for one registry; remembers its challenge and the tokens it gave."""

    def __init__(
        self,
        transport: Transport,
        home: Home,
        domain: str,
        credentials: CredentialFiles | Credentials | None,
        path: str = "",
    ) -> None:
        self._transport = transport
        self._home = home
        self._domain = domain
        self._path = path  # the repository, for credentials that are kept for a part of a registry
        self._source = credentials
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], _Token] = {}
        self._named: dict[frozenset[str], frozenset[str]] = {}  # scopes of a challenge, by those we thought enough
        self._lock = threading.Lock()
        self._problem: str | None = None  # why credentials could not be had

    def header(self, scopes: Iterable[str]) -> str | None:
        """What to send now; None while the registry has not asked for anything."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            known = self._credentials()
            return known.basic() if known and known.username else None
        return "Bearer " + self._token(self._challenge, frozenset(scopes))

    def learn(self, header: str, scopes: Iterable[str]) -> bool:
        """Take a challenge from a 401's WWW-Authenticate; False when we have nothing that would answer it.

        The request was made for `scopes`: a token for them is forgotten, and what else the challenge names is asked
        for along with them.
        """
        offered = {challenge.scheme: challenge for challenge in reversed(parse_challenges(header))}
        chosen = offered.get("bearer") or offered.get("basic")
        if chosen is None:
            return False
        with self._lock:
            wanted = frozenset(scopes)
            self._tokens.pop(wanted, None)
            self._named[wanted] = frozenset(chosen.parameters.get("scope", "").split())
            self._challenge = chosen
        return chosen.scheme == "bearer" or self._credentials() is not None

    def refused(self, what: str) -> Unauthorized:
        """The error for a request that stays 401."""
        known = self._problem is None and self._credentials() is not None
        advice = f"log in with: pybuild login {self._domain}"
        if known:
            advice = f"the credentials for {self._domain} do not allow it; {advice}"
        if self._problem:
            advice = f"{self._problem}; {advice}"
        return Unauthorized(f"{self._domain} asks who we are, for {what}", hint=advice)

    def _credentials(self) -> Credentials | None:
        if not isinstance(self._source, CredentialFiles):
            return self._source
        try:
            self._source = self._source.find(self._domain, self._path)
        except CredentialsError as error:
            # Public content stays within reach when a helper is broken; if not, `refused` tells of it.
            self._problem, self._source = str(error), None
        return self._source

    def _token(self, challenge: Challenge, scopes: frozenset[str]) -> str:
        with self._lock:  # one request for one token, however many threads want it
            known = self._tokens.get(scopes)
            if known is None or known.until < time.monotonic():
                known = self._tokens[scopes] = self._new_token(challenge, scopes)
            return known.text

    def _new_token(self, challenge: Challenge, scopes: frozenset[str]) -> _Token:
        realm = challenge.parameters.get("realm", "")
        check_target(self._home, realm, "the token service")
        known = self._credentials()
        if known is not None and not may_see_credentials(self._home, realm):
            raise TransferError(
                f"{self._domain} wants our credentials sent to {shown(realm)}, another host, in the clear",
                hint="its token service must be on https",
            )
        request = _token_request(
            realm,
            challenge.parameters.get("service", ""),
            sorted(scopes | self._named.get(scopes, frozenset())),
            known,
            self._home,
        )
        answer = self._transport.fetch(request, MAX_TOKEN_ANSWER)
        if answer.status in {400, 401, 403}:
            raise Unauthorized(
                f"{self._domain} does not accept our credentials"
                if known
                else f"{self._domain} gives no token to anyone",
                hint="; ".join(filter(None, [self._problem, f"log in with: pybuild login {self._domain}"])),
            )
        if answer.status != 200:
            raise TransferError(
                f"the token service {shown(realm)} answers {answer.status}", hint="try again later, or ask its operator"
            )
        return _read_token(answer, realm)


def _token_request(realm: str, service: str, scopes: list[str], known: Credentials | None, home: Home) -> Request:
    """POST trades an identity token (OAuth 2), GET is for everybody else."""
    if known is not None and known.identity_token:
        form = {
            "grant_type": "refresh_token", "refresh_token": known.identity_token, "service": service,
            "client_id": CLIENT_ID, "scope": " ".join(scopes),
        }  # fmt: skip
        return Request(
            "POST", realm, home, {"Content-Type": "application/x-www-form-urlencoded"}, content=urlencode(form).encode()
        )
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    query.append(("client_id", CLIENT_ID))
    if known is not None:
        query.append(("account", known.username))
    url = realm + ("&" if "?" in realm else "?") + urlencode(query)
    return Request("GET", url, home, authorization=known.basic() if known else None)


def _read_token(answer: Answer, realm: str) -> _Token:
    try:
        found = msgspec.json.decode(answer.body, type=_TokenJson)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _TokenJson()
    text = found.token or found.access_token or ""
    if not text or not text.isascii() or not text.isprintable():
        raise TransferError(f"the token service {shown(realm)} gives no token", hint="ask the registry's operator")
    life = min(max(found.expires_in or _DEFAULT_LIFE, 0.0), _MAX_LIFE)
    return _Token(text, time.monotonic() + max(life - _SLACK, life / 2))
