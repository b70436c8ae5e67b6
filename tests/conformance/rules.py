"""The rules of the Dockerfile language and where we differ from BuildKit, as data (*.toml), for tests and people.

`python -m tests.conformance` runs the tests of every rule and prints them; `--write` makes docs/compatibility.md anew.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@dataclass(frozen=True)
class Rule:
    """One sentence of the language, in our words, and the tests that hold it: paths from the root, as pytest has them.

    A test may be a file, a class or a function; parameters are left out.
    """

    section: str
    text: str
    tests: tuple[str, ...]


def rules() -> list[Rule]:
    found = tomllib.loads((FOLDER / "dockerfile_rules.toml").read_text("utf-8"))
    return [Rule(one["section"], rule["rule"], tuple(rule["tests"])) for one in found["part"] for rule in one["rules"]]


def on_purpose() -> Mapping[str, str]:
    """Dockerfiles of which BuildKit's newest frontend says another thing than we do, and why."""
    found = tomllib.loads((FOLDER / "differences.toml").read_text("utf-8"))
    return {one["dockerfile"]: one["why"] for one in found["difference"]}
