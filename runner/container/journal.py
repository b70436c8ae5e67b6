"""The journal of a state root: one line for each thing that happened to a container, an image or a volume.

Gives:    write() for whoever does something (command line, daemon, supervisor); Journal for whoever listens.
Promises: a line is whole; a listener that keeps up sees each line once, whoever wrote it; two files of LIMIT bytes at
          most are kept. Nothing depends on it: what can't be written is left out.
Not here: how events look to clients (pybuild/engine/events.py).

It lies in the run directory, so it ends with the machine's uptime. Standard library only.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

FILE = "events.jsonl"
LIMIT = 256 * 1024  # bytes of one file


@dataclass(frozen=True, slots=True)
class Happened:
    """What happened. `attributes` say to whom: name, image, labels, and what the action adds (exitCode, signal)."""

    kind: str  # container, image, volume, network
    action: str  # create, start, die, …
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time: int = 0  # nanoseconds since 1970


def write(directory: Path, happened: Happened) -> None:
    """Add a line. A full disk or a missing directory costs the line, nothing else."""
    line = json.dumps(
        {
            "kind": happened.kind, "action": happened.action, "id": happened.id,
            "attributes": dict(happened.attributes), "time": happened.time or time.time_ns(),
        },
        separators=(",", ":"),
    )  # fmt: skip
    path = directory / FILE
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size > LIMIT:
                path.rename(path.with_suffix(".old"))  # two at once: the second one moves a file of a line or two
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)


class Journal:
    """Stands at a place in the journal. Not for several threads at once."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._file: BinaryIO | None = None
        self._rest = b""

    def past(self) -> list[Happened]:
        """What is kept of the past, oldest first; `more` then begins after it."""
        found: list[Happened] = []
        with contextlib.suppress(FileNotFoundError), open(self._path.with_suffix(".old"), "rb") as old:
            found += filter(None, map(_parsed, old))
        return [*found, *self.more()]

    def more(self) -> list[Happened]:
        """What was written since."""
        return list(self._more())

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _more(self) -> Iterator[Happened]:
        while True:
            if self._file is None:
                try:
                    self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 -- kept until `close`
                except FileNotFoundError:
                    return
            yield from self._lines(self._file)
            try:
                current = self._path.stat().st_ino
            except FileNotFoundError:
                return
            if current == os.fstat(self._file.fileno()).st_ino:
                return
            yield from self._lines(self._file)  # written between the last look and the rename
            self.close()
            self._rest = b""

    def _lines(self, file: BinaryIO) -> Iterator[Happened]:
        while block := file.read(64 * 1024):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from filter(None, map(_parsed, lines))


def _parsed(line: bytes) -> Happened | None:
    try:
        found: dict[str, Any] = json.loads(line)
        return Happened(
            str(found["kind"]), str(found["action"]), str(found["id"]), dict(found["attributes"]), int(found["time"])
        )
    except (ValueError, TypeError, KeyError):
        return None
