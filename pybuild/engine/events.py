"""What happens to containers, images and volumes, as docker's tools hear of it.

Gives:    tell(), for whoever does something; docker's JSON of an event and its filters.
Not here: where events are kept (runner/container/journal.py), and who waits for them (pybuild/api).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pybuild.engine.records import Record
from pybuild.engine.roots import runtime_dir
from runner.container.journal import Happened, write

FILTERS = ("container", "event", "image", "label", "network", "scope", "type", "volume", "daemon")


def tell(root: Path, kind: str, action: str, which: str, **attributes: str) -> None:
    write(runtime_dir(root), Happened(kind, action, which, attributes))


def tell_container(root: Path, record: Record, action: str, **attributes: str) -> None:
    """Of a container: beside the action's own attributes its labels, image and name."""
    write(runtime_dir(root), Happened("container", action, record.id, {**actor(record), **attributes}))


def actor(record: Record) -> dict[str, str]:
    """How events describe a container."""
    return {**record.labels, "image": record.image, "name": record.name}


def as_json(happened: Happened) -> dict[str, Any]:
    """Docker's form, with the fields of before 1.22 that old clients still read."""
    found: dict[str, Any] = {
        "Type": happened.kind,
        "Action": happened.action,
        "Actor": {"ID": happened.id, "Attributes": dict(happened.attributes)},
        "scope": "local",
        "time": happened.time // 1_000_000_000,
        "timeNano": happened.time,
    }
    if happened.kind in {"container", "image"}:
        found |= {"status": happened.action, "id": happened.id}
        if happened.kind == "container":
            found["from"] = happened.attributes.get("image", "")
    return found


def passes(happened: Happened, filters: Mapping[str, Sequence[str]]) -> bool:
    """Whether filters keep it: all kinds must fit, one value of each is enough (labels: all)."""
    for key, values in filters.items():
        if key == "label":
            if not all(_has_label(happened.attributes, value) for value in values):
                return False
        elif not any(_fits(happened, key, value) for value in values):
            return False
    return True


def _fits(happened: Happened, key: str, value: str) -> bool:
    if key == "event":  # `exec_create` also means `exec_create: sh -c …`
        return happened.action == value or happened.action.startswith(f"{value}:")
    if key == "type":
        return happened.kind == value
    if key == "scope":
        return value == "local"
    if key == "daemon":
        return True
    if key == "image":
        image = happened.id if happened.kind == "image" else happened.attributes.get("image", "")
        return value in {image, image.rpartition(":")[0]}
    return happened.kind == key and (happened.id.startswith(value) or happened.attributes.get("name") == value)


def _has_label(attributes: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in attributes and (not equals or attributes[key] == value)
