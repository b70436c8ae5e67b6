"""The access log: one line of JSON for each request. Queries are left out; they may hold what is nobody's business."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

_MAX_TEXT = 300


class Served(msgspec.Struct):
    remote: str
    method: str
    path: str
    status: int
    sent: int  # bytes of the body
    milliseconds: float
    agent: str


class _Line(msgspec.Struct):
    time: str
    level: str
    served: Served


class AccessLog:
    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def note(self, served: Served) -> None:
        served.path, served.agent = served.path[:_MAX_TEXT], served.agent[:_MAX_TEXT]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write(msgspec.json.encode(_Line(now, "info", served)) + b"\n")
