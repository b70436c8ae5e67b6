"""One request as handlers see it: version, parameters, query, JSON body. Docker's rules for each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from pybuild.api.problems import BadRequest
from pybuild.api.versions import Version

if TYPE_CHECKING:
    from pybuild.api.daemon import Daemon

T = TypeVar("T")
Filters = Mapping[str, list[str]]
BODY_LIMIT = 4 * 1024 * 1024  # bytes of a JSON body
_FALSE = {"", "0", "no", "false", "none"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose route has been found; `names` are what the route's pattern caught."""

    daemon: "Daemon"
    request: web.BaseRequest
    version: Version
    names: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.names["name"]

    def text(self, key: str, default: str = "") -> str:
        return self.request.query.get(key, default)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """As docker reads booleans: all but a few words are true."""
        found = self.request.query.get(key)
        return default if found is None else found.strip().lower() not in _FALSE

    def number(self, key: str, default: int | None = None) -> int | None:
        found = self.request.query.get(key, "")
        if not found:
            return default
        try:
            return int(found)
        except ValueError:
            raise BadRequest(f"{key}={found[:40]!r} is not a number") from None

    def filters(self, known: tuple[str, ...]) -> Filters:
        """Both forms that clients send: {"key": ["value"]} and {"key": {"value": true}}."""
        return parse_filters(self.text("filters"), known)

    async def body(self, kind: type[T], *, optional: bool = False) -> T:
        """The JSON body as `kind`. Raises BadRequest: none, not JSON, of another shape."""
        content = await self._content()
        if optional and content.strip() in {b"", b"null"}:
            content = b"{}"
        elif self.request.content_type != "application/json":
            raise BadRequest(
                f"unsupported Content-Type header ({self.request.content_type}): must be 'application/json'"
            )
        try:
            return msgspec.json.decode(content or b"{}", type=kind, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(f"invalid JSON: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"invalid JSON: {error}") from None

    async def stream(self, media_type: str) -> web.StreamResponse:
        """An answer of unknown length whose headers are sent now; each `write` goes out at once, in a chunk."""
        response = web.StreamResponse(headers={"Content-Type": media_type, **self.daemon.headers})
        response.enable_chunked_encoding()
        await response.prepare(self.request)
        return response

    async def _content(self) -> bytes:
        parts, size = [], 0
        async for part in self.request.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > BODY_LIMIT:
                raise BadRequest(f"the body is longer than {BODY_LIMIT} bytes")
        return b"".join(parts)


def parse_filters(text: str, known: tuple[str, ...]) -> dict[str, list[str]]:
    if not text:
        return {}
    try:
        found = json.loads(text)
        filters = {key: [word for word in values if _chosen(values, word)] for key, values in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadRequest("invalid filters: not a JSON object of lists") from None
    for key, values in filters.items():
        if key not in known:
            raise BadRequest(f"invalid filter '{key[:100]}'")
        if not all(isinstance(value, str) for value in values):
            raise BadRequest(f"invalid filter '{key}': not a list of texts")
    return filters


def _chosen(values: object, word: str) -> bool:
    return bool(values[word]) if isinstance(values, dict) else True


def boolean_filter(filters: Filters, key: str) -> bool | None:
    """A filter whose value is true or false; None: not given."""
    found = {value.lower() for value in filters.get(key, ())}
    if not found:
        return None
    if found <= {"true", "1"}:
        return True
    if found <= {"false", "0"}:
        return False
    raise BadRequest(f"invalid filter '{key}={'/'.join(sorted(found))[:100]}'")


def reply(value: Any, status: int = 200) -> web.Response:  # noqa: ANN401 -- JSON
    return web.Response(body=json.dumps(value, separators=(",", ":")).encode() + b"\n", status=status,
                        content_type="application/json")  # fmt: skip


def done(status: int = 204) -> web.Response:
    return web.Response(status=status)
