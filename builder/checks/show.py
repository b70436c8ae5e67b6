"""Findings, outlines and lists of targets for people and for programs; the shapes are those of buildx and BuildKit."""

import base64
import json
from collections.abc import Iterable, Sequence

from builder.checks.findings import Finding, Report
from builder.checks.outline import Outline, Target
from builder.checks.walk import Wanted
from builder.dockerfile.instructions import Position
from builder.excerpt import excerpt

Json = dict[str, object]


def report_text(report: Report, dockerfile: str) -> str:
    """What `--check` prints; an error in the Dockerfile is not in it."""
    count = len(report.findings)
    if not count:
        return "" if report.error is not None else "Check complete, no warnings found.\n"
    found = "1 warning has been found!" if count == 1 else f"{count} warnings have been found!"
    return f"Check complete, {found}\n" + "".join(_warning(finding, dockerfile) for finding in report.findings)


def _warning(finding: Finding, dockerfile: str) -> str:
    about = finding.about
    title = f"{about.name} - {about.url}" if about.url else about.name
    return f"\nWARNING: {title}\n{finding.detail}\n{excerpt(dockerfile, finding.at)}\n"


def violation(report: Report) -> str:
    """The error that `# check=error=true` makes of findings."""
    return f"lint violation found for rules: {', '.join(report.violated)}"


def report_json(report: Report, dockerfile: bytes) -> str:
    name = next((finding.at.file for finding in report.findings), "Dockerfile")
    found: Json = {
        "warnings": [
            _filled(
                ruleName=finding.rule, description=finding.about.description, url=finding.about.url,
                detail=finding.detail, location=_location(finding.at),
            )
            for finding in report.findings
        ],
        "sources": [{"filename": name, "language": "Dockerfile", "data": _base64(dockerfile)}],
    }  # fmt: skip
    if report.error is not None:
        found["buildError"] = {"message": report.error.problem, "location": _location(report.error.at)}
    elif report.violated:
        found["buildError"] = {"message": violation(report), "location": {}}
    return _json(found)


def outline_text(outline: Outline) -> str:
    parts = []
    if outline.name or outline.description:
        head = [["TARGET:", outline.name or "(default)"], ["DESCRIPTION:", outline.description]]
        parts.append(_table([row for row in head if row[1]], 1))
    if outline.arguments:
        rows = [[one.name, one.value, one.description] for one in outline.arguments]
        parts.append(_table([["BUILD ARG", "VALUE", "DESCRIPTION"], *rows], 3))
    for title, wanted in (("SECRET", outline.secrets), ("SSH", outline.agents)):
        if wanted:
            parts.append(_table([[title, "REQUIRED"], *([one.name, _true(one.required)] for one in wanted)], 3))
    if outline.caches:
        parts.append(_table([["CACHE MOUNT"], *([one.name] for one in outline.caches)], 3))
    return "".join(f"{part}\n" for part in parts)


def outline_json(outline: Outline, dockerfile: bytes) -> str:
    def wanted(found: Sequence[Wanted], name: str = "name") -> list[Json]:
        return [
            {name: one.name}
            | _filled(description=one.description, value=one.value, required=one.required, location=_location(one.at))
            for one in found
        ]

    return _json(
        _filled(
            name=outline.name, description=outline.description, args=wanted(outline.arguments),
            secrets=wanted(outline.secrets), ssh=wanted(outline.agents), cache=wanted(outline.caches, "ID"),
            sources=[_base64(dockerfile)],
        )
    )  # fmt: skip


def targets_text(targets: Iterable[Target]) -> str:
    rows = [[f"{one.name} (default)".strip() if one.default else one.name, one.description] for one in targets]
    return _table([["TARGET", "DESCRIPTION"], *rows], 1)


def targets_json(targets: Iterable[Target], dockerfile: bytes) -> str:
    found = [
        _filled(
            name=target.name, default=target.default, description=target.description, base=target.base,
            platform=target.platform, location=_location(target.at),
        )
        for target in targets
    ]  # fmt: skip
    return _json({"targets": found, "sources": [_base64(dockerfile)]})


def _table(rows: Sequence[Sequence[str]], gap: int) -> str:
    """Columns as wide as their widest cell; nothing is filled up behind the last one."""
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]) - 1)]
    lines = ("".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _location(at: Position) -> Json:
    """One range for each line, as BuildKit counts."""
    lines = range(at.line, max(at.end_line, at.line) + 1)
    return {"ranges": [{"start": {"line": line}, "end": {"line": line}} for line in lines]}


def _filled(**values: object) -> Json:
    """Without what is empty, as Go's omitempty."""
    return {name: value for name, value in values.items() if value}


def _true(value: bool) -> str:
    return "true" if value else ""


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
