"""What checks are told beside the Dockerfile."""

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from builder.dockerfile.ignore import IgnoreRules
from registry.model import Platform
from registry.model.platform import native


class BaseFacts(Struct, frozen=True):
    """What checks want to know of a base image."""

    environment: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None  # None: as wanted
    shell: tuple[str, ...] = ()  # SHELL of its config
    workdir: str = "/"
    triggers: tuple[str, ...] = ()  # of ONBUILD


def _unknown(name: str) -> BaseFacts | None:
    del name
    return None


class Facts(Struct, frozen=True):
    """What is known. With less known, less is said; nothing wrong is."""

    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=native)
    target: str = ""
    all_stages: bool = False  # also those that the target does not need
    ignore: IgnoreRules | None = None
    contexts: frozenset[str] = frozenset()  # names of --build-context: they replace images and stages
    base: Callable[[str], BaseFacts | None] = _unknown  # the image that FROM names
    is_directory: Callable[[str], bool] | None = None  # of a path of the context
