"""`-o`: one text → what to write where. Pure."""

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from builder.errors import BuilderError

# what each type takes beside `type`; those in ACCEPTED are BuildKit's, and what they ask for is what we do anyway
_OPTIONS = {
    "image": {"name", "push", "compression", "compression-level"},
    "registry": {"name", "compression", "compression-level"},
    "oci": {"dest", "name", "tar", "compression", "compression-level"},
    "docker": {"dest", "name", "compression", "compression-level"},
    "local": {"dest"},
    "tar": {"dest"},
}
_ACCEPTED = {"oci-mediatypes": "true", "unpack": "false", "store": "true", "force-compression": "false"}
_FILES = frozenset({"local", "tar"})
_ARCHIVES = frozenset({"oci", "docker"})
STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Output:
    """One thing to make of the result."""

    type: str = "image"
    dest: str = ""  # "-" is standard output
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Output":
        """Read `type=oci,dest=x.tar`, a directory, or `-` for a tar on standard output.

        Raises:
            BuilderError: an unknown type or option, or one that is missing.
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
        for name, value in pairs.items():
            if name not in _OPTIONS[kind] and _ACCEPTED.get(name) != value:
                allowed = ", ".join(sorted(_OPTIONS[kind]))
                raise BuilderError(
                    f"-o {text}: {kind} has no option {name}={value}",
                    hint=_near(name, _OPTIONS[kind]) or f"it takes {allowed}",
                )
        dest = pairs.pop("dest", "")
        if kind == "local" and dest in {"", STDOUT}:
            raise BuilderError(f"-o {text}: local needs a directory", hint="add dest=DIRECTORY")
        return cls(kind, dest or (STDOUT if kind in _FILES | _ARCHIVES else ""), pairs)

    @property
    def needs_image(self) -> bool:
        """Whether config and manifest are wanted, not just the files."""
        return self.type not in _FILES

    @property
    def keeps_image(self) -> bool:
        """Whether the image stays in the store under its names."""
        return self.type in {"image", "registry"}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in self.options.get("name", "").split(",") if name)

    @property
    def pushes(self) -> bool:
        return self.type == "registry" or self.options.get("push") in {"true", "1", ""}


def _near(word: str, known: Mapping[str, object] | set[str]) -> str | None:
    found = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {found[0]}?" if found else None
