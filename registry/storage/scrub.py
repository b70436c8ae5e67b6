"""Scrubbing: reading everything once in a while, to find what a disk has changed or lost before somebody needs it.

What is found wrong is noted, and no longer served or counted as present; so the next push or pull of it brings it
again, which heals it. Nothing is removed.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from registry.errors import RegistryError
from registry.model import Digest, Manifest, parse_manifest
from registry.model.digest import new_hasher
from registry.model.media_types import is_distributable
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.failures import explained
from registry.storage.files import Files
from registry.storage.values import Damage

_PIECE = 1024 * 1024  # bytes between two steps
_PAGE = 200  # rows looked up at once


@dataclass
class ScrubReport:
    """Fills while a scrub goes on."""

    blobs: int = 0
    manifests: int = 0
    bytes: int = 0
    damages: list[Damage] = field(default_factory=list)


class Scrubber:
    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self._files = files

    def steps(self, report: ScrubReport, *, older_than: float = 0.0) -> Iterator[int]:
        """Check manifests, then blobs, those first that nobody has looked at for longest.

        The caller sets the pace: it takes the next step when it likes, and may stop after any.

        Args:
            report: what was found so far.
            older_than: seconds; blobs that were read (or written) since then are left out.

        Yields:
            Bytes that were read since the step before.
        """
        yield from self._manifests(report)
        yield from self._blobs(report, time.time() - older_than)

    def known_damage(self) -> list[Damage]:
        """What was found earlier and is not healed yet."""
        rows = self._database.rows("SELECT digest, problem FROM damage ORDER BY found, digest")
        return [self._damage(Digest.parse(digest), problem) for digest, problem in rows]

    def _blobs(self, report: ScrubReport, before: float) -> Iterator[int]:
        while rows := self._database.rows(
            "SELECT digest, size FROM blob WHERE state = 'live' AND scrubbed < ? ORDER BY scrubbed LIMIT ?",
            (before, _PAGE),
        ):
            for text, size in rows:
                digest = Digest.parse(text)
                problem, inode = "", 0
                try:
                    with open(self._files.blob(digest), "rb", buffering=0) as file:
                        inode = os.fstat(file.fileno()).st_ino
                        hasher, read = new_hasher(digest.algorithm), 0
                        while piece := file.read(_PIECE):
                            hasher.update(piece)
                            read += len(piece)
                            report.bytes += len(piece)
                            yield len(piece)
                    if read != size:
                        problem = f"has {read} bytes instead of {size}"
                    elif hasher.hexdigest() != digest.encoded:
                        problem = "has other content"
                except FileNotFoundError:
                    problem = "its file is gone"
                except OSError as error:
                    problem = f"can't be read: {os.strerror(error.errno or 0)}"
                report.blobs += 1
                if self._note(digest, problem, inode):
                    report.damages.append(self._damage(digest, problem))
                yield 0

    def _note(self, digest: Digest, problem: str, inode: int) -> bool:
        """Write down that it was read; with a problem also that, unless it is no longer the file that was read."""
        with explained(self._files.root), self._database.write(durable=bool(problem)) as transaction:
            live = transaction.execute(
                "UPDATE blob SET scrubbed = ? WHERE digest = ? AND state = 'live'", (time.time(), str(digest))
            ).rowcount
            try:
                same = os.stat(self._files.blob(digest)).st_ino == inode
            except FileNotFoundError:
                same = inode == 0
            if not live or not problem or (inode and not same):
                return False
            transaction.execute(
                "INSERT INTO damage (digest, problem, found) VALUES (?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET problem = excluded.problem",
                (str(digest), problem, time.time()),
            )
            crash_point("damage-row")
            return True

    def _manifests(self, report: ScrubReport) -> Iterator[int]:
        last = 0
        while rows := self._database.rows(
            "SELECT m.id, r.name, m.digest, m.media_type, m.payload FROM manifest m JOIN repo r ON r.id = m.repo_id "
            "WHERE m.id > ? ORDER BY m.id LIMIT ?",
            (last, _PAGE),
        ):
            for row, repo, text, media_type, payload in rows:
                last = row
                digest = Digest.parse(text)
                problem = self._problem_of(row, digest, media_type, payload)
                if problem:
                    report.damages.append(Damage(digest, problem, (repo,)))
                report.manifests += 1
                report.bytes += len(payload)
                yield len(payload)

    def _problem_of(self, row: int, digest: Digest, media_type: str, payload: bytes) -> str:
        if Digest.of(payload, digest.algorithm) != digest:
            return "the manifest has other content"
        try:
            parsed = parse_manifest(payload, media_type)
        except RegistryError as error:
            return f"the manifest can't be read: {error}"
        if not isinstance(parsed, Manifest):
            return ""
        with self._database.read() as connection:
            for number, child in enumerate(parsed.children):
                needed = number == 0 or (is_distributable(child.media_type) and not child.urls)
                if needed and not _is_linked(connection, row, child.digest):
                    return f"the manifest needs {child.digest}, which its repository lost"
        return ""

    def _damage(self, digest: Digest, problem: str) -> Damage:
        rows = self._database.rows(
            "SELECT r.name FROM repo_blob l JOIN repo r ON r.id = l.repo_id WHERE l.digest = ? ORDER BY r.name",
            (str(digest),),
        )
        return Damage(digest, problem, tuple(name for (name,) in rows))


def _is_linked(connection: sqlite3.Connection, manifest: int, digest: Digest) -> bool:
    """Asked of a manifest that may be deleted at this moment: then nothing is missing."""
    found = connection.execute(
        "SELECT NOT EXISTS (SELECT 1 FROM manifest WHERE id = ?) OR EXISTS (SELECT 1 FROM repo_blob l "
        "JOIN manifest m ON m.repo_id = l.repo_id JOIN blob b ON b.digest = l.digest "
        "WHERE m.id = ? AND l.digest = ? AND b.state = 'live')",
        (manifest, manifest, str(digest)),
    ).fetchone()
    return bool(found[0])
