"""Names of images as people type them (distribution-spec "Pulling manifests"; Docker's normalisation)."""

import re
from dataclasses import dataclass, replace
from typing import Self

from registry.errors import NameInvalid, TagInvalid
from registry.model.digest import Digest

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])"
    r"(?::[0-9]{1,5})?"
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
MAX_NAME = 255  # clients cap host and path together at this


def check_repository(path: str) -> str:
    """Return `path` if a registry may hold a repository of that name. Raises NameInvalid."""
    if len(path) > MAX_NAME or not _PATH.fullmatch(path):
        raise NameInvalid(
            f"not a repository name: {path[:100]!r}",
            hint="lowercase letters and digits, parted by . _ - or /, at most 255 characters",
        )
    return path


def check_tag(tag: str) -> str:
    """Return `tag` if it may name a manifest. Raises TagInvalid."""
    if not _TAG.fullmatch(tag):
        raise TagInvalid(f"not a tag: {tag[:140]!r}", hint="up to 128 letters, digits, _ . and -, not led by . or -")
    return tag


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is: a registry's domain, a repository's path, and a tag, a digest, or both.

    `busybox` means `docker.io/library/busybox:latest`; a first component with a dot, a colon or an upper-case letter,
    or `localhost`, is a domain.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if not _DOMAIN.fullmatch(self.domain) or not _looks_like_domain(self.domain):
            raise NameInvalid(f"not a registry's domain: {self.domain[:100]!r}", hint="write host.name or host:port")
        if self.domain == LEGACY_DOMAIN or (self.domain == DEFAULT_DOMAIN and "/" not in self.path):
            raise NameInvalid(f"{self.domain}/{self.path[:100]} is not in its one spelling", hint="use Reference.parse")
        check_repository(self.path)
        if len(self.domain) + 1 + len(self.path) > MAX_NAME:
            raise NameInvalid("an image's name has at most 255 characters", hint="shorten the repository's path")
        if self.tag is not None:
            check_tag(self.tag)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference as docker does; without tag and digest, `tag` stays None (see `tagged`).

        Raises:
            NameInvalid, TagInvalid, DigestInvalid: which part is wrong.
        """
        if not text:
            raise NameInvalid("an image's name is empty", hint="write NAME or NAME:TAG")
        if "://" in text:
            raise NameInvalid(f"not an image's name: {text[:100]!r}", hint="leave out the scheme: write host/path:tag")
        if _IMAGE_ID.fullmatch(text):
            raise NameInvalid(f"{text[:12]}… is an image ID, not a name", hint="use it where an image ID is taken")
        rest, at, digest = text.partition("@")
        if at and not digest:
            raise NameInvalid(f"no digest after @ in {text[:100]!r}", hint="write name@sha256:…")
        first, slash, remainder = rest.partition("/")
        if slash and _looks_like_domain(first):
            domain, path = first, remainder
        else:
            domain, path = DEFAULT_DOMAIN, rest
        path, colon, tag = path.partition(":")
        if colon and not tag:
            raise TagInvalid(f"no tag after : in {text[:100]!r}", hint="write name:tag, or leave the colon out")
        if path != path.lower():
            raise NameInvalid(f"repository name must be lowercase: {path[:100]!r}", hint=f"write {path.lower()[:100]}")
        if domain == LEGACY_DOMAIN:
            domain = DEFAULT_DOMAIN
        if domain == DEFAULT_DOMAIN and "/" not in path:
            path = f"library/{path}"
        return cls(domain, path, tag or None, Digest.parse(digest) if digest else None)

    @property
    def tagged(self) -> "Reference":
        """The same with `latest` when neither tag nor digest is given."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    @property
    def repository(self) -> str:
        """The name under which the content store keeps it: the short form that people type, without tag."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        first, slash, rest = self.path.partition("/")
        if first == "library" and rest and "/" not in rest and not _IMAGE_ID.fullmatch(rest):
            return rest
        return f"{self.domain}/{self.path}" if slash and _looks_like_domain(first) else self.path

    def with_digest(self, digest: Digest) -> "Reference":
        return replace(self, digest=digest)

    def __str__(self) -> str:
        """The short form with tag and digest, as listings show it."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def _looks_like_domain(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost" or component.lower() != component
