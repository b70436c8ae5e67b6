"""Findings, kept between builds beside the parsed Dockerfiles: a cached build pays for reading one small file.

It is a cache: what is damaged, foreign or gone is found again.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from builder.checks.findings import Finding, Report
from builder.dockerfile import memo

IsDirectory = Callable[[str], bool]


class _Kept(msgspec.Struct):
    findings: tuple[Finding, ...]
    error_wanted: bool
    asked: dict[str, bool]  # what the context was asked, and its answers


def remembered(
    known: object, is_directory: IsDirectory, check: Callable[[IsDirectory], Report], directory: Path
) -> Report:
    """What `check` says, or said before.

    Args:
        known: all that its answer depends on beside the context; its repr() is the key.
        is_directory: asks the context.
        check: is given the way to ask the context.
        directory: where to keep the findings.
    """
    place = directory / f"{_key(known)}.json"
    with suppress(OSError, msgspec.MsgspecError, RecursionError):
        kept = msgspec.json.decode(place.read_bytes(), type=_Kept)
        if all(is_directory(path) == answer for path, answer in kept.asked.items()):
            return Report(kept.findings, None, kept.error_wanted)
    asked: dict[str, bool] = {}

    def ask(path: str) -> bool:
        asked[path] = is_directory(path)
        return asked[path]

    report = check(ask)
    if report.error is None:
        with suppress(OSError):
            memo.keep(msgspec.json.encode(_Kept(report.findings, report.error_wanted, asked)), place)
    return report


def _key(known: object) -> str:
    room = os.path.dirname(__file__)
    above = os.path.dirname(room)
    stamps = [memo.stamps(place) for place in (room, f"{above}/dockerfile", f"{above}/plan")]
    return hashlib.sha256(repr(("checks", stamps, known)).encode()).hexdigest()
