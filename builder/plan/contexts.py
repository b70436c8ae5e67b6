"""Named contexts (`--build-context name=place`): how a name is spelled, and what kind of place it stands for. Pure."""

from collections.abc import Mapping

from builder.plan.gitaddress import is_git
from builder.plan.stages import RESERVED
from registry.errors import RegistryError
from registry.model import Platform, Reference

IMAGE = "docker-image://"
LAYOUT = "oci-layout://"


def context_name(text: str) -> str:
    """One spelling for all that FROM can call it: `docker.io/library/debian:latest` is `debian`."""
    try:
        found = Reference.parse(text)
    except RegistryError:
        return text.lower()
    return str(found.tagged).removesuffix(":latest") if found.digest is None else str(found)


class NamedContexts:
    """Places by names, which may end in `::os/architecture` and are then for that platform only."""

    def __init__(self, places: Mapping[str, str], platform: Platform) -> None:
        self._places = {_spelled(name): place for name, place in places.items()}
        self._platform = platform

    def place(self, name: str) -> str | None:
        """What the name stands for, if anything."""
        if not self._places or name in RESERVED:
            return None
        return self._places.get(self.key(name))

    def key(self, name: str) -> str:
        """The name as it was given, in its one spelling: with the platform, if it is for this one only."""
        wanted = context_name(name)
        own = f"{wanted}::{self._platform}"
        return own if own in self._places else wanted

    def at(self, key: str) -> str:
        """The place under a key."""
        return self._places[key]


def _spelled(name: str) -> str:
    base, separator, platform = name.partition("::")
    return f"{context_name(base)}{separator}{platform}"


def split_layout(place: str) -> tuple[str, str]:
    """`oci-layout://dir:tag`, `oci-layout://dir@sha256:…` → the directory, and which image."""
    place = place.removeprefix(LAYOUT)
    path, at, digest = place.rpartition("@sha")
    if at:
        return path, f"sha{digest}"
    path, colon, tag = place.rpartition(":")
    return (path, tag) if colon and "/" not in tag else (place, "")


def is_elsewhere(place: str) -> bool:
    """Whether files must be fetched: from a repository or a web server."""
    return place.startswith(("http://", "https://")) or is_git(place, context=True)


def is_image(place: str) -> bool:
    """Whether it is an image, and not files."""
    return place.startswith((IMAGE, LAYOUT))
