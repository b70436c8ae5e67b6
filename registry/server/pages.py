"""Listings in pages (distribution-spec "Listing Tags"): `n`, `last`, and the Link to the next page. Pure."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from registry.server.problems import PageInvalid

MAX_PAGE = 1000  # entries of one answer when `n` is given (CVE-2023-2253: never what the client says)


class Page(NamedTuple):
    limit: int | None  # None: the client did not say
    after: str  # list what comes bytewise after this


def page_of(query: Mapping[str, str]) -> Page:
    """Read `n` and `last`. Raises PageInvalid."""
    n = query.get("n")
    if n is None or n == "":
        return Page(None, query.get("last", ""))
    if not (n.isascii() and n.isdigit()) or len(n) > 18:
        raise PageInvalid(f"not a page's size: {n[:40]!r}", hint="n is a whole number, 0 or more")
    return Page(min(int(n), MAX_PAGE), query.get("last", ""))


def next_link(path: str, **query: str | int | None) -> str:
    """The Link header that leads to the next page."""
    wanted = {key: value for key, value in query.items() if value is not None}
    return f'<{path}?{urlencode(wanted)}>; rel="next"'
