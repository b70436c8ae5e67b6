"""Which variables an instruction sees (reference §1.8). Pure.

ARG and ENV write into one environment, so the later declaration wins; only ENV reaches the image's config.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from builder.dockerfile.expand import ExpansionError, expand, expand_body
from builder.dockerfile.instructions import Arg, DockerfileError, Position
from registry.model import Platform
from registry.model.platform import native

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
# build arguments that steer BuildKit itself and never become a variable of RUN
_STEERING = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})


def predefined(platform: Platform, target: str) -> dict[str, str]:
    """The ARGs that are there before any is declared."""
    found = {"TARGETSTAGE": target or "default"}
    for prefix, place in (("TARGET", platform), ("BUILD", native())):
        found |= {
            f"{prefix}PLATFORM": str(place), f"{prefix}OS": place.os, f"{prefix}OSVERSION": place.os_version,
            f"{prefix}ARCH": place.architecture, f"{prefix}VARIANT": place.variant,
        }  # fmt: skip
    return found


def proxies(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Proxy settings for RUN, in both spellings, from build arguments that need no declaration."""
    found: dict[str, str] = {}
    for name, value in build_args.items():
        if name.upper() in PROXIES:
            found[name.upper()] = found[name.lower()] = value
    return tuple(sorted(found.items()))


@dataclass
class Scope:
    """The variables at one place of a stage."""

    build_args: Mapping[str, str]
    global_args: Mapping[str, str]
    escape: str = "\\"
    environment: dict[str, str] = field(default_factory=dict)
    declared: dict[str, str | None] = field(default_factory=dict)  # ARGs in order of declaration

    def child(self) -> "Scope":
        """For FROM of this stage: everything is inherited."""
        return Scope(self.build_args, self.global_args, self.escape, dict(self.environment), dict(self.declared))

    def assign(self, name: str, value: str) -> None:
        """One that is set again goes to the end, as with BuildKit: its cache keys have the order."""
        self.environment.pop(name, None)
        self.environment[name] = value

    def expand(self, word: str, at: Position, *, body: bool = False) -> str:
        """Raises DockerfileError: the word's own fault, or `${name:?message}` of an unset variable."""
        return expanded(word, self.environment, at, escape=self.escape, body=body)

    def declare(self, arg: Arg) -> list[tuple[str, str | None]]:
        """Take ARG in: a build argument wins over the default here, which wins over the global ARG.

        Returns the names with their values, for the history.
        """
        found: list[tuple[str, str | None]] = []
        for name, default in arg.pairs:
            value = self.build_args.get(name)
            if value is None and default is not None:
                value = self.expand(default, arg.at)
            elif value is None:
                value = self.global_args.get(name)
            if value is not None and name not in _STEERING:
                self.assign(name, value)
            self.declared[name] = value
            found.append((name, value))
        return found


def declare_global(
    args: tuple[Arg, ...], given: Mapping[str, str], first: Mapping[str, str], escape: str
) -> dict[str, str]:
    """The ARGs before the first FROM, in order; each sees those above it."""
    found = {name: given.get(name, value) for name, value in first.items()}
    for arg in args:
        for name, default in arg.pairs:
            if name in given:
                found[name] = given[name]
            elif default is not None:
                found[name] = expanded(default, found, arg.at, escape=escape)
    return found


def expanded(
    word: str,
    variables: Mapping[str, str],
    at: Position,
    *,
    escape: str,
    body: bool = False,
) -> str:
    """Expand one word, or the body of a heredoc, of the instruction at `at`."""
    try:
        if body:
            return expand_body(word, variables)
        return expand(word, variables, escape=escape)
    except ExpansionError as error:
        raise DockerfileError(error.problem, at=at, hint=error.hint) from None
