"""What BuildKit calls the steps of a build: its cache keys, made from our own vertices. Pure.

A key of BuildKit's is the digest of an operation, spelled as its Go program spells JSON (solver/llbsolver/ops,
CacheMap), tied to the keys of the inputs (chains.py). The spelling here is that of BuildKit 0.34; where ours and
BuildKit's operations differ, a step has no such key, and never hits nor is hit.

Gives:    Namer.operation(): a vertex as BuildKit's operation, with all that it stands on.
Not here: the digests of files (contenthash.py), caches (chains.py, remote.py).
"""

import base64
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any

from builder.dockerfile.match import has_wildcard
from builder.ops.sources import split_pivot
from builder.plan.vertices import (
    ContextOp,
    CopyOp,
    GitOp,
    HttpOp,
    ImageOp,
    InlineFile,
    MkdirOp,
    RunMount,
    RunOp,
    ScratchOp,
    SourcePath,
    Vertex,
)
from registry.errors import RegistryError
from registry.model import Digest, Platform

_NANOSECONDS = 1_000_000_000
_NOW = -1  # a timestamp: that of the copied file, or of the moment
_MOUNTS = {"bind": 0, "secret": 1, "ssh": 2, "cache": 3, "tmpfs": 4}  # solver/pb/ops.proto, MountType
_NETWORKS = {"default": 0, "host": 1, "none": 2}
_SECURITY = {"sandbox": 0, "insecure": 1}
_EMPTY, _SKIP = -1, -1  # an input that is scratch; an output that nobody gets
_HOSTNAME = "buildkitsandbox"  # what a step is called that was given no name


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part of an input that a step takes."""

    path: str  # absolute; a pattern if `wildcard`
    follow: bool = True  # a link at its end
    wildcard: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Dependency:
    """One input of an operation; `wanted` tells it by its content, too, if that is all that is taken from it."""

    below: "Operation"
    vertex: Vertex | None = None  # which gives it; none for what BuildKit makes of a heredoc
    selector: str = ""
    wanted: tuple[Wanted, ...] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """`digests` name it, the first one best; without one it is only told by what is taken from it."""

    digests: tuple[str, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    older: "Operation | None" = None  # as earlier versions have it


class Namer:
    """Operations of one build's vertices. `epoch` is SOURCE_DATE_EPOCH in seconds."""

    def __init__(self, epoch: int | None = None) -> None:
        self.downloads: dict[Digest, str] = {}  # keys of what was fetched (web_key()), by vertex
        self._timestamp = _NOW if epoch is None else epoch * _NANOSECONDS
        self._known: dict[Digest, Operation | None] = {}

    def operation(self, vertex: Vertex) -> Operation | None:
        """None: BuildKit has nothing like it."""
        stack = [vertex]  # a long Dockerfile is deeper than Python's recursion limit
        while stack:
            missing = [below for below in stack[-1].inputs if below.digest not in self._known]
            if missing:
                stack += missing
            else:
                done = stack.pop()
                self._known.setdefault(done.digest, self._made(done))
        return self._known[vertex.digest]

    def _made(self, vertex: Vertex) -> Operation | None:
        try:
            return self._named(vertex)
        except RegistryError:  # a base image without a platform: BuildKit would guess one
            return None

    def _named(self, vertex: Vertex) -> Operation | None:
        match vertex.op:
            case ImageOp() as op:
                return _image(op)
            case HttpOp():
                key = self.downloads.get(vertex.digest)
                return Operation((key,) if key else ())
            case ContextOp() | GitOp():
                return Operation()
            case MkdirOp() as op:
                return self._mkdir(op, vertex)
            case CopyOp() as op:
                return self._copy(op, vertex)
            case RunOp() as op:
                return self._run(op, vertex)
            case _:
                return None

    def _input(self, vertex: Vertex) -> Operation | None:
        return self._known[vertex.digest]

    def _mkdir(self, op: MkdirOp, vertex: Vertex) -> Operation | None:
        action = {
            "path": op.path, "mode": 0o755, "makeParents": True, "owner": _owner(op.user, 0),
            "timestamp": self._timestamp,
        }  # fmt: skip
        below = vertex.inputs[0]
        if isinstance(below.op, ScratchOp):
            return self._file([action], [(_EMPTY, _EMPTY)], [])
        return self._file([action], [(0, _EMPTY)], [(below, None)])

    def _copy(self, op: CopyOp, vertex: Vertex) -> Operation | None:
        below = vertex.inputs[0]
        bottom = isinstance(below.op, ScratchOp)
        under = self._input(below)
        if under is None and not bottom:
            return None
        linked = op.link and not op.chmod and not bottom
        bare = linked or bottom
        inputs: list[tuple[Vertex | Operation, list[Wanted] | None]] = [] if bare else [(below, None)]
        actions: list[dict[str, Any]] = []
        for source in op.sources:
            if isinstance(source, SourcePath) and (
                "\\" in source.path or isinstance(vertex.inputs[source.input].op, ScratchOp)
            ):
                return None
            number, action = self._action(op, source, vertex, inputs)
            actions.append(action | {"dest": op.destination, "owner": _owner(op.chown, _EMPTY if bare else 0)})
            actions[-1]["from"] = number
        places = [(_EMPTY if bare else 0, action.pop("from")) for action in actions]
        file = self._file([_in_order(action) for action in actions], places, inputs)
        if not linked or file is None or under is None:
            return file
        merge = {"Type": "buildkit.merge.v0", "Merge": {"inputs": [{}, {"input": 1}]}}
        return Operation((_digest(merge),), (Dependency(under, below), Dependency(file)))

    def _action(
        self,
        op: CopyOp,
        source: SourcePath | InlineFile,
        vertex: Vertex,
        inputs: list[tuple[Vertex | Operation, list[Wanted] | None]],
    ) -> tuple[int, dict[str, Any]]:
        """What copies one source, and the number of the input that it comes from."""
        action: dict[str, Any] = {**_mode(op.chmod), "createDestPath": True, "timestamp": _NOW}
        if op.excludes:
            action["exclude_patterns"] = list(op.excludes)
        if isinstance(source, InlineFile):
            path = posixpath.normpath(f"/{source.name}").replace("//", "/")
            inputs.append((self._inline(source, 0o644), [Wanted(path, follow=False, exclude=op.excludes)]))
            return len(inputs) - 1, action | {"src": posixpath.basename(path)}
        origin = vertex.inputs[source.input]
        path, wanted, more = _source(op, source, origin)
        for number, (known, taken) in enumerate(inputs):
            if isinstance(known, Vertex) and known.digest == origin.digest:
                if taken is not None:
                    taken.append(wanted)
                return number, action | more
        inputs.append((origin, [wanted]))
        return len(inputs) - 1, action | more

    def _inline(self, file: InlineFile, mode: int) -> Operation:
        content = base64.b64encode(file.content.encode("utf-8", "surrogateescape")).decode()
        path = posixpath.normpath(f"/{file.name}").replace("//", "/")
        action = {"path": path, "mode": mode, "data": content, "timestamp": _NOW}
        made = self._file([action], [(_EMPTY, _EMPTY)], [])
        assert made is not None, "it stands on nothing"
        return made

    def _file(
        self,
        actions: Sequence[Mapping[str, Any]],
        places: Sequence[tuple[int, int]],
        inputs: Sequence[tuple[Vertex | Operation, list[Wanted] | None]],
    ) -> Operation | None:
        """A file operation of several actions, each on what the one before it gave.

        Args:
            actions: in the order of BuildKit's fields.
            places: for each, the input it works on (counts for the first only) and the one it copies from.
            inputs: what gives them, and what is taken; None for the one that is worked on.
        """
        dependencies: list[Dependency] = []
        for below, taken in inputs:
            found = self._input(below) if isinstance(below, Vertex) else below
            if found is None:
                return None
            origin = below if isinstance(below, Vertex) else None
            if taken is None:
                dependencies.append(Dependency(found, origin))
            else:
                paths = sorted((wanted.path.encode("utf-8", "surrogateescape") for wanted in taken), reverse=True)
                selector = str(Digest.of(b"\0".join(paths)))
                dependencies.append(Dependency(found, origin, selector, _merged(taken)))
        last = len(actions) - 1
        indexes = [
            [base if at == 0 else len(inputs) + at - 1, second, 0 if at == last else _SKIP]
            for at, (base, second) in enumerate(places)
        ]
        spelled = [base64.b64encode(go_json(_filled(action)).encode()).decode() for action in actions]
        told: dict[str, Any] = {"Type": "buildkit.file.v0", "Actions": spelled}
        if not _is_usual(indexes):
            told["indexes"] = indexes
        return Operation((_digest(told),), tuple(dependencies))

    # -- RUN

    def _run(self, op: RunOp, vertex: Vertex) -> Operation | None:
        below = vertex.inputs[0]
        if isinstance(below.op, ScratchOp) or op.network not in _NETWORKS or op.devices:
            return None
        inputs = _Inputs(self)
        if inputs.number(below, "/", content=False) is None:
            return None
        mounts = self._mounts(op, vertex, inputs)
        if mounts is None:
            return None
        told = _command(op, mounts)
        dependencies = inputs.dependencies()
        if mounts:
            return Operation((_digest(told),), dependencies)
        # BuildKit 0.8 said nothing of the stubs that mounts leave, nor that a root is used as a whole.
        del (older := {**told["Exec"]["meta"]})["removeMountStubsRecursive"]
        digest = _digest({**told, "Exec": {**told["Exec"], "meta": older}})
        plain = tuple(replace(each, selector="") for each in dependencies)
        return Operation((_digest(told),), dependencies, Operation((digest,), plain))

    def _mounts(self, op: RunOp, vertex: Vertex, inputs: "_Inputs") -> list[dict[str, Any]] | None:
        """All mounts as JSON, but for a lone root; None if BuildKit has none like one of them."""
        files = sorted((mount for mount in op.mounts if mount.type not in {"secret", "ssh"}), key=_target)
        told = [self._mount(mount, vertex, inputs) for mount in files]
        if op.scripts:
            (script,) = op.scripts
            number = inputs.number(self._inline(script, 0o755), "/", content=True)
            told.append({"input": number, "dest": "/dev/pipes/", "output": _SKIP, "readonly": True})
            if len(told) > 1:
                return None  # the order of inputs would be another one
        given = [
            _given(mount) for kind in ("secret", "ssh") for mount in op.mounts if mount.type == kind and mount.target
        ]
        if any(mount is None for mount in told):
            return None
        found = [_filled(mount) for mount in (*told, *given) if mount is not None]
        return [{"dest": "/"}, *found] if found else []

    def _mount(self, mount: RunMount, vertex: Vertex, inputs: "_Inputs") -> dict[str, Any] | None:
        """A mount of files, as JSON; None if BuildKit has none like it."""
        origin = vertex.inputs[mount.input] if mount.input is not None else None
        told: dict[str, Any] = {"input": _EMPTY, "dest": mount.target, "output": _SKIP, "readonly": mount.read_only}
        told["mountType"] = _MOUNTS[mount.type]
        if mount.type == "tmpfs":
            told["TmpfsOpt"] = _filled({"size": mount.size})
            return told
        source: Vertex | Operation | None = origin
        path = posixpath.normpath(posixpath.join("/", mount.source)).replace("//", "/")
        if mount.type == "cache":
            identity = f"/{mount.id}" if mount.id == mount.target else mount.id  # behind a name space, maybe empty
            usual = identity.partition("/")[2] == mount.target and mount.sharing == "shared"
            told["cacheOpt"] = {"ID": identity} if usual else {}
            if (mount.mode, mount.uid, mount.gid) != (0o755, 0, 0) and path == "/":
                if origin is not None:
                    return None
                source, path = self._cache_directory(mount), "/cache"
        if source is None or (isinstance(source, Vertex) and isinstance(source.op, ScratchOp)):
            return told
        number = inputs.number(source, path, content=True)
        return None if number is None else told | {"input": number}

    def _cache_directory(self, mount: RunMount) -> Operation:
        owner = {"user": {"User": _filled({"byId": mount.uid})}, "group": {"User": _filled({"byId": mount.gid})}}
        action = {"path": "/cache", "mode": (mount.mode or 0) & 0o777, "owner": owner, "timestamp": _NOW}
        made = self._file([action], [(_EMPTY, _EMPTY)], [])
        assert made is not None, "it stands on nothing"
        return made


