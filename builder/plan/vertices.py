"""The build graph as data: what each step does and what it stands on. Nothing here runs anything.

A vertex is an operation and its inputs; equal digests mean equal work, done once and shared by all who need it. What
people read (a step's name, its place in the Dockerfile) is carried along but never enters a digest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from builder.dockerfile.instructions import Position
from builder.plan.gitaddress import GitAddress
from registry.model import Descriptor, Digest


def canonical(value: object) -> bytes:
    """One spelling for one value. JSON frames its strings and lists, so no two values share a spelling."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class Op(Protocol):
    """What one vertex does."""

    def definition(self) -> Mapping[str, Any]:
        """All that can change the output, besides the inputs; and nothing else (reference §1.10)."""
        ...


@dataclass(frozen=True, slots=True)
class ScratchOp:
    """The empty file system under FROM scratch."""

    def definition(self) -> Mapping[str, Any]:
        return {"op": "scratch"}


@dataclass(frozen=True, slots=True)
class ImageOp:
    """The file system of an image that is in the store: its layers, base first. A tag never enters the digest."""

    name: str
    digest: Digest
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    created: str | None = None  # RFC 3339
    platform: str = ""
    named: Digest | None = None  # what the name stands for, if that is an index

    def definition(self) -> Mapping[str, Any]:
        return {"op": "image", "digest": str(self.digest)}


@dataclass(frozen=True, slots=True)
class ContextOp:
    """Files of the machine that builds: the build context (no name), or one given by --build-context."""

    name: str = ""

    def definition(self) -> Mapping[str, Any]:
        return {"op": "context", "name": self.name}


@dataclass(frozen=True, slots=True)
class HttpOp:
    """A file from a web server, under the name that its URL ends in."""

    url: str
    filename: str
    checksum: Digest | None = None

    def definition(self) -> Mapping[str, Any]:
        return {"op": "http", "url": self.url, "checksum": str(self.checksum or "")}


@dataclass(frozen=True, slots=True)
class GitOp:
    """The files of a repository at a commit."""

    address: GitAddress
    keep_git_dir: bool = False

    def definition(self) -> Mapping[str, Any]:
        address = self.address
        return {
            "op": "git", "remote": address.remote, "ref": address.ref, "subdir": address.subdir,
            "checksum": address.checksum, "submodules": address.submodules, "keep_git_dir": self.keep_git_dir,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc that is a file: `COPY <<name dst`."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class SourcePath:
    """A path or pattern within the vertex's input number `input` (0 is what the copy stands on)."""

    input: int
    path: str


@dataclass(frozen=True, slots=True)
class CopyOp:
    """COPY and ADD. Inputs: the file system below, then each source once."""

    sources: tuple[SourcePath | InlineFile, ...]
    destination: str  # absolute; a "/" at the end means a directory
    chown: str = ""
    chmod: str = ""
    excludes: tuple[str, ...] = ()
    unpack: bool = False  # of local archives
    unpack_remote: bool = False
    keep_owner: bool = False  # from a stage or image; files of a context belong to root
    parents: bool = False
    link: bool = False  # a layer that knows nothing of the file system below

    def definition(self) -> Mapping[str, Any]:
        """Where a source lies is left out: its selected content is in the slow key, its vertex in the fast one."""
        return {
            "op": "copy",
            "sources": [
                {"inline": source.name, "content": source.content}
                if isinstance(source, InlineFile)
                else {"input": source.input, "path": source.path}
                for source in self.sources
            ],
            **self.manner(),
        }

    def manner(self) -> Mapping[str, Any]:
        """The part of the definition that is left when sources are told by their content."""
        return {
            "destination": self.destination, "chown": self.chown, "chmod": self.chmod, "excludes": self.excludes,
            "unpack": self.unpack, "unpack_remote": self.unpack_remote, "keep_owner": self.keep_owner,
            "parents": self.parents, "link": self.link,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunMount:
    """One `RUN --mount`, all words expanded. `input` is the vertex's input that a bind or a cache seed comes from."""

    type: str
    target: str  # absolute; empty for a secret that goes into the environment only
    input: int | None = None
    source: str = ""
    id: str = ""
    sharing: str = "shared"
    read_only: bool = True
    required: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes; 0: no limit
    env: str = ""

    def definition(self) -> Mapping[str, Any]:
        """The layout only: no secret's value, no cache's content, id or manner of sharing."""
        return {
            "type": self.type, "target": self.target, "input": self.input, "source": self.source,
            "read_only": self.read_only, "mode": self.mode, "uid": self.uid, "gid": self.gid, "size": self.size,
            "env": self.env, "id": self.id if self.type in {"secret", "ssh"} else "",
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunOp:
    """RUN. Inputs: the root file system, then what its mounts come from."""

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    network: str = "default"
    security: str = "sandbox"
    hostname: str = "buildkitsandbox"
    mounts: tuple[RunMount, ...] = ()
    scripts: tuple[InlineFile, ...] = ()  # heredocs with a #! line, run from /dev/pipes
    proxies: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()  # asked for, but not given
    hosts: tuple[tuple[str, str], ...] = ()  # name, address
    platform: str = ""
    shown: str = ""  # the command as the user wrote it, for error messages

    def definition(self) -> Mapping[str, Any]:
        """Proxies and the addresses of extra hosts say where things are fetched from, not what the result is."""
        return {
            "op": "run", "args": self.args, "env": self.env, "cwd": self.cwd, "user": self.user,
            "network": self.network, "security": self.security, "hostname": self.hostname,
            "mounts": [mount.definition() for mount in self.mounts],
            "scripts": [[script.name, script.content] for script in self.scripts],
            "hosts": sorted(name for name, _ in self.hosts), "platform": self.platform,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class MkdirOp:
    """WORKDIR: a directory with all that is missing above it, made as `user`."""

    path: str
    user: str = ""

    def definition(self) -> Mapping[str, Any]:
        return {"op": "mkdir", "path": self.path, "user": self.user}


AnyOp = ScratchOp | ImageOp | ContextOp | HttpOp | GitOp | CopyOp | RunOp | MkdirOp


@dataclass(frozen=True, eq=False)
class Vertex:
    """One operation on its inputs. `name` and `at` are for people."""

    op: AnyOp
    inputs: tuple["Vertex", ...] = ()
    name: str = ""
    at: Position | None = None
    no_cache: bool = False

    def __post_init__(self) -> None:
        _ = self.digest  # from the bottom up: a long Dockerfile is deeper than Python's recursion limit

    @cached_property
    def digest(self) -> Digest:
        return Digest.of(
            canonical(
                {
                    "op": self.op.definition(),
                    "inputs": [str(vertex.digest) for vertex in self.inputs],
                    "no_cache": self.no_cache,
                }
            )
        )

    @property
    def begins_early(self) -> bool:
        """Whether there is something to do before there is a file system to stand on: look at sources, make a layer."""
        if isinstance(self.op, CopyOp):
            return self.op.link or len(self.inputs) > 1
        return isinstance(self.op, RunOp) and len(self.inputs) > 1


def in_order(roots: Sequence[Vertex]) -> Iterator[Vertex]:
    """Each vertex that `roots` need, once, inputs before those who use them, in the order of the Dockerfile."""
    seen: set[Digest] = set()
    # An explicit stack, for the same reason as in Vertex.
    stack: list[tuple[Vertex, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        vertex, inputs_done = stack.pop()
        if inputs_done:
            yield vertex
        elif vertex.digest not in seen:
            seen.add(vertex.digest)
            stack.append((vertex, True))
            stack.extend((below, False) for below in reversed(vertex.inputs))
