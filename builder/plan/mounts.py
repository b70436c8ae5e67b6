"""`RUN --mount`: raw words → what is mounted where. Pure."""

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

from builder.dockerfile.instructions import DockerfileError, MountFlag, Position
from builder.plan.vertices import RunMount, Vertex

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class MountWords:
    """What the words of a mount mean here: how to expand one, where WORKDIR is, what `from` names."""

    at: Position
    expand: Callable[[str], str]
    cwd: str
    cache_namespace: str
    source: Callable[[str], Vertex]  # of `from`; the build context when empty


class Inputs:
    """The inputs of a vertex, each once; hands out their numbers."""

    def __init__(self, *first: Vertex) -> None:
        self.vertices = list(first)

    def number(self, vertex: Vertex) -> int:
        for number, known in enumerate(self.vertices):
            if number and known.digest == vertex.digest:
                return number
        self.vertices.append(vertex)
        return len(self.vertices) - 1


def plan_mount(flag: MountFlag, words: MountWords, inputs: Inputs, ssh_number: int) -> RunMount:
    """Raises DockerfileError: what is missing or makes no sense."""
    target = words.expand(flag.target)
    source = words.expand(flag.source)
    identity = words.expand(flag.id)
    variable = words.expand(flag.env)
    mode = _octal(words.expand(flag.mode), words.at)
    uid, gid = (_number(words.expand(text), words.at) for text in (flag.uid, flag.gid))
    if flag.type == "secret":
        identity = identity or source or posixpath.basename(target)
        if not identity:
            raise DockerfileError(
                "a secret mount needs id or target", at=words.at, hint="write --mount=type=secret,id=…"
            )
        if not target and not variable:
            target = f"/run/secrets/{identity}"
        where = posixpath.join(words.cwd, target) if target else ""
        return RunMount(
            "secret", where, id=identity, mode=0o400 if mode is None else mode, uid=uid, gid=gid,
            required=flag.required, env=variable,
        )  # fmt: skip
    if flag.type == "ssh":
        where = posixpath.join(words.cwd, target or f"/run/buildkit/ssh_agent.{ssh_number}")
        return RunMount(
            "ssh", where, id=identity or source or "default", mode=0o600 if mode is None else mode, uid=uid, gid=gid,
            required=flag.required,
        )  # fmt: skip
    where = posixpath.normpath(posixpath.join(words.cwd, target))
    if not target or where in {"/", "//"}:
        raise DockerfileError(
            f"a {flag.type} mount needs a target other than /", at=words.at, hint="add target=/some/directory"
        )
    if flag.type == "tmpfs":
        return RunMount("tmpfs", where, read_only=False, size=size_in_bytes(words.expand(flag.size), words.at))
    if flag.type == "cache":
        seed = inputs.number(words.source(flag.from_)) if flag.from_ else None
        identity = posixpath.join(words.cache_namespace, identity or where)
        return RunMount(
            "cache", where, input=seed, source=source, id=identity, sharing=flag.sharing,
            read_only=bool(flag.read_only), mode=0o755 if mode is None else mode, uid=uid, gid=gid,
        )  # fmt: skip
    return RunMount(
        "bind",
        where,
        input=inputs.number(words.source(flag.from_)),
        source=source,
        read_only=flag.read_only is not False,
    )


def size_in_bytes(text: str, at: Position) -> int:
    """`64m` → bytes; an empty text is no limit (0)."""
    if not text:
        return 0
    found = re.fullmatch(r"([0-9]+)([bkmgt]?)(?:i?b)?", text.lower())
    if found is None:
        raise DockerfileError(f"not a size: {text!r}", at=at, hint="write a number and b, k, m or g, like 64m")
    return int(found[1]) * _UNITS[found[2]]


def _octal(text: str, at: Position) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
        raise DockerfileError(f"not a mode: {text!r}", at=at, hint="write octal digits, like 0755")
    return int(text, 8)


def _number(text: str, at: Position) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise DockerfileError(f"not a numeric id: {text!r}", at=at, hint="uid and gid of a mount are numbers")
    return int(text or 0)
