"""The one table of API versions: which are spoken, and what changed at which. Pure."""

import re

from pybuild.api.problems import BadRequest

Version = tuple[int, int]

ANNOUNCED: Version = (1, 51)
MINIMUM: Version = (1, 24)

# What an answer depends on.
MULTIPLEXED_TYPE: Version = (1, 42)  # streams of two kinds have a media type of their own
ONE_SHOT: Version = (1, 41)  # stats?one-shot
NO_VIRTUAL_SIZE: Version = (1, 44)  # of images

_PREFIX = re.compile(r"/v(\d{1,3})\.(\d{1,3})(/.*)")


def split(path: str) -> tuple[Version, str]:
    """The version that a path asks for, without one the newest, and the rest. Raises BadRequest."""
    match = _PREFIX.fullmatch(path)
    if match is None:
        return ANNOUNCED, path
    wanted = (int(match[1]), int(match[2]))
    if wanted > ANNOUNCED:
        raise BadRequest(
            f"client version {text(wanted)} is too new. Maximum supported API version is {text(ANNOUNCED)}"
        )
    if wanted < MINIMUM:
        raise BadRequest(
            f"client version {text(wanted)} is too old. Minimum supported API version is {text(MINIMUM)}, please "
            "upgrade your client to a newer version"
        )
    return wanted, match[3]


def text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
