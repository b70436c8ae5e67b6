"""What the store says, as statements that anybody can ask its file again, without this package.

A fact is an SQL statement, its values, and the row that it gives; `pybuild.cli.again` asks whether it still does.
"""

from collections.abc import Collection

from registry.model import Digest
from registry.storage import schema

Fact = tuple[str, tuple[str, ...], tuple[object, ...] | None]


def schema_fact() -> Fact:
    """That the statements of the others mean what they meant."""
    return "SELECT version FROM schema_version", (), (len(schema.MIGRATIONS),)


def tag_fact(repository: str, tag: str, digest: Digest) -> Fact:
    """That a tag points to this manifest."""
    statement = (
        "SELECT m.digest FROM repo r JOIN tag t ON t.repo_id = r.id JOIN manifest m ON m.id = t.manifest_id"
        " WHERE r.name = ? AND t.name = ?"
    )
    return statement, (repository, tag), (str(digest),)


def blobs_fact(digests: Collection[Digest]) -> Fact:
    """That these blobs are here, as far as rows tell."""
    names = tuple(sorted({str(digest) for digest in digests}))
    marks = ",".join("?" * len(names))
    statement = f"SELECT count(*) FROM blob WHERE state = 'live' AND digest IN ({marks})"  # noqa: S608 - only ?s
    return statement, names, (len(names),)
