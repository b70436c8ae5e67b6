import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

Make = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory on a file system where many files cost little."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


@pytest.fixture
def make(room: Path) -> Make:
    """Make a context of names and texts: `->x` is a link to x, and a name that ends in a slash is a directory."""

    def made(files: Mapping[str, str]) -> Path:
        root = room / "context"
        for name, text in {"Dockerfile": "FROM scratch\n", **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            elif text.startswith("->"):
                os.symlink(text[2:], path)
            else:
                path.write_text(text)
        return root

    return made
