"""Times of files and images, and which of them a step's changes get (docs/adr/0003). Pure."""

from datetime import UTC, datetime

NANOSECONDS = 1_000_000_000
OLDEST_NS = 315_532_800 * NANOSECONDS  # 1980-01-01: zip, and so Python's zipimport, knows no earlier time


def clamp(began: int, newest: int, epoch: int | None) -> tuple[int, int]:
    """(since, instead): times from `since` on become `instead`, in ns.

    Args:
        began: when the step began, ns; what is not older was made by it.
        newest: the newest time of what went in, ns; what was made from it is as new.
        epoch: SOURCE_DATE_EPOCH in seconds if the user gave one: then nothing is newer than that.
    """
    if epoch is not None:
        return epoch * NANOSECONDS, epoch * NANOSECONDS
    return began, newest


def rfc3339(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def nanoseconds(moment: str | None) -> int:
    """An RFC 3339 time as ns since 1970, whole seconds; 0 if it is none."""
    try:
        return int(datetime.fromisoformat(moment or "").timestamp()) * NANOSECONDS
    except ValueError:
        return 0
