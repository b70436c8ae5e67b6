"""BuildKit's cache records: which of them stand for an operation, and what damaged ones do."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from builder.cache.chains import ChainLayer, Chains, Config, Contents, Outcome, Writer, merged, output_key, parse, spell
from builder.cache.llb import Dependency, Operation, Wanted, go_json
from registry.model import Descriptor, Digest

BASE = Operation(("sha256:base",))
CONTEXT = Operation()
TAKEN = (Wanted("/f"),)
COPY = Operation(("sha256:copy",), (Dependency(BASE), Dependency(CONTEXT, selector="sha256:f", wanted=TAKEN)))
RUN = Operation(("sha256:run",), (Dependency(COPY, selector="sha256:root"),))


def layer(name: str) -> ChainLayer:
    digest = Digest.of(name.encode())
    return ChainLayer(Descriptor("layer", digest, 1), digest, "2026-01-01T00:00:00Z")


def blobs(*names: str) -> tuple[str, ...]:
    return tuple(str(Digest.of(name.encode())) for name in names)


def content(answer: str | None) -> Contents:
    return lambda dependency: answer


def written(content_of_f: str | None = "sha256:one") -> Config:
    writer = Writer(content(content_of_f))
    writer.add(COPY, [layer("base"), layer("copy")])
    writer.add(RUN, [layer("base"), layer("copy"), layer("run")])
    return parse(spell(writer.config()))


def found(config: Config, operation: Operation, content_of_f: str | None = "sha256:one") -> Sequence[Outcome]:
    return list(Chains(config).outcomes(operation, content(content_of_f)))


def test_what_was_written_is_found() -> None:
    (outcome,) = found(written(), RUN)
    assert outcome == Outcome(blobs("base", "copy", "run"), "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("content_of_f", ["sha256:other", None])
def test_other_content_is_not_found_nor_what_stands_on_it(content_of_f: str | None) -> None:
    assert found(written(), COPY, content_of_f) == []
    assert found(written(), RUN, content_of_f) == []


def test_the_same_command_with_another_selector_or_base_is_not_found() -> None:
    assert found(written(), Operation(RUN.digests, (Dependency(COPY, selector="sha256:part"),))) == []
    assert found(written(), Operation(RUN.digests, (Dependency(BASE, selector="sha256:root"),))) == []
    assert found(written(), Operation(RUN.digests)) == []


def test_what_can_only_be_told_by_content_that_nobody_knows_is_not_written() -> None:
    assert not any(record.layers for record in written(None).records)


def test_two_caches_become_one() -> None:
    other = Writer(content("sha256:two"))
    other.add(COPY, [layer("base"), layer("another copy")])
    both = merged([written(), parse(spell(other.config()))])
    assert [outcome.blobs for outcome in found(both, COPY, "sha256:two")] == [blobs("base", "another copy")]
    assert [outcome.blobs for outcome in found(both, RUN)] == [blobs("base", "copy", "run")]


def test_a_parent_that_is_left_out_is_the_first_layer() -> None:
    """As Go writes a zero."""
    config = parse(
        {"layers": [{"blob": "b0", "parent": -1}, {"blob": "b1"}], "records": [record("sha256:run", layers=[1])]}
    )
    assert [outcome.blobs for outcome in found(config, Operation(("sha256:run",)))] == [("b0", "b1")]


def record(digest: str, layers: Sequence[int] = (), links: Sequence[int] = ()) -> dict[str, Any]:
    told: dict[str, Any] = {"digest": output_key(digest), "layers": [{"layer": number} for number in layers]}
    return told | ({"inputs": [[{"link": number} for number in links]]} if links else {})


@pytest.mark.parametrize(
    "layers", [[{"blob": "a", "parent": 0}], [{"blob": "a", "parent": 1}, {"blob": "b", "parent": 0}], []]
)
def test_layers_that_go_in_circles_or_nowhere_are_no_result(layers: list[dict[str, Any]]) -> None:
    config = parse({"layers": layers, "records": [record("sha256:run", layers=[0])]})
    assert found(config, Operation(("sha256:run",))) == []


def test_records_that_stand_on_themselves_match_nothing() -> None:
    config = parse({"layers": [{"blob": "a", "parent": -1}], "records": [record("sha256:run", [0], links=[0])]})
    assert found(config, RUN) == []


@pytest.mark.parametrize("link", [7, -1])
def test_a_link_to_no_record_is_an_error(link: int) -> None:
    with pytest.raises(ValueError, match="not there"):
        Chains(parse({"records": [record("sha256:run", links=[link])]}))


@pytest.mark.parametrize("text", ["{", "[]", '{"records": [{"digest": 5}]}', '{"layers": 1}', "[" * 100_000])
def test_what_is_no_cache_config_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text.encode())


def test_json_is_spelled_as_go_does() -> None:
    assert go_json({"a": "<é&>\u2028\n\x01"}) == '{"a":"\\u003cé\\u0026\\u003e\\u2028\\n\\u0001"}'
    assert json.loads(go_json(["\x08", "\udcff"])) == ["\x08", "\ufffd"]
