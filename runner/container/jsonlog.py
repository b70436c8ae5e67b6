r"""Logs of containers in docker's json-file format, rotated, and read back.

Gives:    LogWriter for the supervisor; read_log() for everybody, while it is written or long after.
Promises: a record is one line and whole; at most 5 files of 20 MB unless told otherwise: no container fills the disk;
          a follower sees every record across rotations, as long as it is not slower than four whole files.
Not here: who reads a container's pipes, and how records are shown.

A record is `{"log":"text\n","stream":"stdout","time":"RFC3339Nano"}`. A line longer than PARTIAL bytes becomes several
records, of which only the last ends in a newline. Files: `json.log`, then `json.log.1` (younger) up to `.4`.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runner.container.state import timestamp

PARTIAL = 16 * 1024  # bytes
MAX_SIZE = 20_000_000  # bytes in one file
MAX_FILES = 5
FOLLOW_INTERVAL = 0.05  # seconds between two looks at a file that is being followed
_BLOCK = 64 * 1024
STREAMS = ("stdout", "stderr")


class LogWriter:
    """Takes bytes as they come from a container's streams; appends records."""

    def __init__(self, path: Path, *, max_size: int = MAX_SIZE, max_files: int = MAX_FILES) -> None:
        self._path, self._max_size, self._max_files = path, max_size, max_files
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self._pending = dict.fromkeys(STREAMS, b"")

    def write(self, stream: str, data: bytes) -> None:
        """Add bytes of one stream; an unfinished line waits for its rest. OSError when the disk is full."""
        lines = (self._pending[stream] + data).split(b"\n")
        rest = lines.pop()
        pieces = [piece for line in lines for piece in _pieces(line + b"\n")]
        *full, self._pending[stream] = _pieces(rest) or [b""]
        self._append(stream, pieces + full)

    def finish(self) -> None:
        """Write what has come without a newline, and close."""
        try:
            for stream, rest in self._pending.items():
                self._append(stream, _pieces(rest))
        finally:
            os.close(self._fd)

    def _append(self, stream: str, pieces: list[bytes]) -> None:
        if not pieces:
            return
        now = timestamp()
        records = [json.dumps(piece.decode("utf-8", "replace")) for piece in pieces]
        tail = f',"stream":"{stream}","time":"{now}"}}\n'
        batch = "".join(f'{{"log":{text}{tail}' for text in records).encode()
        if self._size and self._size + len(batch) > self._max_size:
            self._rotate()
        view = memoryview(batch)
        while view:
            written = os.write(self._fd, view)
            view = view[written:]
        self._size += len(batch)

    def _rotate(self) -> None:
        for number in range(self._max_files - 1, 0, -1):
            older = _numbered(self._path, number - 1)
            if number == self._max_files - 1:
                _numbered(self._path, number).unlink(missing_ok=True)
            if older.exists():
                older.rename(_numbered(self._path, number))
        os.close(self._fd)
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
        self._fd = self._open()
        self._size = 0

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _pieces(line: bytes) -> list[bytes]:
    """Cut at PARTIAL bytes, or a little before so that no character is torn."""
    found = []
    while len(line) > PARTIAL:
        cut = PARTIAL
        while cut > PARTIAL - 4 and line[cut] & 0xC0 == 0x80:
            cut -= 1
        found.append(line[:cut])
        line = line[cut:]
    return [*found, line] if line else found


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


@dataclass(frozen=True, slots=True)
class Record:
    """A line of output, or a part of a very long one (then without newline)."""

    text: str
    stream: str
    time: str  # RFC 3339; compare with `instant`

    @property
    def instant(self) -> int:
        return nanoseconds(self.time)


def nanoseconds(moment: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time in UTC. ValueError for anything else."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    seconds = _epoch(whole)
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")


def _epoch(whole: str) -> int:
    import calendar

    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))


def read_log(
    path: Path,
    *,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
    running: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """Records from the oldest on.

    Args:
        path: the newest file; older ones lie beside it.
        tail: only the last so many of what is there now.
        since: nanoseconds since 1970; records from before are left out.
        until: nanoseconds since 1970; records from after end the reading.
        running: given: after the end wait for more until it says False; what has come until then is given.
    """
    with closing(LogReader(path)) as reader:
        for record in _all(reader, tail, running):
            if until is not None and record.instant > until:
                return
            if since is None or record.instant >= since:
                yield record


def _all(reader: "LogReader", tail: int | None, running: Callable[[], bool] | None) -> Iterator[Record]:
    yield from reader.existing(tail)
    while running is not None:
        ended = not running()
        yield from reader.more()
        if ended:
            return
        time.sleep(FOLLOW_INTERVAL)


class LogReader:
    """Stands at a place in the newest file, also when that is renamed meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def close(self) -> None:
        if self._file:
            self._file.close()

    def existing(self, tail: int | None) -> Iterator[Record]:
        """What is there now; afterwards the reader stands at the end of the newest file."""
        self._file = _open_or_none(self._path)
        if tail is not None:
            yield from (_parse(line) for line in self._last(tail))
            return
        older = [_open_or_none(_numbered(self._path, number)) for number in range(1, MAX_FILES)]
        for file in filter(None, reversed(older)):
            with file:
                yield from (_parse(line) for line in file)
        yield from self.more()

    def _last(self, count: int) -> list[bytes]:
        """The last `count` whole lines over all files; only as much is read as needed."""
        lines: deque[bytes] = deque()
        if self._file is None:
            return []
        end = self._file.seek(0, os.SEEK_END)
        found = _tail_lines(self._file, end, count)
        self._file.seek(end)
        lines.extend(found)
        number = 1
        while len(lines) < count and (older := _open_or_none(_numbered(self._path, number))):
            with older:
                lines.extendleft(reversed(_tail_lines(older, older.seek(0, os.SEEK_END), count - len(lines))))
            number += 1
        return list(lines)

    def more(self) -> Iterator[Record]:
        """What has been added since, through rotations."""
        while True:
            if self._file is None:
                self._file = _open_or_none(self._path)
            if self._file is None:
                return
            yield from self._new_lines(self._file)
            current = _inode(self._path)
            if current is None or current == os.fstat(self._file.fileno()).st_ino:
                return
            yield from self._new_lines(self._file)  # written between the last look and the rename
            following = _successor(self._path, os.fstat(self._file.fileno()).st_ino)
            self._file.close()
            self._file, self._rest = following, b""

    def _new_lines(self, file: BinaryIO) -> Iterator[Record]:
        while block := file.read(_BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from (_parse(line) for line in lines)


def _successor(path: Path, inode: int) -> BinaryIO | None:
    """The file that was begun after the one that was `inode`; the oldest one there is if that is gone."""
    following = None
    for number in range(MAX_FILES):
        if _inode(_numbered(path, number)) == inode:
            return following
        if file := _open_or_none(_numbered(path, number)):
            if following is not None:
                following.close()
            following = file
    return following


def _tail_lines(file: BinaryIO, end: int, count: int) -> list[bytes]:
    position, content = end, b""
    while position > 0 and content.count(b"\n") <= count:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        content = file.read(step) + content
    lines = content.split(b"\n")[:-1]
    return lines[-count:] if count else []


def _open_or_none(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _parse(line: bytes) -> Record:
    """A line of the file; one that a power cut tore is shown as it is."""
    try:
        found = json.loads(line)
        return Record(found["log"], found["stream"], found["time"])
    except (ValueError, TypeError, KeyError):
        return Record(line.decode("utf-8", "replace") + "\n", "stdout", "1970-01-01T00:00:00Z")
