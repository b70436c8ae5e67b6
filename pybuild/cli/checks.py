"""`pybuild build --call`, `--check`: questions about a Dockerfile that are answered without building it."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pybuild.cli.plain import plain
from pybuild.errors import UsageError

if TYPE_CHECKING:
    from builder.build import BuildRequest
    from builder.inspection import Inspection

CALLS = ("check", "outline", "targets")
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked; `ignore_status`: a warning is no failure."""

    name: str
    json: bool = False
    ignore_status: bool = False


def parse_call(text: str) -> Call | None:
    """`check`, `outline,format=json`, `check,ignorestatus=true`; None: build. Raises UsageError."""
    name, form, ignore = "", "text", "false"
    for word in next(csv.reader([text]), []):
        key, equals, value = word.partition("=")
        if not equals and not name:
            name = "check" if key == "lint" else key
        elif key == "format" and value in {"text", "json", ""}:
            form = value
        elif key == "ignorestatus" and value.lower() in _BOOLEANS:
            ignore = value.lower()
        else:
            hint = "write --call=NAME, and behind it ,format=json or ,ignorestatus=true"
            raise UsageError(f"--call {text}: {word!r} makes no sense", hint=hint)
    if name in {"", "build"}:
        return None
    if name not in CALLS:
        raise UsageError(f"--call {name}: no such question", hint=f"there is build, {', '.join(CALLS)}")
    return Call(name, form == "json", _BOOLEANS[ignore])


def answer(root: Path, request: "BuildRequest", call: Call) -> int:
    """Print the answer, and return the exit code: 1 for warnings.

    Raises:
        DockerfileError: the Dockerfile can't be built.
        BuilderError: `# check=error=true`, and there are warnings.
    """
    from builder.checks.show import outline_json, outline_text, targets_json, targets_text
    from builder.inspection import inspection
    from registry.storage import ContentStore

    with ContentStore.open(root) as store, inspection(root, store, request) as found:
        if call.name == "check":
            return _check(found, call)
        if call.name == "outline":
            outline = found.outline()
            _print(outline_json(outline, found.content) if call.json else outline_text(outline))
        else:
            targets = found.targets()
            _print(targets_json(targets, found.content) if call.json else targets_text(targets))
    return 0


def _check(found: "Inspection", call: Call) -> int:
    from builder.checks.show import report_json, report_text, violation
    from builder.errors import BuilderError

    report = found.report()
    _print(report_json(report, found.content) if call.json else report_text(report, found.text))
    if report.error is not None:
        raise report.error
    if report.violated:
        raise BuilderError(violation(report), hint="# check=error=true makes warnings errors")
    return 1 if report.findings and not call.ignore_status else 0


def _print(text: str) -> None:
    click.echo(plain(text), nl=False)
