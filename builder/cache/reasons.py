"""Why a step was not cached: its key's parts beside those of the time before. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from builder.cache.filemap import FileMap, differences
from builder.cache.parts import Input, Parts
from builder.cache.report import Reason, printable

_SHOWN = 60  # characters of a value
_BEFORE = 15  # of them, how many before the first that differs
_FILES = 20  # paths of one source that are named
_SECRET = ("apikey", "auth", "credential", "key", "password", "passwd", "pword", "secret", "token")
_TITLES = {
    "user": "USER", "cwd": "WORKDIR", "path": "WORKDIR", "hosts": "--add-host", "scripts": "heredoc",
    "mounts": "--mount", "excludes": "--exclude", "sources": "sources", "destination": "destination",
}  # fmt: skip
_WITHOUT = frozenset({"op", "env", "args", "inline", "order"})  # told apart, or with another


FindFiles = Callable[[str], FileMap | None]


def compare(before: Parts, now: Parts, find: FindFiles, declared: Mapping[str, str]) -> list[Reason]:
    """Every input that differs.

    Args:
        before: of the step that it would have been.
        now: of the step that was not cached.
        find: the files of a selection, by its digest.
        declared: the instruction (ARG or ENV) that makes a variable.
    """
    found = [
        *_commands(before.definition, now.definition),
        *_flags(before.definition, now.definition),
        *_variables(before.definition, now.definition, declared),
        *_below(before.below, now.below),
        *_selections(before, now, find),
    ]
    if before.epoch != now.epoch:
        shown = ["none" if epoch is None else str(epoch) for epoch in (before.epoch, now.epoch)]
        found.append(Reason("epoch", f"SOURCE_DATE_EPOCH: {shown[0]} → {shown[1]}"))
    return found


def _commands(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Reason]:
    old, new = before.get("args"), now.get("args")
    if before.get("op") != now.get("op"):
        yield Reason("command", f"another instruction: {before.get('op')} → {now.get('op')}")
    elif old is not None and new is not None and list(old) != list(new):
        shell = len(old) == len(new) and old[:-1] == new[:-1]  # /bin/sh -c, told by its last word
        texts = (old[-1], new[-1]) if shell and old else (" ".join(old), " ".join(new))
        yield Reason("command", f"command: {_change(*texts)}")


def _flags(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Reason]:
    if before.get("op") != now.get("op"):
        return
    newer = False
    for name in sorted({*before, *now} - _WITHOUT):
        old, new = before.get(name), now.get(name)
        if not (old or new) and (name not in before or name not in now):
            newer = True
        elif old != new:
            title = _TITLES.get(name, f"--{name.replace('_', '-')}")
            yield Reason("flag", f"{title}: {_change(_plain(old), _plain(new))}")
    if newer:
        yield Reason("version", "another version of pybuild, which knows other options of such a step")


def _variables(before: Mapping[str, Any], now: Mapping[str, Any], declared: Mapping[str, str]) -> Iterator[Reason]:
    old, new = dict(before.get("env") or ()), dict(now.get("env") or ())
    for name in dict.fromkeys((*new, *old)):
        if old.get(name) == new.get(name):
            continue
        word = declared.get(name, "ENV")
        if name not in old:
            yield Reason(word.lower(), f"{word} {name} added")
        elif name not in new:
            yield Reason(word.lower(), f"{word} {name} removed")
        elif any(part in name.lower() for part in _SECRET):
            yield Reason(word.lower(), f"{word} {name} changed (its values look like secrets and are not shown)")
        else:
            yield Reason(word.lower(), f"{word} {name}: {_change(old[name], new[name])}")


def _below(before: Input, now: Input) -> Iterator[Reason]:
    if before.name == now.name:
        return
    if now.kind == "step":
        yield Reason("parent", f"{now.title} gave other files")
    elif before.kind == "image" and now.kind == "image" and before.title == now.title:
        yield Reason("base", f"base image {now.title}: {_short(before.digest)} → {_short(now.digest)}")
    else:
        yield Reason("base", f"base: {_named(before)} → {_named(now)}")


def _selections(before: Parts, now: Parts, find: FindFiles) -> Iterator[Reason]:
    for at, new in enumerate(now.selections):
        old = before.selections[at] if at < len(before.selections) else None
        if old is None:
            yield Reason("source", f"files of {new.title} added")
        elif old.digest != new.digest:
            files = find(old.digest), find(new.digest)
            yield from _files(new.title, *files)
    for old in before.selections[len(now.selections) :]:
        yield Reason("source", f"files of {old.title} no longer taken")


def _files(title: str, old: FileMap | None, new: FileMap | None) -> Iterator[Reason]:
    if old is None or new is None:
        yield Reason("source", f"the content of {title} changed")
        return
    found = differences(old, new)
    for path, how in found[:_FILES]:
        yield Reason("file", f"{printable(path) or '.'} in {title}: {how}")
    if len(found) > _FILES:
        yield Reason("source", f"{len(found) - _FILES} more files of {title}")
    if not found:
        yield Reason("source", f"files of {title} were taken in another order or under other names")


def _named(found: Input) -> str:
    return f"{found.title} ({_short(found.digest)})" if found.digest else found.title


def _short(digest: str) -> str:
    return digest[:19] if digest else "none"


def _plain(value: object) -> str:
    """A value of a definition as it may have been written."""
    if not value and not isinstance(value, bool | int):
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        told = {key: item for key, item in value.items() if item}
        if list(told) == ["path"] or set(told) == {"path", "input"}:
            return str(told["path"])
        return ",".join(f"{key}={_plain(item)}" for key, item in told.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(_plain, value))
    return str(value)


def _change(before: str, now: str) -> str:
    """Both values around the place where they begin to differ."""
    same = next((at for at, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    start = max(same - _BEFORE, 0) if max(len(before), len(now)) > _SHOWN else 0
    return f"{_part(before, start)} → {_part(now, start)}"


def _part(text: str, start: int) -> str:
    part = text[start : start + _SHOWN]
    shown = f"{'…' if start else ''}{part}{'…' if start + _SHOWN < len(text) else ''}"
    return f'"{shown}"'.replace("\n", "\\n")
