"""Manifests and tags: what a repository shows, changed in one transaction each.

A manifest goes in only when the content it needs is in the store and belongs to its repository, and from then on keeps
that content from collection. Its bytes stay as they came.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache

from registry.errors import ManifestBlobUnknown, ManifestTooLarge, ManifestUnknown, SizeInvalid
from registry.model import Descriptor, Digest, Index, Manifest, parse_manifest
from registry.model.manifest import MAX_MANIFEST
from registry.model.media_types import is_distributable
from registry.model.reference import check_tag
from registry.storage.blobs import check_digest
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.namespaces import within_quota
from registry.storage.repositories import LINK_SECONDS, Repositories, insert_link, repo_id
from registry.storage.tagrules import check_movable
from registry.storage.values import Client, Precondition, StoredManifest, StoredTag


class Manifests:
    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    def put(
        self,
        repo: str,
        content: bytes,
        media_type: str,
        *,
        tags: Sequence[str],
        expected: Digest | None,
        sparse: bool,
        adopt: bool,
        when: Precondition,
        by: Client | None,
    ) -> Digest:
        if len(content) > MAX_MANIFEST:
            raise ManifestTooLarge(f"a manifest of {len(content)} bytes", hint=f"at most {MAX_MANIFEST} bytes")
        for tag in tags:
            check_tag(tag)
        parsed = parse_manifest(content, media_type)
        digest = Digest.of(content, expected.algorithm if expected else "sha256")
        check_digest(expected, digest)
        with self._database.write() as transaction:
            repo_row = repo_id(transaction, repo)
            if adopt:
                _adopt(transaction, repo_row, parsed)
            kinds = _checked_children(transaction, repo_row, parsed, sparse=sparse)
            found = transaction.execute(_MANIFEST_ID, (repo_row, str(digest))).fetchone()
            if not tags:
                when.check(f"manifest {digest}", digest if found else None)
            if found is None:
                lease = 0.0 if adopt else time.time() + LINK_SECONDS
                with within_quota(transaction, repo_row) if by else nullcontext():
                    manifest_row = _insert(transaction, repo_row, content, parsed, digest=digest, lease=lease)
                _insert_refs(transaction, repo_row, manifest_row, kinds)
                crash_point("manifest-refs")
            else:
                manifest_row = int(found[0])
                if not adopt:
                    _extend(transaction, manifest_row)
            for tag in tags:
                _move_tag(transaction, repo_row, tag, manifest_row, digest, when=when, by=by)
            crash_point("manifest-tags")
        crash_point("manifest-committed")
        return digest

    def get(self, repo: str, ref: str | Digest) -> StoredManifest:
        if isinstance(ref, Digest):
            statement = (
                "SELECT m.digest, m.media_type, m.payload FROM repo r JOIN manifest m ON m.repo_id = r.id "
                "WHERE r.name = ? AND m.digest = ?"
            )
        else:
            statement = (
                "SELECT m.digest, m.media_type, m.payload FROM repo r JOIN tag t ON t.repo_id = r.id "
                "JOIN manifest m ON m.id = t.manifest_id WHERE r.name = ? AND t.name = ?"
            )
        found = self._database.row(statement, (repo, str(ref)))
        if found is None:
            raise _unknown(repo, ref)
        return StoredManifest(_known(found[0]), found[1], found[2])

    def page(self, after: int, limit: int) -> tuple[list[tuple[str, StoredManifest, list[str]]], int | None]:
        rows = self._database.rows(
            "SELECT m.id, r.name, m.digest, m.media_type, m.payload FROM manifest m JOIN repo r ON r.id = m.repo_id "
            "WHERE m.id > ? ORDER BY m.id LIMIT ?",
            (after, limit),
        )
        found = []
        for row, repo, digest, media_type, payload in rows:
            tags = self._database.rows("SELECT name FROM tag WHERE manifest_id = ? ORDER BY name", (row,))
            found.append((repo, StoredManifest(Digest.parse(digest), media_type, payload), [tag for (tag,) in tags]))
        return found, rows[-1][0] if rows else None

    def delete(self, repo: str, digest: Digest, when: Precondition, by: Client | None) -> None:
        """Remove the manifest and all its tags."""
        with self._database.write() as transaction:
            repo_row, manifest_row = _require(transaction, repo, digest)
            when.check(f"manifest {digest}", digest)
            tags = transaction.execute("SELECT name FROM tag WHERE manifest_id = ?", (manifest_row,)).fetchall()
            if by:
                check_movable(transaction, repo_row, [tag for (tag,) in tags])
                _keep_deleted(transaction, repo_row, manifest_row, time.time() + by.restorable)
            transaction.execute("DELETE FROM tag WHERE manifest_id = ?", (manifest_row,))
            for (tag,) in tags:
                _note(transaction, repo_row, tag, str(digest), None, by=by)
            crash_point("delete-tags")
            transaction.execute("DELETE FROM manifest WHERE id = ?", (manifest_row,))
            crash_point("delete-manifest")

    def tag(self, repo: str, tag: str, digest: Digest, when: Precondition, by: Client | None) -> None:
        check_tag(tag)
        with self._database.write() as transaction:
            repo_row, manifest_row = _require(transaction, repo, digest)
            _move_tag(transaction, repo_row, tag, manifest_row, digest, when=when, by=by)
            crash_point("tag-row")

    def untag(self, repo: str, tag: str, when: Precondition, by: Client | None, *, rules_bind: bool = True) -> None:
        with self._database.write() as transaction:
            found = transaction.execute(
                "DELETE FROM tag WHERE name = ? AND repo_id = (SELECT id FROM repo WHERE name = ?) "
                "RETURNING repo_id, (SELECT digest FROM manifest WHERE id = manifest_id)",
                (tag, repo),
            ).fetchone()
            if found is None:
                raise _unknown(repo, tag)
            when.check(f"tag {tag}", Digest.parse(found[1]))
            if by and rules_bind:
                check_movable(transaction, found[0], [tag])
            _note(transaction, found[0], tag, found[1], None, by=by)
            crash_point("untag-row")

    def note_pulls(self, pulls: Mapping[tuple[str, Digest], float]) -> None:
        with self._database.write(durable=False) as transaction:
            transaction.executemany(
                "UPDATE manifest SET last_pulled = ? WHERE digest = ? AND coalesce(last_pulled, 0) < ? "
                "AND repo_id = (SELECT id FROM repo WHERE name = ?)",
                [(at, str(digest), at, repo) for (repo, digest), at in pulls.items()],
            )
            crash_point("pulls-noted")

    def tags(self, repo: str, after: str, limit: int | None) -> list[str]:
        rows = self._database.rows(
            "SELECT name FROM tag WHERE repo_id = ? AND name > ? ORDER BY name LIMIT ?",
            (self._repositories.known_id(repo), after, -1 if limit is None else limit),
        )
        return [name for (name,) in rows]

    def images(self) -> list[StoredTag]:
        rows = self._database.rows(
            "SELECT r.name, t.name, m.digest, m.media_type, t.updated FROM tag t JOIN repo r ON r.id = t.repo_id "
            "JOIN manifest m ON m.id = t.manifest_id ORDER BY r.name, t.name"
        )
        return [StoredTag(repo, tag, Digest.parse(digest), kind, at) for repo, tag, digest, kind, at in rows]

    def untagged(self) -> list[StoredTag]:
        rows = self._database.rows(
            "SELECT r.name, m.digest, m.media_type, m.pushed_at FROM spare_manifest m JOIN repo r ON r.id = m.repo_id "
            "ORDER BY r.name, m.id"
        )
        return [StoredTag(repo, "", Digest.parse(digest), kind, at) for repo, digest, kind, at in rows]

    def referrers(
        self, repo: str, digest: Digest, artifact_type: str | None, after: int, limit: int | None
    ) -> tuple[list[Descriptor], int | None]:
        statement = (
            "SELECT m.id, m.media_type, m.digest, m.size, m.artifact_type, m.annotations FROM manifest m "
            "WHERE m.repo_id = (SELECT id FROM repo WHERE name = ?) AND m.subject_digest = ? AND m.id > ? "
        )
        values: list[str | int] = [repo, str(digest), after]
        if artifact_type is not None:
            statement += "AND m.artifact_type = ? "
            values.append(artifact_type)
        rows = self._database.rows(f"{statement} ORDER BY m.id LIMIT ?", (*values, -1 if limit is None else limit + 1))
        more = limit is not None and len(rows) > limit
        shown = rows[:limit]
        descriptors = [
            Descriptor(kind, Digest.parse(name), size, json.loads(annotations or "{}"), artifact_type=artifact)
            for _, kind, name, size, artifact, annotations in shown
        ]
        return descriptors, shown[-1][0] if more and shown else None

    def find(self, kind: str, prefix: str) -> list[tuple[str, Digest]]:
        """(repository, manifest digest) of manifests whose own digest ("manifest") or config ("config") begins so."""
        beyond = f"{prefix}g"  # sorts after every hex digit
        statement = (
            "SELECT r.name, m.digest FROM manifest m JOIN repo r ON r.id = m.repo_id WHERE m.digest BETWEEN ? AND ?"
            if kind == "manifest"
            else "SELECT r.name, m.digest FROM manifest_ref f JOIN manifest m ON m.id = f.manifest_id "
            "JOIN repo r ON r.id = m.repo_id WHERE f.kind = 'config' AND f.child_digest BETWEEN ? AND ?"
        )
        rows = self._database.rows(f"{statement} ORDER BY r.name, m.id", (prefix, beyond))
        return [(repo, Digest.parse(digest)) for repo, digest in rows]


_known = lru_cache(maxsize=4096)(Digest.parse)  # of rows that every request asks for; checking one takes a while
_MANIFEST_ID = "SELECT id FROM manifest WHERE repo_id = ? AND digest = ?"


def _checked_children(
    transaction: sqlite3.Connection, repo: int, parsed: Manifest | Index, *, sparse: bool
) -> list[tuple[Digest, str]]:
    """(digest, kind) of every child. Raises ManifestBlobUnknown, SizeInvalid."""
    missing: list[Descriptor] = []
    if isinstance(parsed, Manifest):
        found = list(_image_children(transaction, repo, parsed, missing))
    else:
        found = list(_index_children(transaction, repo, parsed, missing))
    if missing and not (sparse and isinstance(parsed, Index)):
        raise _missing(missing)
    return found


def _image_children(
    transaction: sqlite3.Connection, repo: int, parsed: Manifest, missing: list[Descriptor]
) -> Iterator[tuple[Digest, str]]:
    for number, child in enumerate(parsed.children):
        size = _linked_size(transaction, repo, child.digest)
        if size is not None:
            _check_size(child, size)
        elif number == 0 or (is_distributable(child.media_type) and not child.urls):
            missing.append(child)
        yield child.digest, "layer" if number else "config"


def _index_children(
    transaction: sqlite3.Connection, repo: int, parsed: Index, missing: list[Descriptor]
) -> Iterator[tuple[Digest, str]]:
    for child in parsed.children:
        found = transaction.execute(
            "SELECT size FROM manifest WHERE repo_id = ? AND digest = ?", (repo, str(child.digest))
        ).fetchone()
        if found is not None:
            _check_size(child, found[0])
            yield child.digest, "manifest"
            continue
        size = _linked_size(transaction, repo, child.digest)  # BuildKit's cache exports are indexes that list layers
        if size is not None:
            _check_size(child, size)
        else:
            missing.append(child)
        yield child.digest, "manifest" if size is None else "layer"


def _linked_size(transaction: sqlite3.Connection, repo: int, digest: Digest) -> int | None:
    found = transaction.execute(
        "SELECT b.size FROM repo_blob rb JOIN blob b ON b.digest = rb.digest "
        "WHERE rb.repo_id = ? AND rb.digest = ? AND b.state = 'live' AND b.digest NOT IN (SELECT digest FROM damage)",
        (repo, str(digest)),
    ).fetchone()
    return None if found is None else int(found[0])


def _adopt(transaction: sqlite3.Connection, repo: int, parsed: Manifest | Index) -> None:
    """Give the repository whatever of the children the store holds."""
    for child in parsed.children:
        held = transaction.execute("SELECT 1 FROM blob WHERE digest = ? AND state = 'live'", (str(child.digest),))
        if held.fetchone():
            insert_link(transaction, repo, child.digest, seconds=0)


def _check_size(child: Descriptor, size: int) -> None:
    if child.size != size:
        raise SizeInvalid(f"{child.digest} has {size} bytes, the manifest says {child.size}", hint="rebuild the image")


def _missing(children: Sequence[Descriptor]) -> ManifestBlobUnknown:
    first = children[0]
    more = f", and {len(children) - 1} more," if len(children) > 1 else ","
    return ManifestBlobUnknown(
        f"the manifest needs {first.digest} ({first.media_type[:100]}){more} which the repository does not hold",
        hint="push its layers and configuration, or its images, before it",
        digests=tuple(str(child.digest) for child in children),
    )


def _unknown(repo: str, ref: str | Digest) -> ManifestUnknown:
    named = f"{repo}@{ref}" if isinstance(ref, Digest) else f"{repo}:{ref}"
    return ManifestUnknown(f"no image {named[:400]} here", hint="`pybuild images` lists what is here")


def _insert(
    transaction: sqlite3.Connection,
    repo: int,
    content: bytes,
    parsed: Manifest | Index,
    *,
    digest: Digest,
    lease: float,
) -> int:
    total = min(len(content) + sum(child.size for child in parsed.children), 2**63 - 1)  # foreign sizes are unchecked
    values = (
        repo, str(digest), str(parsed.media_type), parsed.kind, str(parsed.subject.digest) if parsed.subject else None,
        json.dumps(dict(parsed.annotations)) if parsed.annotations else None, content, len(content), total,
        time.time(), lease,
    )  # fmt: skip
    (row,) = transaction.execute(
        "INSERT INTO manifest (repo_id, digest, media_type, artifact_type, subject_digest, annotations, payload, size, "
        "total_size, pushed_at, lease_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        values,
    ).fetchone()
    crash_point("manifest-row")
    return int(row)


def _extend(transaction: sqlite3.Connection, manifest: int) -> None:
    """A client was told that its manifest is here: no collection of untagged ones soon, whenever it first came."""
    now = time.time()
    transaction.execute(
        "UPDATE manifest SET lease_until = ? WHERE id = ? AND lease_until < ?",
        (now + LINK_SECONDS, manifest, now + LINK_SECONDS / 2),
    )


def _insert_refs(
    transaction: sqlite3.Connection, repo: int, manifest: int, children: Sequence[tuple[Digest, str]]
) -> None:
    transaction.executemany(
        "INSERT INTO manifest_ref (manifest_id, repo_id, child_digest, kind) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        [(manifest, repo, str(digest), kind) for digest, kind in children],
    )


def _move_tag(
    transaction: sqlite3.Connection,
    repo: int,
    tag: str,
    manifest: int,
    digest: Digest,
    *,
    when: Precondition,
    by: Client | None,
) -> None:
    found = transaction.execute(
        "SELECT m.digest FROM tag t JOIN manifest m ON m.id = t.manifest_id WHERE t.repo_id = ? AND t.name = ?",
        (repo, tag),
    ).fetchone()
    old = found[0] if found else None
    when.check(f"tag {tag}", Digest.parse(old) if old else None)
    if old == str(digest):
        return
    if by and old:
        check_movable(transaction, repo, [tag])
    transaction.execute(
        "INSERT INTO tag (repo_id, name, manifest_id, updated) VALUES (?, ?, ?, ?) ON CONFLICT (repo_id, name) "
        "DO UPDATE SET manifest_id = excluded.manifest_id, version = tag.version + 1, updated = excluded.updated",
        (repo, tag, manifest, time.time()),
    )
    _note(transaction, repo, tag, old, str(digest), by=by)


def _note(
    transaction: sqlite3.Connection, repo: int, tag: str, old: str | None, new: str | None, *, by: Client | None
) -> None:
    """Record a change; where the tag was stays for a while, for a client that wants it back."""
    now = time.time()
    transaction.execute(
        "INSERT INTO tag_event (repo_id, name, old, new, actor, at) VALUES (?, ?, ?, ?, ?, ?)",
        (repo, tag, old, new, by.name if by else "", now),
    )
    if by and old:
        transaction.execute(
            "UPDATE manifest SET lease_until = ? WHERE repo_id = ? AND digest = ? AND lease_until < ?",
            (now + by.restorable, repo, old, now + by.restorable),
        )


def _keep_deleted(transaction: sqlite3.Connection, repo: int, manifest: int, until: float) -> None:
    """Put a manifest aside that is about to be deleted, and keep what it needs as long."""
    transaction.execute(
        "INSERT INTO deleted_manifest (repo_id, digest, media_type, payload, keep_until) "
        "SELECT repo_id, digest, media_type, payload, ? FROM manifest WHERE id = ? "
        "ON CONFLICT (repo_id, digest) DO UPDATE SET keep_until = excluded.keep_until",
        (until, manifest),
    )
    for table in ("repo_blob", "manifest"):
        transaction.execute(
            f"UPDATE {table} SET lease_until = ? WHERE repo_id = ? AND lease_until < ? "  # noqa: S608 - one of two
            "AND digest IN (SELECT child_digest FROM manifest_ref WHERE manifest_id = ?)",
            (until, repo, until, manifest),
        )
    crash_point("delete-kept")


def _require(transaction: sqlite3.Connection, repo: str, digest: Digest) -> tuple[int, int]:
    found = transaction.execute(
        "SELECT r.id, m.id FROM repo r JOIN manifest m ON m.repo_id = r.id WHERE r.name = ? AND m.digest = ?",
        (repo, str(digest)),
    ).fetchone()
    if found is None:
        raise _unknown(repo, digest)
    return int(found[0]), int(found[1])
