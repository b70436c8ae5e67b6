"""`RUN --mount`: raw words → what is mounted where. Pure."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

from builder.dockerfile.flags import FlagFault
from builder.dockerfile.instructions import DockerfileError, MountFlag, Position
from builder.dockerfile.mounts import expanded_mount, size_in_bytes
from builder.plan.vertices import RunMount, Vertex


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
    try:
        flag = expanded_mount(flag, words.expand)
    except FlagFault as fault:
        raise DockerfileError(fault.problem, at=words.at, hint=fault.hint) from None
    source, target = flag.source, flag.target
    mode = _octal(flag.mode, words.at)
    uid, gid = int(flag.uid or 0), int(flag.gid or 0)
    if flag.type == "secret":
        identity = flag.id or source or posixpath.basename(target)
        if not identity:
            raise DockerfileError("a secret mount needs an id", at=words.at, hint="write --mount=type=secret,id=NAME")
        variable = "" if flag.env is None else flag.env or identity
        if not target and not variable:
            target = f"/run/secrets/{posixpath.basename(identity)}"
        return RunMount(
            "secret", posixpath.join(words.cwd, target) if target else "", id=identity,
            mode=0o400 if mode is None else mode, uid=uid, gid=gid, required=flag.required, env=variable,
        )  # fmt: skip
    if flag.type == "ssh":
        return RunMount(
            "ssh", posixpath.join(words.cwd, target or f"/run/buildkit/ssh_agent.{ssh_number}"),
            id=flag.id or "default", mode=0o600 if mode is None else mode, uid=uid, gid=gid, required=flag.required,
        )  # fmt: skip
    where = posixpath.normpath(posixpath.join(words.cwd, target))
    if where in {"/", "//"}:
        raise DockerfileError(
            f"a {flag.type} mount needs a target other than /", at=words.at, hint="add target=/some/directory"
        )
    if flag.type == "tmpfs":
        return RunMount("tmpfs", where, read_only=False, size=size_in_bytes(flag.size))
    if flag.type == "cache":
        seed = inputs.number(words.source(flag.from_)) if flag.from_ else None
        identity = flag.id or posixpath.normpath(target)
        if words.cache_namespace:
            identity = f"{words.cache_namespace}/{identity}"
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


def _octal(text: str, at: Position) -> int | None:
    if not text:
        return None
    if int(text, 8) > 0o7777:
        raise DockerfileError(f"not a mode: {text!r}", at=at, hint="write octal digits, like 0755")
    return int(text, 8)
