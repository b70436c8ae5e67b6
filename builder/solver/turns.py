"""The same work of several builds on one root is done by one of them; the others wait, and take what it made.

The work is named by a key of the cache, so it is known to be the same whoever's Dockerfile it stands in. A lock on it
dies with its holder. Nobody holds one while waiting for another, so nobody waits for ever.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.model import Digest
from runner.kernel.locks import alone, doze, sweep

Tell = Callable[[str, str], None]


@contextmanager
def turn(root: Path, work: Digest, tell: Tell, wait: Callable[[int], None] = doze) -> Iterator[bool]:
    """While the body runs, nobody else does this work. Look first whether it is done by now.

    Args:
        root: of the state.
        work: key of the result.
        tell: gets words about waiting.
        wait: as of alone().

    Yields:
        Whether time has passed, in which anything may have changed.
    """
    told: set[int] = set()
    waited = False

    def waiting(holder: int) -> None:
        nonlocal waited
        waited = True
        if holder and holder not in told:
            told.add(holder)
            other = "another step" if holder == os.getpid() else f"another build (process {holder})"
            tell("waiting", f"for {other}, which does the same")
        wait(holder)

    with alone(_directory(root) / f"{work.encoded}.lock", waiting):
        if told:
            tell("waiting", "is over")
        yield waited


def sweep_turns(root: Path) -> None:
    """Remove what killed builds have left."""
    sweep(_directory(root))


def _directory(root: Path) -> Path:
    directory = root / "steps"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory
