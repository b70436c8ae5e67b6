"""What a handler answers, as plain data, and how its head looks on the wire. Pure but for the clock.

Not here: sending it (transfer.py).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import BinaryIO

import msgspec

from registry.errors import ManifestBlobUnknown, RegistryError
from registry.server.problems import MethodUnsupported, RangeUnsatisfiable
from registry.server.ranges import Span

IMMUTABLE = "public, max-age=31536000, immutable"  # content under a digest never changes
_MOST_ERRORS = 100  # in one answer
_BODILESS = frozenset({204, 304})
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class FileParts:
    """A body that the kernel copies from `file`: for each span its head first, then `tail`. Closed when sent."""

    file: BinaryIO
    spans: tuple[Span, ...]
    heads: tuple[bytes, ...] = ()  # as many as spans, or none
    tail: bytes = b""

    @property
    def length(self) -> int:
        return sum(span.length for span in self.spans) + sum(map(len, self.heads)) + len(self.tail)


@dataclass(slots=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileParts = b""
    length: int | None = None  # of the body that a GET would have had, when this answers a HEAD

    @property
    def content_length(self) -> int | None:
        """None where HTTP forbids to say."""
        if self.status in _BODILESS:
            return None
        if self.length is not None:
            return self.length
        return self.body.length if isinstance(self.body, FileParts) else len(self.body)

    def head(self, *, close: bool = False, keep_alive_1_0: bool = False) -> bytes:
        """Status line and header fields.

        Raises:
            ValueError: a field would break the framing; stored text may never do that.
        """
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, '')}",
            f"Date: {_date(int(time.time()))}",
            "Docker-Distribution-API-Version: registry/2.0",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if (length := self.content_length) is not None:
            lines.append(f"Content-Length: {length}")
        if close:
            lines.append("Connection: close")
        elif keep_alive_1_0:
            lines.append("Connection: keep-alive")
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
            raise ValueError("line break inside a header field")
        return (head + "\r\n\r\n").encode()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def json_answer(content: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(200, {"Content-Type": "application/json", **(headers or {})}, msgspec.json.encode(content))


def error_answer(error: RegistryError) -> Answer:
    """The specification's JSON for an error ("Error Codes"); the only place where errors meet their status."""
    headers = {"Content-Type": "application/json"}
    if isinstance(error, RangeUnsatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, MethodUnsupported):
        headers["Allow"] = ", ".join(error.allowed)
    entry: dict[str, object] = {"code": error.code, "message": str(error)}
    if error.hint:
        entry["detail"] = error.hint
    entries = [entry]
    if isinstance(error, ManifestBlobUnknown) and error.digests:  # Docker's form: one for each, which tools read
        entries = [{**entry, "detail": {"digest": digest}} for digest in error.digests[:_MOST_ERRORS]]
    return Answer(error.status, headers, msgspec.json.encode({"errors": entries}))


def fault_answer() -> Answer:
    """For a bug of ours: says nothing of its inside."""
    return error_answer(RegistryError("internal fault of the registry", hint="the registry's own log tells more"))
