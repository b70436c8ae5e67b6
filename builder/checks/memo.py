"""Findings, kept between builds beside the parsed Dockerfiles: a cached build pays for reading one small file.

It is a cache: what is damaged, foreign or gone is found again.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from builder.checks.facts import Facts
from builder.checks.findings import Finding, Report
from builder.dockerfile import memo
from builder.dockerfile.instructions import Dockerfile


class _Kept(msgspec.Struct):
    findings: tuple[Finding, ...]
    error_wanted: bool
    asked: dict[str, bool]  # what the context was asked, and its answers


def check_remembered(
    dockerfile: Dockerfile, content: bytes, facts: Facts, bases: Mapping[str, str], directory: Path
) -> Report:
    """As check(), with `directory` as memory.

    Args:
        dockerfile: what was read from `content`.
        content: the text.
        facts: what is known.
        bases: names and digests of the images that `facts.base` knows.
        directory: where to keep the findings.
    """
    place = directory / f"{_key(dockerfile, content, facts, bases)}.json"
    with suppress(OSError, msgspec.MsgspecError, RecursionError):
        kept = msgspec.json.decode(place.read_bytes(), type=_Kept)
        if all(facts.is_directory and facts.is_directory(path) == answer for path, answer in kept.asked.items()):
            return Report(kept.findings, None, kept.error_wanted)
    from builder.checks.walk import check

    asked: dict[str, bool] = {}

    def is_directory(path: str) -> bool:
        asked[path] = facts.is_directory is not None and facts.is_directory(path)
        return asked[path]

    report = check(dockerfile, replace(facts, is_directory=is_directory if facts.is_directory else None))
    if report.error is None:
        with suppress(OSError):
            memo.keep(msgspec.json.encode(_Kept(report.findings, report.error_wanted, asked)), place)
    return report


def _key(dockerfile: Dockerfile, content: bytes, facts: Facts, bases: Mapping[str, str]) -> str:
    room = os.path.dirname(__file__)
    above = os.path.dirname(room)
    known = (
        *map(memo.stamps, (room, f"{above}/dockerfile", f"{above}/plan")), dockerfile.instructions[0].at.file, content,
        sorted(facts.build_args.items()), str(facts.platform), facts.target, facts.all_stages,
        facts.ignore and [(rule.pattern, rule.keeps) for rule in facts.ignore.rules], sorted(facts.contexts),
        sorted(bases.items()),
    )  # fmt: skip
    return hashlib.sha256(repr(("checks", known)).encode()).hexdigest()
