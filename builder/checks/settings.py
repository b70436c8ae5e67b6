"""The directive `# check=skip=…;error=true;experimental=…`, for a file or, in a comment above, for one instruction."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from builder.checks.rules import Rule

_DIRECTIVE = re.compile(r"check\s*=\s*(.+?)\s*", re.IGNORECASE | re.DOTALL)
_BOOLEANS = {word: value for value, words in ((True, "1 t T true TRUE True"), (False, "0 f F false FALSE False"))
             for word in words.split()}  # fmt: skip


class SettingsInvalid(ValueError):
    """What is wrong with a check directive."""


@dataclass(frozen=True)
class Settings:
    """Which rules speak."""

    skip: frozenset[str] = frozenset()  # "all" is every rule
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """Read the value of the directive, up to the first blank. Raises SettingsInvalid."""
        text = text.partition(" ")[0].strip()
        found: dict[str, frozenset[str]] = {}
        error = False
        for option in text.split(";", 2) if text else ():
            key, equals, value = option.partition("=")
            key, value = key.strip(), value.strip()
            if key not in {"skip", "experimental", "error"} or not equals:
                raise SettingsInvalid(f"invalid check option {option!r}")
            if key == "error":
                if value not in _BOOLEANS:
                    raise SettingsInvalid(f"check option {option!r} is neither true nor false")
                error = _BOOLEANS[value]
            else:
                found[key] = frozenset(rule.strip() for rule in value.split(","))
        return cls(found.get("skip", frozenset()), found.get("experimental", frozenset()), error)

    def above(self, comments: Iterable[str]) -> "Settings":
        """These, and what the first check directive in the comments above an instruction adds; a broken one nothing."""
        for comment in comments:
            if (match := _DIRECTIVE.fullmatch(comment)) is not None:
                try:
                    other = Settings.parse(match[1])
                except SettingsInvalid:
                    return self
                return Settings(self.skip | other.skip, self.experimental | other.experimental, self.error)
        return self

    def allow(self, rule: Rule) -> bool:
        """An experimental rule has to be asked for, and then `skip` does not reach it: as BuildKit has it."""
        if rule.experimental:
            return not self.experimental.isdisjoint({rule.name, "all"})
        return self.skip.isdisjoint({rule.name, "all"})
