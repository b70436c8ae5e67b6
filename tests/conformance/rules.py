"""The rules of the Dockerfile language and where we differ from BuildKit, as data (*.toml), for tests and people."""

import ast
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
TESTS = FOLDER.parent
COMPARISON = "interop/test_builds_equal_buildkits.py"
NEWEST = "interop/test_builds_equal_newest.py"
ANSWERS = "unit/plan/test_buildkits_answers.py"


@dataclass(frozen=True)
class Rule:
    """One rule of the language, in our words, and the tests that hold it, as dockerfile_rules.toml has them."""

    section: str
    text: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """What a word of a rule's `tests` means: a place as pytest has it, below tests/, and a part of its parameters."""

    path: str
    names: tuple[str, ...] = ()  # class, function
    part: str = ""

    @classmethod
    def parse(cls, word: str) -> "Named":
        kind, colon, name = word.partition(":")
        if kind == "buildkit" and colon:
            return cls(COMPARISON, part=f"[{name}]")
        if kind == "newest" and colon:
            return cls(NEWEST, ("test_the_same_image",), f"[{name}]")
        if kind == "answers" and colon:
            return cls(ANSWERS, ("test_the_answer_is_the_same",), f"-{name}]")
        path, *names = word.split("::")
        return cls(path, tuple(names))

    @property
    def node(self) -> str:
        """What pytest runs for it; the cases that two builders build are built together."""
        return self.path if self.part and self.path == COMPARISON else "::".join((self.path, *self.names))

    def holds(self, classname: str, name: str) -> bool:
        """Whether a test that ran (as JUnit's XML names it) is one of these."""
        whole = f"{classname}.{name}".removeprefix("tests.")
        start = ".".join((self.path.removesuffix(".py").replace("/", "."), *self.names))
        return whole.startswith(start) and whole[len(start) :][:1] in ("", ".", "[") and self.part in name

    @property
    def exists(self) -> bool:
        place = TESTS / self.path
        if self.path == COMPARISON and self.part:
            return (TESTS / "interop/dockerfiles" / f"{self.part[1:-1]}.Dockerfile").is_file()
        if self.path == NEWEST and self.part:
            return (TESTS / "interop/newest" / f"{self.part[1:-1]}.Dockerfile").is_file()
        if self.path == ANSWERS and self.part:
            return self.part[1:-1] in _kinds()
        return place.is_dir() if place.suffix != ".py" else place.is_file() and self.names in _names(place)


def rules() -> list[Rule]:
    found = tomllib.loads((FOLDER / "dockerfile_rules.toml").read_text("utf-8"))
    return [Rule(one["section"], rule["rule"], tuple(rule["tests"])) for one in found["part"] for rule in one["rules"]]


def on_purpose() -> Mapping[str, str]:
    """Dockerfiles of which BuildKit's newest frontend says another thing than we do, and why."""
    found = tomllib.loads((FOLDER / "differences.toml").read_text("utf-8"))
    return {one["dockerfile"]: one["why"] for one in found["difference"]}


@cache
def _kinds() -> frozenset[str]:
    cases = json.loads((TESTS / "unit/plan/buildkits_answers.json").read_text("utf-8"))
    return frozenset(case["about"] for case in cases)


@cache
def _names(file: Path) -> frozenset[tuple[str, ...]]:
    return frozenset([(), *_below(ast.parse(file.read_text("utf-8")), ())])


def _below(node: ast.AST, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield (*above, child.name)
            yield from _below(child, (*above, child.name))
