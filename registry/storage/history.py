"""What happened to tags, and the way back.

A tag that a client moved or removed, or a manifest it deleted, can come back while its window lasts: until then leases
keep the content (manifests.py). The record of what happened stays.
"""

from registry.errors import ManifestBlobUnknown, ManifestUnknown
from registry.model import Digest, Index, parse_manifest
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.manifests import Manifests
from registry.storage.values import ANYHOW, TagChange


class History:
    def __init__(self, database: Database, manifests: Manifests) -> None:
        self._database = database
        self._manifests = manifests

    def changes(self, repo: str, tag: str | None = None, limit: int = 100) -> list[TagChange]:
        """The latest first."""
        rows = self._database.rows(
            "SELECT e.name, e.old, e.new, e.actor, e.at FROM tag_event e JOIN repo r ON r.id = e.repo_id "
            "WHERE r.name = ? AND (? IS NULL OR e.name = ?) ORDER BY e.id DESC LIMIT ?",
            (repo, tag, tag, limit),
        )
        return [
            TagChange(name, Digest.parse(old) if old else None, Digest.parse(new) if new else None, actor, at)
            for name, old, new, actor, at in rows
        ]

    def restore(self, repo: str, tag: str, digest: Digest | None = None) -> Digest:
        """Bring a tag back to where it was, with what it led to.

        Args:
            repo: its repository.
            tag: moves from wherever it is now.
            digest: where it goes; None: where its last change took it away from.

        Raises:
            ManifestUnknown: it was never there, or its window is over and the content gone.
        """
        target = digest or self._before(repo, tag)
        try:
            if not self._is_here(repo, target):
                self._bring_back(repo, target)
            self._manifests.tag(repo, tag, target, ANYHOW, None)
        except ManifestBlobUnknown as error:
            raise ManifestUnknown(
                f"{repo}:{tag} was at {target}, whose content is gone", hint="push it again"
            ) from error
        return target

    def _before(self, repo: str, tag: str) -> Digest:
        for change in self.changes(repo, tag):
            if change.old is not None:
                return change.old
        raise ManifestUnknown(f"{repo}:{tag} was never anywhere else", hint="`pybuild registry history` tells")

    def _is_here(self, repo: str, digest: Digest) -> bool:
        found = self._database.row(
            "SELECT 1 FROM manifest m JOIN repo r ON r.id = m.repo_id WHERE r.name = ? AND m.digest = ?",
            (repo, str(digest)),
        )
        return found is not None

    def _bring_back(self, repo: str, digest: Digest) -> None:
        """A deleted manifest, with the deleted ones that it lists."""
        found = self._database.row(
            "SELECT d.media_type, d.payload, d.repo_id FROM deleted_manifest d JOIN repo r ON r.id = d.repo_id "
            "WHERE r.name = ? AND d.digest = ?",
            (repo, str(digest)),
        )
        if found is None:
            raise ManifestUnknown(f"{repo} had {digest}, which is gone", hint="push it again")
        media_type, payload, row = found
        parsed = parse_manifest(payload, media_type)
        if isinstance(parsed, Index):
            for child in parsed.children:
                if not self._is_here(repo, child.digest):
                    try:
                        self._bring_back(repo, child.digest)
                    except ManifestUnknown:
                        continue  # a sparse index may have been so from the start
        self._manifests.put(
            repo, payload, media_type, tags=(), expected=digest, sparse=True, adopt=False, when=ANYHOW, by=None
        )
        crash_point("restored")
        with self._database.write() as transaction:
            transaction.execute("DELETE FROM deleted_manifest WHERE repo_id = ? AND digest = ?", (row, str(digest)))