class _Inputs:
    """Those of a RUN, each once, and the paths that are mounted of it."""

    def __init__(self, namer: Namer) -> None:
        self._namer = namer
        self._found: list[tuple[Operation, Vertex | None]] = []
        self._paths: list[list[str]] = []
        self._content: list[bool] = []

    def number(self, below: Vertex | Operation, path: str, *, content: bool) -> int | None:
        """`content`: what is mounted is told by its content; as BuildKit has it, the last mount of an input decides."""
        found = self._namer.operation(below) if isinstance(below, Vertex) else below
        if found is None:
            return None
        at = next((at for at, (known, _) in enumerate(self._found) if known is found), len(self._found))
        if at == len(self._found):
            self._found.append((found, below if isinstance(below, Vertex) else None))
            self._paths.append([])
            self._content.append(content)
        self._paths[at].append(path)
        self._content[at] = content
        return at

    def dependencies(self) -> tuple[Dependency, ...]:
        return tuple(
            Dependency(
                found,
                vertex,
                str(Digest.of(b"\0".join(path.encode("utf-8", "surrogateescape") for path in paths))),
                (() if "/" in paths else tuple(Wanted(path) for path in _outermost(paths))) if content else None,
            )
            for (found, vertex), paths, content in zip(self._found, self._paths, self._content, strict=True)
        )


