"""Retention: removing the tags that the operator's rules no longer keep. Their manifests are left to collection."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from registry.errors import ManifestUnknown, TagConflict
from registry.model import Digest
from registry.storage.database import Database
from registry.storage.manifests import Manifests
from registry.storage.tagrules import TagRules, is_immutable
from registry.storage.values import Client, ExpiredTag, Precondition, TagRule, TagState


class Retention:
    def __init__(self, database: Database, rules: TagRules, manifests: Manifests) -> None:
        self._database = database
        self._rules = rules
        self._manifests = manifests

    def run(self, *, dry_run: bool = False, by: Client | None = None) -> list[ExpiredTag]:
        """Remove the tags that no rule keeps; each only if it is still where it was when that was decided.

        Args:
            dry_run: only say which.
            by: on whose behalf; also for how long they can come back.

        Returns:
            Those that went, or with `dry_run` would go.
        """
        rules = self._rules.all()
        gone = []
        for found in expired(self._states(), rules, time.time()):
            if not dry_run:
                try:
                    when = Precondition(frozenset({found.digest}))
                    self._manifests.untag(found.repository, found.tag, when, by, rules_bind=False)
                except (ManifestUnknown, TagConflict):
                    continue  # moved or gone meanwhile
            gone.append(found)
        return gone

    def _states(self) -> Iterator[TagState]:
        rows = self._database.rows(
            "SELECT r.name, t.name, m.digest, t.updated, coalesce(m.last_pulled, 0) FROM tag t "
            "JOIN repo r ON r.id = t.repo_id JOIN manifest m ON m.id = t.manifest_id ORDER BY r.name, t.name"
        )
        for repository, tag, digest, updated, pulled in rows:
            yield TagState(repository, tag, Digest.parse(digest), updated, pulled)


def expired(states: Iterable[TagState], rules: Sequence[TagRule], now: float) -> list[ExpiredTag]:
    """The tags that rules cover and none keeps. Pure.

    Each rule looks at the tags it covers in one repository by themselves: `keep_last` counts among these, the newest
    first. A tag that several rules cover stays if one of them keeps it; one that may not move stays too.
    """
    by_repository: dict[str, list[TagState]] = defaultdict(list)
    for state in states:
        by_repository[state.repository].append(state)
    found = []
    for repository, tags in by_repository.items():
        kept: set[str] = {each.tag for each in tags if is_immutable(rules, repository, each.tag)}
        covered: dict[str, TagRule] = {}
        for rule in rules:
            if rule.kind != "retain" or not fnmatchcase(repository, rule.repositories):
                continue
            mine = sorted((each for each in tags if fnmatchcase(each.tag, rule.tags)), key=_newest_first)
            for place, each in enumerate(mine):
                covered.setdefault(each.tag, rule)
                if _keeps(rule, place, each, now):
                    kept.add(each.tag)
        found += [
            ExpiredTag(repository, each.tag, each.digest, covered[each.tag].number)
            for each in tags
            if each.tag in covered and each.tag not in kept
        ]
    return found


def _newest_first(state: TagState) -> tuple[float, str]:
    return -state.updated, state.tag


def _keeps(rule: TagRule, place: int, state: TagState, now: float) -> bool:
    return bool(
        (rule.keep_last and place < rule.keep_last)
        or (rule.keep_younger and state.updated > now - rule.keep_younger)
        or (rule.keep_pulled and state.pulled > now - rule.keep_pulled)
    )
