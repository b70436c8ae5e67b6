"""The nouns of image distribution as frozen values that cannot be wrong. No input, no output, no policy."""

from registry.model.digest import Digest
from registry.model.image_config import Healthcheck, History, ImageConfig, RootFs, RunConfig
from registry.model.manifest import Descriptor, Index, Manifest, parse_manifest
from registry.model.media_types import MediaType
from registry.model.platform import Platform
from registry.model.reference import Reference

__all__ = [
    "Descriptor",
    "Digest",
    "Healthcheck",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "MediaType",
    "Platform",
    "Reference",
    "RootFs",
    "RunConfig",
    "parse_manifest",
]
