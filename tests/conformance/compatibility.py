"""docs/compatibility.md, made from what tests know: where a build differs from BuildKit's, with the reason."""

from collections.abc import Iterator
from itertools import groupby

from tests.conformance.rules import FOLDER, TESTS, on_purpose
from tests.interop.build_cases import ODD

PAGE = TESTS.parent / "docs" / "compatibility.md"


def page() -> str:
    text = (FOLDER / "compatibility.md").read_text("utf-8")
    return text.replace("{dockerfiles}", "\n".join(_dockerfiles())).replace("{builds}", "\n".join(_builds()))


def _dockerfiles() -> Iterator[str]:
    """One row a reason, with the Dockerfiles that it is for."""
    yield "| Dockerfile | why |"
    yield "|---|---|"
    for why, cases in groupby(on_purpose().items(), key=lambda case: case[1]):
        yield f"| {'; '.join(f'`{_short(text)}`' for text, _ in cases)} | {why} |"


def _short(dockerfile: str) -> str:
    """The line that it is about, in a cell."""
    lines = [line for line in dockerfile.splitlines() if not line.startswith(("FROM", "WORKDIR", "ENV"))]
    return max(lines[:1], default="").strip("# ").replace("a" * 96, "…").replace("|", "\\|")


def _builds() -> Iterator[str]:
    """One row a reason, with the cases and what differs in each."""
    yield "| why | what differs |"
    yield "|---|---|"
    cases: dict[str, dict[str, list[str]]] = {}
    for name, odd in sorted(ODD.items()):
        for what, why in odd.differ.items():
            cases.setdefault(why, {}).setdefault(name, []).append(f"`{what}`")
    for why, found in cases.items():
        yield f"| {why} | {'; '.join(f'{name}: ' + ', '.join(whats) for name, whats in found.items())} |"
