"""Lengths of time and ages in docker's words, for listings of both doors. Pure."""

from datetime import UTC, datetime


def duration(seconds: float) -> str:
    """A length of time in its largest unit: `About a minute`, `3 weeks`."""
    count = int(max(seconds, 0))
    if count < 1:
        return "Less than a second"
    if count < 60:
        return "1 second" if count == 1 else f"{count} seconds"
    minutes = count // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = (minutes + 30) // 60
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, unit, name in ((24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 730, 24 * 30, "months")):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{hours // (24 * 365)} years"


def parse_time(text: str | None) -> datetime | None:
    """A time of RFC 3339, with any number of digits in its seconds; None if it is none."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ago(text: str | None, now: datetime | None = None) -> str:
    """`3 weeks ago`; `N/A` for no time, or for the beginning of time, which reproducible images have."""
    found = parse_time(text)
    if found is None or found.year <= 1:
        return "N/A"
    return f"{duration(((now or datetime.now(UTC)) - found).total_seconds())} ago"
