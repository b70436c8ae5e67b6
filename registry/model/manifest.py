"""Manifests, indexes and the descriptors in them (image-spec manifest.md, image-index.md, descriptor.md).

A manifest's bytes are its identity, so these values are read from bytes and never written back over what came;
`to_bytes` is for manifests that we make ourselves.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from registry.errors import DigestInvalid, ManifestInvalid, SizeInvalid
from registry.model.digest import Digest
from registry.model.media_types import INDEX_TYPES, MANIFEST_TYPES, MediaType
from registry.model.platform import Platform

MAX_SIZE = 2**63 - 1  # bytes; descriptor.md: size is an int64
MAX_MANIFEST = 4 * 1024 * 1024  # bytes; distribution-spec "Pushing Manifests": registries must accept 4 MiB


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A checkable pointer to a blob: media type, digest, size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str | None = None
    urls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"mediaType": str(self.media_type), "digest": str(self.digest), "size": self.size}
        if self.urls:
            found["urls"] = list(self.urls)
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.platform is not None:
            found["platform"] = _platform_json(self.platform)
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        return found


@dataclass(frozen=True, slots=True)
class Manifest:
    """One config and the layers over it, base first; for an artifact, whatever its config's type says."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """All content that this manifest needs, config first."""
        return (self.config, *self.layers)

    @property
    def kind(self) -> str | None:
        """The artifact type that a referrers listing shows (distribution-spec "Listing Referrers")."""
        return self.artifact_type or self.config.media_type

    def to_bytes(self) -> bytes:
        """Canonical JSON for a manifest of our own making."""
        found: dict[str, Any] = {"schemaVersion": 2, "mediaType": str(self.media_type)}
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        found["config"] = self.config.to_json()
        found["layers"] = [layer.to_json() for layer in self.layers]
        if self.subject is not None:
            found["subject"] = self.subject.to_json()
        if self.annotations:
            found["annotations"] = dict(sorted(self.annotations.items()))
        return json.dumps(found, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Index:
    """A manifest that lists manifests, one a platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        return self.manifests

    @property
    def kind(self) -> str | None:
        return self.artifact_type

    def to_bytes(self) -> bytes:
        found: dict[str, Any] = {"schemaVersion": 2, "mediaType": str(self.media_type)}
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        found["manifests"] = [entry.to_json() for entry in self.manifests]
        if self.subject is not None:
            found["subject"] = self.subject.to_json()
        if self.annotations:
            found["annotations"] = dict(sorted(self.annotations.items()))
        return json.dumps(found, separators=(",", ":")).encode()


class _PlatformJson(msgspec.Struct, rename={"os_version": "os.version"}):
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    os_version: str | None = None

    def checked(self) -> Platform:
        return Platform(self.os or "", self.architecture or "", self.variant or "", self.os_version or "")


class _DescriptorJson(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: _PlatformJson | None = None
    artifact_type: str | None = None
    urls: list[str] | None = None

    def checked(self) -> Descriptor:
        if not 0 <= self.size <= MAX_SIZE:
            raise SizeInvalid(f"{self.digest[:80]} has no size that can be", hint="sizes go from 0 to 2^63 - 1 bytes")
        return Descriptor(
            self.media_type,
            Digest.parse(self.digest),
            self.size,
            self.annotations or {},
            self.platform.checked() if self.platform else None,
            self.artifact_type or None,
            tuple(self.urls or ()),
        )


class _ManifestJson(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str | None = None
    config: _DescriptorJson | None = None
    layers: list[_DescriptorJson] | None = None
    manifests: list[_DescriptorJson] | None = None
    subject: _DescriptorJson | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_ManifestJson)


def parse_manifest(content: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or an index and check its form.

    Args:
        content: the exact bytes.
        media_type: the Content-Type they came with, if any; must agree with the body's own `mediaType`.

    Raises:
        ManifestInvalid: not JSON, not of the schema, of an unknown type, or of two types at once (CVE-2021-41190).
        DigestInvalid, SizeInvalid: in one of its descriptors.
    """
    try:
        body = _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"not an image manifest: {error}", hint="push OCI or Docker schema 2 manifests") from None
    if body.schema_version != 2:
        raise ManifestInvalid(
            f"manifest schema version {body.schema_version} is not supported", hint="schema 1 is long retired; rebuild"
        )
    declared = (media_type or "").partition(";")[0].strip() or None
    if declared and body.media_type and declared != body.media_type:
        raise ManifestInvalid(f"manifest says it is {body.media_type[:100]} but was sent as {declared[:100]}")
    kind = (
        declared or body.media_type or (MediaType.OCI_INDEX if body.manifests is not None else MediaType.OCI_MANIFEST)
    )
    if (body.layers is not None or body.config is not None) and body.manifests is not None:
        raise ManifestInvalid(
            "manifest has both layers and manifests", hint="it must be an image or an index, not both"
        )
    return _as_index(kind, body) if kind in INDEX_TYPES else _as_manifest(kind, body)


def _as_index(kind: str, body: _ManifestJson) -> Index:
    if body.manifests is None:
        raise ManifestInvalid(f"{kind} without manifests")
    return Index(
        kind,
        tuple(entry.checked() for entry in body.manifests),
        body.subject.checked() if body.subject else None,
        body.artifact_type or None,
        body.annotations or {},
    )


def _as_manifest(kind: str, body: _ManifestJson) -> Manifest:
    if kind not in MANIFEST_TYPES:
        raise ManifestInvalid(f"unknown manifest type {kind[:100]!r}", hint="push OCI or Docker schema 2 manifests")
    if body.config is None or body.layers is None:
        raise ManifestInvalid(f"{kind} without {'config' if body.config is None else 'layers'}")
    return Manifest(
        kind,
        body.config.checked(),
        tuple(layer.checked() for layer in body.layers),
        body.subject.checked() if body.subject else None,
        body.artifact_type or None,
        body.annotations or {},
    )


def check_content(descriptor: Descriptor, content: bytes) -> bytes:
    """Return `content` if it is what `descriptor` points to. Raises SizeInvalid or DigestInvalid."""
    if len(content) != descriptor.size:
        raise SizeInvalid(
            f"{descriptor.digest} has {len(content)} bytes, its descriptor says {descriptor.size}",
            hint="the image is broken; build or fetch it again",
        )
    if (found := Digest.of(content, descriptor.digest.algorithm)) != descriptor.digest:
        raise DigestInvalid(f"content is {found}, expected {descriptor.digest}", hint="fetch it again")
    return content


def _platform_json(platform: Platform) -> dict[str, str]:
    found = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        found["variant"] = platform.variant
    if platform.os_version:
        found["os.version"] = platform.os_version
    return found
