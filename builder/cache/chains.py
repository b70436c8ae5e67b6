"""BuildKit's cache records (cache/remotecache/v1): keys tied to keys, and the layers that each gave. Pure.

A record has the key of an operation's output, and for each of its inputs the records that this may be: that of the
operation below, with the selector of what is taken of it, or that of the content that was taken. A record matches an
operation if its key does and one record of each input does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from builder.cache.llb import Dependency, Operation
from registry.model import Descriptor, Digest

_CONTENT = -1  # the "output" of what is no operation but content
_DEEPEST = 10_000  # layers of one result
Contents = Callable[[Dependency], str | None]


class Link(Struct, omit_defaults=True):
    link: int
    selector: str = ""


class Result(Struct):
    layer: int
    createdAt: str = ""  # noqa: N815 -- BuildKit's name


class Chained(Struct):
    layers: list[int]
    createdAt: str = ""  # noqa: N815 -- the same


class Record(Struct, omit_defaults=True):
    digest: str
    inputs: list[list[Link]] = []
    layers: list[Result] = []
    chains: list[Chained] = []


class Place(Struct):
    """A layer: its blob, and the number of the one below. None is given for number 0."""

    blob: str
    parent: int = 0


class Config(Struct):
    """application/vnd.buildkit.cacheconfig.v0. `pybuild` is ours: records by our own keys, which BuildKit skips."""

    layers: list[Place] = []
    records: list[Record] = []
    pybuild: list[Annotated[dict[str, Any], Meta(max_length=20)]] = []


class ChainLayer(NamedTuple):
    descriptor: Descriptor
    diff_id: Digest
    created: str


class Outcome(NamedTuple):
    """What an operation gave: all layers, base first, by their blobs."""

    blobs: tuple[str, ...]
    created: str


def output_key(digest: str, output: int = 0) -> str:
    return str(Digest.of(f"{digest}@{output}".encode()))


# -- reading


class Chains:
    """The records of one cache. Used by one thread at a time."""

    def __init__(self, config: Config) -> None:
        """Raises ValueError: a number in it leads nowhere."""
        self._config = config
        self._by_digest: dict[str, list[int]] = {}
        for number, record in enumerate(config.records):
            self._by_digest.setdefault(record.digest, []).append(number)
            if any(not 0 <= link.link < len(config.records) for links in record.inputs for link in links):
                raise ValueError("a record links to one that is not there")
        self._matched: dict[Operation, frozenset[int]] = {}

    def outcomes(self, operation: Operation, contents: Contents) -> Iterator[Outcome]:
        """What the cache has for an operation, the newest first.

        Args:
            operation: with all that it stands on.
            contents: tells the digest of what is taken of an input, if that can be had.
        """
        numbers = self._matches(operation, contents)
        results = [(each.createdAt, [each.layer], True) for number in numbers for each in self._record(number).layers]
        results += [(each.createdAt, each.layers, False) for number in numbers for each in self._record(number).chains]
        for created, layers, with_parents in sorted(results, reverse=True):
            blobs = self._chain(layers[0]) if with_parents else self._blobs(layers)
            if blobs:
                yield Outcome(blobs, created)

    def _record(self, number: int) -> Record:
        return self._config.records[number]

    def _matches(self, operation: Operation, contents: Contents) -> frozenset[int]:
        stack = [operation]
        while stack:
            older = stack[-1].older
            needed = [each.below for each in stack[-1].dependencies] + ([older] if older is not None else [])
            missing = [each for each in needed if each not in self._matched]
            if missing:
                stack += missing
                continue
            done = stack.pop()
            if done not in self._matched:
                found = [
                    number
                    for digest in done.digests
                    for number in self._by_digest.get(output_key(digest), ())
                    if self._is_it(self._record(number), done, contents)
                ]
                self._matched[done] = frozenset(found) | (self._matched[older] if older is not None else frozenset())
        return self._matched[operation]

    def _is_it(self, record: Record, operation: Operation, contents: Contents) -> bool:
        return len(record.inputs) == len(operation.dependencies) and all(
            self._comes_from(links, dependency, contents)
            for links, dependency in zip(record.inputs, operation.dependencies, strict=True)
        )

    def _comes_from(self, links: Sequence[Link], dependency: Dependency, contents: Contents) -> bool:
        known = self._matched[dependency.below]
        if any(link.link in known and link.selector == dependency.selector for link in links):
            return True
        plain = [self._record(link.link) for link in links if not link.selector]
        leaves = {record.digest for record in plain if not record.inputs}
        if dependency.wanted is None or not leaves:
            return False
        content = contents(dependency)
        return content is not None and output_key(content, _CONTENT) in leaves

    def _blobs(self, layers: Sequence[int]) -> tuple[str, ...]:
        places = self._config.layers
        return tuple(places[at].blob for at in layers) if all(0 <= at < len(places) for at in layers) else ()

    def _chain(self, layer: int) -> tuple[str, ...]:
        found: list[str] = []
        while layer != -1:
            if not 0 <= layer < len(self._config.layers) or len(found) > _DEEPEST:
                return ()
            found.append(self._config.layers[layer].blob)
            layer = self._config.layers[layer].parent
        return tuple(reversed(found))


# -- writing


class Writer:
    """Collects records and layers, each once."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._records: list[Record] = []
        self._numbers: dict[Operation, int | None] = {}
        self._leaves: dict[str, int] = {}
        self._layers: list[Place] = []
        self._places: dict[tuple[str, ...], int] = {}
        self.blobs: dict[Digest, ChainLayer] = {}

    def add(self, operation: Operation, chain: Sequence[ChainLayer]) -> bool:
        """What an operation gave: all layers, base first. False: it has no key, for one of its inputs has none."""
        number = self._number(operation)
        if number is None or not chain:
            return False
        record = self._records[number]
        if not record.layers:
            record.layers.append(Result(self.place(chain), chain[-1].created))
        return True

    def place(self, chain: Sequence[ChainLayer]) -> int:
        """The number of the topmost layer."""
        at = -1
        for height, layer in enumerate(chain, 1):
            key = tuple(str(each.descriptor.digest) for each in chain[:height])
            if key not in self._places:
                self._places[key] = len(self._layers)
                self._layers.append(Place(key[-1], at))
                self.blobs.setdefault(layer.descriptor.digest, layer)
            at = self._places[key]
        return at

    def config(self, own: Sequence[dict[str, Any]] = ()) -> Config:
        return Config(self._layers, self._records, list(own))

    def _number(self, operation: Operation) -> int | None:
        stack = [operation]
        while stack:
            missing = [each.below for each in stack[-1].dependencies if each.below not in self._numbers]
            if missing:
                stack += missing
            else:
                done = stack.pop()
                if done not in self._numbers:
                    self._numbers[done] = self._made(done)
        return self._numbers[operation]

    def _made(self, operation: Operation) -> int | None:
        if not operation.digests:
            return None
        inputs = [list(self._links(dependency)) for dependency in operation.dependencies]
        if not all(inputs):
            return None
        return self._append(Record(output_key(operation.digests[0]), inputs))

    def _links(self, dependency: Dependency) -> Iterator[Link]:
        below = self._numbers[dependency.below]
        if below is not None:
            yield Link(below, dependency.selector)
        if dependency.wanted is not None and (content := self._contents(dependency)) is not None:
            key = output_key(content, _CONTENT)
            if key not in self._leaves:
                self._leaves[key] = self._append(Record(key))
            yield Link(self._leaves[key])

    def _append(self, record: Record) -> int:
        self._records.append(record)
        return len(self._records) - 1


def merged(configs: Sequence[Config]) -> Config:
    """Several caches as one: the numbers of the later ones are moved up."""
    whole = Config()
    for config in configs:
        layers, records = len(whole.layers), len(whole.records)
        for record in config.records:
            for link in (each for links in record.inputs for each in links):
                link.link += records
            for result in record.layers:
                result.layer += layers
            for chain in record.chains:
                chain.layers = [number + layers for number in chain.layers]
        for place in config.layers:
            place.parent += layers if place.parent >= 0 else 0
        whole.layers += config.layers
        whole.records += config.records
        whole.pybuild += config.pybuild
    return whole


def parse(content: bytes | Mapping[str, Any]) -> Config:
    """Raises ValueError: it is no such thing."""
    try:
        if isinstance(content, bytes):
            return msgspec.json.decode(content, type=Config)
        return msgspec.convert(content, Config)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None


def spell(config: Config) -> bytes:
    return msgspec.json.encode(config)
