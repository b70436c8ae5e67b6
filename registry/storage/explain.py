"""Why the store keeps something: the same questions as the collector's, answered in words."""

import time
from collections.abc import Iterator

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.storage.database import Database
from registry.storage.values import Reason

_MOST = 20  # lines about one kind of reason
_DEPTH = 8  # indexes and subjects upwards


class Explainer:
    def __init__(self, database: Database) -> None:
        self._database = database

    def explain(self, digest: Digest, grace: float) -> list[Reason]:
        """Every reason why a blob or manifest is kept, or what will become of it.

        Args:
            digest: of a blob, a manifest or both.
            grace: seconds for which collection leaves new blobs alone.

        Raises:
            BlobUnknown: nothing of that digest is here.
        """
        found = [*self._manifest(digest), *self._blob(digest, grace), *self._deleted(digest)]
        if not found:
            raise BlobUnknown(f"nothing here has the digest {digest}", hint="`pybuild images --digests` lists images")
        if not any(reason.keeps for reason in found):
            found.append(Reason("nothing keeps it: the next collection frees it", keeps=False))
        return found

    def _manifest(self, digest: Digest) -> Iterator[Reason]:
        rows = self._database.rows(
            "SELECT m.id, r.name, m.lease_until FROM manifest m JOIN repo r ON r.id = m.repo_id WHERE m.digest = ? "
            "ORDER BY r.name LIMIT ?",
            (str(digest), _MOST),
        )
        for row, repo, lease in rows:
            above = list(self._above(row, repo, _DEPTH))
            for text in above[:_MOST]:
                yield Reason(f"manifest of {repo}: {text}")
            if not above:
                yield Reason(f"manifest of {repo}: no tag, index or subject needs it; kept until untagged ones go")
            if lease > time.time():
                yield Reason(f"manifest of {repo}: pushed, or taken away, a short time ago", until=lease)

    def _above(self, row: int, repo: str, depth: int) -> Iterator[str]:
        """What leads to a manifest, up to the tags."""
        for (tag,) in self._database.rows("SELECT name FROM tag WHERE manifest_id = ? ORDER BY name", (row,)):
            yield f"tagged {repo}:{tag}"
        if depth == 0:
            yield "…"
            return
        parents = self._database.rows(
            "SELECT p.id, p.digest FROM manifest m JOIN manifest_ref f ON f.repo_id = m.repo_id "
            "AND f.child_digest = m.digest AND f.kind = 'manifest' JOIN manifest p ON p.id = f.manifest_id "
            "WHERE m.id = ? ORDER BY p.id LIMIT ?",
            (row, _MOST),
        )
        for parent, digest in parents:
            above = list(self._above(parent, repo, depth - 1)) or ["which has no tag"]
            yield from (f"in the index {_short(digest)}, {text}" for text in above)
        subject = self._database.row(
            "SELECT s.id, s.digest FROM manifest m JOIN manifest s ON s.repo_id = m.repo_id "
            "AND s.digest = m.subject_digest WHERE m.id = ?",
            (row,),
        )
        if subject is not None:
            above = list(self._above(subject[0], repo, depth - 1)) or ["which has no tag"]
            yield from (f"about {_short(subject[1])}, {text}" for text in above)

    def _blob(self, digest: Digest, grace: float) -> Iterator[Reason]:
        found = self._database.row("SELECT size, state, touched FROM blob WHERE digest = ?", (str(digest),))
        if found is None:
            return
        size, state, touched = found
        if state == "deleting":
            yield Reason(f"blob of {size} bytes: being deleted", keeps=False)
            return
        yield Reason(f"blob of {size} bytes", keeps=False)
        for (problem,) in self._database.rows("SELECT problem FROM damage WHERE digest = ?", (str(digest),)):
            yield Reason(f"damaged: {problem}; not served until it is pushed again", keeps=False)
        yield from self._links(digest)
        leases = self._database.rows(
            "SELECT l.pid, l.expires FROM lease l JOIN lease_blob b ON b.lease_id = l.id WHERE b.digest = ? LIMIT ?",
            (str(digest), _MOST),
        )
        for pid, expires in leases:
            yield Reason(f"process {pid} works with it", until=expires)
        records = self._database.rows(
            "SELECT e.kind, count(*) FROM cache_hold h JOIN cache_entry e ON e.key = h.key WHERE h.digest = ? "
            "GROUP BY e.kind ORDER BY e.kind",
            (str(digest),),
        )
        for kind, count in records:
            yield Reason(f"{count} records of the build cache need it ({kind})")
        if touched > time.time() - grace:
            yield Reason("stored a short time ago", until=touched + grace)

    def _links(self, digest: Digest) -> Iterator[Reason]:
        links = self._database.rows(
            "SELECT r.id, r.name, l.lease_until FROM repo_blob l JOIN repo r ON r.id = l.repo_id WHERE l.digest = ? "
            "ORDER BY r.name LIMIT ?",
            (str(digest), _MOST),
        )
        for repo_row, repo, lease in links:
            users = self._database.rows(
                "SELECT m.id, m.digest, f.kind FROM manifest_ref f JOIN manifest m ON m.id = f.manifest_id "
                "WHERE f.repo_id = ? AND f.child_digest = ? ORDER BY m.id LIMIT ?",
                (repo_row, str(digest), _MOST),
            )
            for row, manifest, kind in users:
                for text in list(self._above(row, repo, _DEPTH))[:_MOST] or ["which has no tag"]:
                    yield Reason(f"{kind} of {repo}@{_short(manifest)}, {text}")
            if lease > time.time():
                yield Reason(f"{repo}: a client was told that it is here, or may want it back", until=lease)

    def _deleted(self, digest: Digest) -> Iterator[Reason]:
        rows = self._database.rows(
            "SELECT r.name, d.keep_until FROM deleted_manifest d JOIN repo r ON r.id = d.repo_id WHERE d.digest = ? "
            "ORDER BY r.name LIMIT ?",
            (str(digest), _MOST),
        )
        for repo, until in rows:
            yield Reason(f"manifest of {repo}: deleted, and can come back", until=until)


def _short(digest: str) -> str:
    return digest[:19]
