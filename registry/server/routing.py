"""Which endpoint a path means (distribution-spec "Endpoints"). Pure.

A repository may be named `x/blobs/y`, `x/manifests` or `x/tags`, so paths are read from their right end: the last two
or three segments tell the endpoint, everything before them is the name. Names are checked here, before anything else
sees them.
"""

import re
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from registry.errors import NameInvalid
from registry.model.reference import check_repository
from registry.server.problems import PathUnknown

_ENCODED_SEPARATOR = re.compile(r"%(?:2f|00|5c)", re.IGNORECASE)


class Endpoint(Enum):
    LIVE = auto()
    READY = auto()
    BASE = auto()
    CATALOG = auto()
    EXTENSIONS = auto()
    TAGS = auto()
    MANIFEST = auto()
    REFERRERS = auto()
    BLOB = auto()
    UPLOADS = auto()
    UPLOAD = auto()


class Route(NamedTuple):
    endpoint: Endpoint
    name: str = ""  # the repository, checked; empty for endpoints above repositories
    argument: str = ""  # tag, digest or upload's id as it came, not checked


_FIXED = {
    "/livez": Route(Endpoint.LIVE),
    "/readyz": Route(Endpoint.READY),
    "/v2": Route(Endpoint.BASE),
    "/v2/": Route(Endpoint.BASE),
    "/v2/_catalog": Route(Endpoint.CATALOG),
    "/v2/_oci/ext/discover": Route(Endpoint.EXTENSIONS),
}


@lru_cache(maxsize=1024)
def find_route(path: str) -> Route:
    """Read the raw path of a request, without its query.

    Raises:
        PathUnknown: no endpoint looks like this.
        NameInvalid: one does, but what stands before it is no repository's name.
    """
    if (fixed := _FIXED.get(path)) is not None:
        return fixed
    if not path.startswith("/v2/"):
        raise PathUnknown(f"no such path: {path[:200]!r}", hint="the API lives under /v2/")
    route = _from_the_right(_decoded(path[4:]).split("/"))
    check_repository(route.name)
    return route


def _decoded(path: str) -> str:
    """Undo percent-encoding once. A separator must not appear by it: `a%2fb` is not the repository a/b."""
    if "%" not in path:
        return path
    if _ENCODED_SEPARATOR.search(path):
        raise NameInvalid("encoded separator in the path", hint="write repository names with plain slashes")
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise NameInvalid("the path is not UTF-8", hint="names are plain ASCII") from None


def _from_the_right(segments: list[str]) -> Route:
    match segments:
        case [*name, "_oci", "ext", "discover"]:
            return Route(Endpoint.EXTENSIONS, "/".join(name))
        case [*name, "tags", "list"]:
            return Route(Endpoint.TAGS, "/".join(name))
        case [*name, "manifests", reference]:
            return Route(Endpoint.MANIFEST, "/".join(name), reference)
        case [*name, "referrers", digest]:
            return Route(Endpoint.REFERRERS, "/".join(name), digest)
        case [*name, "blobs", "uploads", ""] | [*name, "blobs", "uploads"]:
            return Route(Endpoint.UPLOADS, "/".join(name))
        case [*name, "blobs", "uploads", upload_id]:
            return Route(Endpoint.UPLOAD, "/".join(name), upload_id)
        case [*name, "blobs", digest]:
            return Route(Endpoint.BLOB, "/".join(name), digest)
    raise PathUnknown(f"no such path: {'/v2/' + '/'.join(segments)[:200]!r}", hint="see the OCI Distribution API")
