"""Rules about tags: which may not move (immutable), and which go when they are old (retain; see retention.py).

Rules bind clients of the registry, not the commands of the machine that holds the store. `repositories` and `tags` of a
rule are globs as the shell knows them; `*` also matches slashes.
"""

import sqlite3
from collections.abc import Sequence
from fnmatch import fnmatchcase

from registry.errors import NameInvalid, TagImmutable
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.values import TagRule

_COLUMNS = "id, kind, repositories, tags, keep_last, keep_younger, keep_pulled"
_LONGEST = 1000  # characters of a glob


class TagRules:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[TagRule]:
        with self._database.read() as connection:
            return _rules(connection)

    def add(self, rule: TagRule) -> int:
        """Raises NameInvalid for a rule that can't mean anything. Returns its number."""
        if not rule.repositories or not rule.tags or max(len(rule.repositories), len(rule.tags)) > _LONGEST:
            raise NameInvalid("a rule needs a glob of repositories and one of tags", hint="* matches all")
        if rule.kind == "retain" and not (rule.keep_last or rule.keep_younger or rule.keep_pulled):
            raise NameInvalid("this rule would keep nothing", hint="say what to keep: the last n, by age, by last pull")
        with self._database.write() as transaction:
            (number,) = transaction.execute(
                "INSERT INTO tag_rule (kind, repositories, tags, keep_last, keep_younger, keep_pulled) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                (rule.kind, rule.repositories, rule.tags, rule.keep_last, rule.keep_younger, rule.keep_pulled),
            ).fetchone()
            crash_point("rule-row")
        return int(number)

    def remove(self, number: int) -> bool:
        """False if there is no such rule."""
        with self._database.write() as transaction:
            return transaction.execute("DELETE FROM tag_rule WHERE id = ?", (number,)).rowcount > 0


def is_immutable(rules: Sequence[TagRule], repository: str, tag: str) -> bool:
    return any(
        rule.kind == "immutable" and fnmatchcase(repository, rule.repositories) and fnmatchcase(tag, rule.tags)
        for rule in rules
    )


def check_movable(transaction: sqlite3.Connection, repo: int, tags: Sequence[str]) -> None:
    """Raises TagImmutable, in the transaction that would move or remove one of the tags."""
    if not tags or not (rules := _rules(transaction, "immutable")):
        return
    (name,) = transaction.execute("SELECT name FROM repo WHERE id = ?", (repo,)).fetchone()
    for tag in tags:
        if is_immutable(rules, name, tag):
            raise TagImmutable(f"tag {tag} of {name} may not move or go", hint="push under another tag")


def _rules(connection: sqlite3.Connection, kind: str = "%") -> list[TagRule]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM tag_rule WHERE kind LIKE ? ORDER BY id", (kind,)).fetchall()  # noqa: S608 - a constant
    return [
        TagRule(kind_, repositories, tags, last, younger, pulled, number)
        for number, kind_, repositories, tags, last, younger, pulled in rows
    ]
