"""How a transfer tells what it does. Rendering is the terminal's business, not ours."""

from typing import Protocol


class Progress(Protocol):
    """Called from several threads at once."""

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        """Say that `what` (a short digest, or "" for the transfer as a whole) is now in `status`.

        Args:
            what: 12 hex digits of a blob, or empty.
            status: words as docker's: "Downloading", "Already exists", "Pushed", …
            current: bytes done so far.
            total: bytes in all; 0 when there is nothing to count.
        """


class Silent:
    """Progress that nobody looks at."""

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        del what, status, current, total
