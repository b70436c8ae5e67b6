"""A server of repositories, and mirrors of one builder."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from builder.ops.repositories import Repositories
from tests.gitserver import Hub, serving


@pytest.fixture
def hub(netns: None, ram_path: Path) -> Iterator[Hub]:
    with serving(ram_path / "origins") as hub:
        yield hub


Cache = Callable[..., Repositories]


@pytest.fixture
def cache(ram_path: Path) -> Cache:
    """Mirrors of one builder; each call is a build of its own, with what it is given."""
    temporary = ram_path / "tmp"
    temporary.mkdir()

    def made(secrets: Mapping[str, str] | None = None, agent: str = "") -> Repositories:
        return Repositories(ram_path / "git", temporary, secrets=(secrets or {}).get, agent=agent)

    return made