def _command(op: RunOp, mounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """RUN as JSON, fields in BuildKit's order."""
    env = dict(op.env)
    agent = next((mount.target for mount in op.mounts if mount.type == "ssh"), None)
    if agent is not None:
        env.setdefault("SSH_AUTH_SOCK", agent)
    secrets = [mount for mount in op.mounts if mount.type == "secret" and mount.env]
    meta = {
        "args": list(op.args), "env": [f"{name}={value}" for name, value in env.items()], "cwd": op.cwd,
        "user": op.user, "extraHosts": [{"Host": name} for name, _ in op.hosts],
        "hostname": "" if op.hostname == _HOSTNAME else op.hostname, "removeMountStubsRecursive": True,
    }  # fmt: skip
    command = {
        "meta": _filled(meta), "mounts": list(mounts), "network": _NETWORKS[op.network],
        "security": _SECURITY[op.security],
        "secretenv": [
            _filled({"ID": mount.id, "name": mount.env, "optional": not mount.required}) for mount in secrets
        ],
    }  # fmt: skip
    platform = Platform.parse(op.platform).normal
    told = {"Type": "buildkit.exec.v0", "Exec": _filled(command), "OS": platform.os, "Arch": platform.architecture}
    return told | ({"Variant": platform.variant} if platform.variant else {})


def _target(mount: RunMount) -> bytes:
    return mount.target.encode("utf-8", "surrogateescape")


def _image(op: ImageOp) -> Operation:
    """By its manifest; older BuildKits know it by its layers, too."""
    platform = Platform.parse(op.platform).normal if op.platform else None
    if platform is None:
        return Operation()
    told = {"Digest": str(op.named or op.digest), "OS": platform.os, "Arch": platform.architecture}
    if platform.variant:
        told["Variant"] = platform.variant
    from registry.model.digest import chain_ids

    keys = [_digest(told), *(str(chain) for chain in chain_ids(op.diff_ids)[-1:])]
    return Operation(tuple(str(Digest.of(f"buildkit.source.v0:{key}".encode())) for key in keys))


def web_key(filename: str, content: Digest, modified: int) -> str:
    """Of a file from a web server; `modified` is in seconds since 1970, 0 if the server does not say."""
    told: dict[str, Any] = {"Filename": filename, "Perm": 0, "UID": 0, "GID": 0, "Checksum": str(content)}
    if modified:
        told["LastModTime"] = formatdate(modified, usegmt=True)
    return str(Digest.of(f"buildkit.source.v0:{_digest(told)}".encode()))


def _source(op: CopyOp, source: SourcePath, origin: Vertex) -> tuple[str, Wanted, dict[str, Any]]:
    """The path that is taken, how it is told by its content, and the fields of the copy."""
    if isinstance(origin.op, HttpOp | GitOp):
        path = posixpath.normpath(f"/{source.path}").replace("//", "/")
        more: dict[str, Any] = {"src": posixpath.basename(path) or "/"}
        if isinstance(origin.op, HttpOp):
            more["attemptUnpackDockerCompatibility"] = op.unpack_remote
        return path, Wanted(path, follow=False, exclude=op.excludes), more
    path = source.path
    include: tuple[str, ...] = ()
    required: list[str] = []
    if op.parents:
        base, pattern = split_pivot(source.path)
        include = (pattern,)
        path = base
        if not has_wildcard(base) and not has_wildcard(pattern):
            required = [posixpath.normpath(posixpath.join("/", base, pattern)).replace("//", "/")]
    path = posixpath.normpath(posixpath.join("/", path)).replace("//", "/")
    more = {
        "src": posixpath.basename(path) or "/", "followSymlink": True, "dirCopyContents": True,
        "attemptUnpackDockerCompatibility": op.unpack, "allowWildcard": True, "allowEmptyWildcard": True,
        "include_patterns": list(include), "required_paths": required,
    }  # fmt: skip
    return path, Wanted(path, wildcard=has_wildcard(path), include=include, exclude=op.excludes), more


_COPY_FIELDS = (
    "src", "dest", "owner", "mode", "followSymlink", "dirCopyContents", "attemptUnpackDockerCompatibility",
    "createDestPath", "allowWildcard", "allowEmptyWildcard", "timestamp", "include_patterns", "exclude_patterns",
    "modeStr", "required_paths",
)  # fmt: skip


def _in_order(action: Mapping[str, Any]) -> dict[str, Any]:
    return {name: action[name] for name in _COPY_FIELDS if name in action}


def _mode(chmod: str) -> dict[str, Any]:
    if not chmod:
        return {"mode": -1}
    return {"mode": int(chmod, 8)} if re.fullmatch(r"[0-7]+", chmod) else {"modeStr": chmod}


def _owner(text: str, base: int) -> dict[str, Any] | None:
    """`user[:group]`, by numbers or by names of the input `base`."""
    if not text:
        return None
    user, _, group = text.partition(":")
    found = {"user": _user(user, base)}
    return found | {"group": _user(group, base)} if group else found


def _user(word: str, base: int) -> dict[str, Any]:
    if word == "root":
        return {"User": {}}
    if re.fullmatch(r"[+-]?[0-9]+", word, re.ASCII) and -(1 << 31) <= int(word) < 1 << 31:
        return {"User": _filled({"byId": int(word) % (1 << 32)})}
    if not word:
        return {"User": {}}
    return {"User": {"byName": _filled({"name": word, "input": base})}}


def _given(mount: RunMount) -> dict[str, Any]:
    """A secret's or an agent's mount."""
    about = _filled(
        {"ID": mount.id, "uid": mount.uid, "gid": mount.gid, "mode": mount.mode, "optional": not mount.required}
    )
    told = {"input": _EMPTY, "dest": mount.target, "mountType": _MOUNTS[mount.type]}
    return told | ({"secretOpt": about} if mount.type == "secret" else {"SSHOpt": about})


def _merged(wanted: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """Without paths that lie below others; in the order of their paths."""
    kept: list[Wanted] = []
    for follow in (False, True):
        plain = [each.path for each in wanted if _is_plain(each) and each.follow is follow]
        kept += [Wanted(path, follow=follow) for path in _outermost(plain)]
    kept += [each for each in wanted if not _is_plain(each)]
    return tuple(sorted(kept, key=lambda each: each.path.encode("utf-8", "surrogateescape")))


def _is_plain(wanted: Wanted) -> bool:
    return not (wanted.wildcard or wanted.include or wanted.exclude)


def _outermost(paths: Sequence[str]) -> list[str]:
    if len(paths) < 2:  # a lone one is taken as it is
        return list(paths)
    every = set(paths)
    above = {path: path if path.endswith("/") else f"{path}/" for path in every}
    return sorted(
        (path for path in every if not any(path != other and path.startswith(above[other]) for other in every)),
        key=lambda path: path.encode("utf-8", "surrogateescape"),
    )


def _is_usual(indexes: Sequence[Sequence[int]]) -> bool:
    """The layout of inputs that BuildKit leaves out of its key, as its first versions had no other."""
    count = len(indexes)
    return all(
        base == (0 if at == 0 else count + at - 1) and second in {-1, 1} and output == (0 if at == count - 1 else _SKIP)
        for at, (base, second, output) in enumerate(indexes)
    )


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Go's omitempty: without what is zero, false or empty."""
    return {name: value for name, value in fields.items() if value or isinstance(value, dict)}


def go_json(value: object) -> str:
    """As Go's encoding/json spells it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return re.sub("[\ud800-\udfff]", lambda _: "\\ufffd", text)


def _digest(value: object) -> str:
    return "sha256:" + hashlib.sha256(go_json(value).encode()).hexdigest()
