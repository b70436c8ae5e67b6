"""`-o`: one text → what to write where. Pure."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from builder.errors import BuilderError
from builder.exporters.annotations import Annotation, parse_option
from builder.exporters.packaging import Form

_PACKING = {"name", "compression", "compression-level", "force-compression", "oci-mediatypes"}
_IMAGE = _PACKING | {"push", "push-by-digest", "registry.insecure", "store", "unpack", "dangling-name-prefix"}
# what each type takes beside `type`
_OPTIONS = {
    "image": _IMAGE,
    "registry": _IMAGE,
    "oci": _PACKING | {"dest", "tar"},
    "docker": _PACKING | {"dest", "tar"},
    "local": {"dest", "mode", "platform-split"},
    "tar": {"dest", "platform-split"},
    "cacheonly": set[str](),
}
_FLAGS = {
    "force-compression", "oci-mediatypes", "push", "push-by-digest", "registry.insecure", "store", "unpack", "tar",
    "platform-split",
}  # fmt: skip
# BuildKit's; what they ask for is what we do anyway, or is about what we don't make
_ACCEPTED = {
    "rewrite-timestamp": {"true"}, "name-canonical": {"true", "false"}, "oci-artifact": {"true", "false"},
}  # fmt: skip
_TRUE = {"1", "t", "true", ""}
_FALSE = {"0", "f", "false"}
_FILES = frozenset({"local", "tar"})
_ARCHIVES = frozenset({"oci", "docker"})
STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Output:
    """One thing to make of the result."""

    type: str = "image"
    dest: str = ""  # "-" is standard output
    options: Mapping[str, str] = field(default_factory=dict)
    annotations: tuple[Annotation, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Output":
        """Read `type=oci,dest=x.tar`, a directory, or `-` for a tar on standard output.

        Raises:
            BuilderError: an unknown type or option, or one that is missing or makes no sense.
        """
        if text == STDOUT:
            return cls("tar", STDOUT)
        if "=" not in text:
            return cls("local", text)
        pairs = dict(word.partition("=")[::2] for word in next(csv.reader([text]), []))
        kind = pairs.pop("type", "")
        if kind not in _OPTIONS:
            raise BuilderError(
                f"-o {text}: unknown type {kind!r}" if kind else f"-o {text}: type is missing",
                hint=_near(kind, _OPTIONS) or f"there is {', '.join(_OPTIONS)}",
            )
        dest = pairs.pop("dest", "") if "dest" in _OPTIONS[kind] else ""
        options: dict[str, str] = {}
        annotations: list[Annotation] = []
        for name, value in pairs.items():
            if kind not in _FILES and (annotation := parse_option(name, value)) is not None:
                annotations.append(annotation)
            elif kind in _FILES or value not in _ACCEPTED.get(name, ()):
                options[name] = _checked(text, kind, name, value)
        found = cls(kind, dest or (STDOUT if kind in _FILES | _ARCHIVES else ""), options, tuple(annotations))
        found._check(text)
        return found

    def _check(self, text: str) -> None:
        if self.type == "local" and self.dest in {"", STDOUT}:
            raise BuilderError(f"-o {text}: local needs a directory", hint="add dest=DIRECTORY")
        if self.is_folder and self.dest == STDOUT:
            raise BuilderError(f"-o {text}: what is no archive needs a directory", hint="add dest=DIRECTORY")
        if self.flag("push-by-digest") and not self.names:
            raise BuilderError(f"-o {text}: nowhere to push to", hint="add name=REGISTRY/NAME")
        if self.keeps_image and not self.flag("store", default=True) and not self.pushes:
            raise BuilderError(f"-o {text}: neither kept nor pushed", hint="add push=true, or leave store=false out")

    def flag(self, name: str, *, default: bool = False) -> bool:
        return self.options[name].lower() in _TRUE if name in self.options else default

    @property
    def needs_image(self) -> bool:
        """Whether config and manifest are wanted, not just the files, or that the steps are done."""
        return self.type not in _FILES and not self.is_nothing

    @property
    def keeps_image(self) -> bool:
        """Whether it is about the image in the store and its names."""
        return self.type in {"image", "registry"}

    @property
    def is_archive(self) -> bool:
        """Whether it is about layers outside of the store."""
        return self.type in _ARCHIVES

    @property
    def is_nothing(self) -> bool:
        return self.type == "cacheonly"

    @property
    def is_folder(self) -> bool:
        return self.type in _ARCHIVES and not self.flag("tar", default=True)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.options.get("name", "").split(",") if name.strip())

    @property
    def pushes(self) -> bool:
        return self.type == "registry" or self.flag("push")

    @property
    def packing(self) -> str:
        """How layers are to be packed, `zstd:9`; empty if it does not say."""
        kind, level = self.options.get("compression", ""), self.options.get("compression-level", "")
        return f"{kind or 'gzip'}:{level}" if level else kind

    def pushed(self) -> "Output":
        """The same, and to the registries in its names."""
        return replace(self, options={**self.options, "push": "true"})

    def form(self, packing: str, annotations: Sequence[Annotation]) -> Form:
        """How the image is written for this output.

        Args:
            packing: of an output that does not say.
            annotations: of the build, for all outputs.

        Docker's media types know neither annotations nor zstd: where one of these is asked for, the types are OCI's,
        as with BuildKit.
        """
        packing = self.packing or packing
        notes = (*annotations, *self.annotations)
        docker = not self.flag("oci-mediatypes", default=True) and not notes and not packing.startswith("zstd")
        return Form(packing, self.flag("force-compression"), not docker, notes)


def _checked(text: str, kind: str, name: str, value: str) -> str:
    known = _OPTIONS[kind]
    if name not in known:
        raise BuilderError(
            f"-o {text}: {kind} has no option {name}={value}",
            hint=_near(name, known) or f"it takes {', '.join(sorted(known))}",
        )
    if name in _FLAGS and value.lower() not in _TRUE | _FALSE:
        raise BuilderError(f"-o {text}: {name} is true or false, not {value!r}")
    if name == "mode" and value not in {"copy", "delete"}:
        raise BuilderError(
            f"-o {text}: no mode {value!r}", hint="mode=copy adds to the directory, mode=delete clears it"
        )
    if name == "compression-level" and not (value.isascii() and value.isdigit()):
        raise BuilderError(f"-o {text}: not a level: {value!r}", hint="write a number, like compression-level=9")
    return value


def _near(word: str, known: Mapping[str, object] | set[str]) -> str | None:
    found = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {found[0]}?" if found else None
