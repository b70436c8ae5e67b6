"""Cache keys: all that can change the output, and nothing else (reference §1.10)."""

from dataclasses import replace

import pytest

from builder.plan.vertices import CopyOp, InlineFile, RunMount, RunOp, SourcePath
from builder.solver.keys import fast_key, slow_key
from builder.solver.results import MadeLayer, Tree
from registry.model import Descriptor, Digest

RUN = RunOp(("/bin/sh", "-c", "make"), (("PATH", "/bin"),), "/src", "root", mounts=(RunMount("cache", "/c", id="c"),))
COPY = CopyOp((SourcePath(1, "a"),), "/dst/")
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def key(op: RunOp | CopyOp, parent: str | None = "p") -> Digest | None:
    return fast_key(op, parent, [], None)


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, args=("/bin/sh", "-c", "make all")),
        replace(RUN, env=(("PATH", "/bin"), ("A", "1"))),
        replace(RUN, cwd="/"),
        replace(RUN, user=""),
        replace(RUN, network="none"),
        replace(RUN, security="insecure"),
        replace(RUN, hostname="other"),
        replace(RUN, mounts=()),
        replace(RUN, hosts=(("db", "10.0.0.1"),)),
    ],
)
def test_what_can_change_the_output_of_run_changes_its_key(other: RunOp) -> None:
    assert key(other) != key(RUN)


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, proxies=(("http_proxy", "http://proxy:1"),)),
        replace(RUN, mounts=(RunMount("cache", "/c", id="another", sharing="locked"),)),
        replace(RUN, shown="make it"),
    ],
)
def test_what_cannot_does_not(other: RunOp) -> None:
    assert key(other) == key(RUN)


def test_the_address_of_an_extra_host_is_not_in_the_key() -> None:
    one, other = (replace(RUN, hosts=(("db", address),)) for address in ("10.0.0.1", "10.0.0.2"))
    assert key(one) == key(other)


def test_words_do_not_run_together() -> None:
    assert key(replace(RUN, args=("a", "b c"))) != key(replace(RUN, args=("a b", "c")))
    assert key(replace(RUN, args=("a",), cwd="b")) != key(replace(RUN, args=("ab",), cwd=""))


def test_a_source_without_a_name_has_no_fast_key() -> None:
    assert fast_key(COPY, "p", [None], None) is None
    assert fast_key(COPY, "p", ["stage"], None) is not None


def test_equal_content_from_elsewhere_has_the_same_slow_key() -> None:
    elsewhere = replace(COPY, sources=(SourcePath(2, "other/path"),))
    assert slow_key(COPY, "p", [ONE], None) == slow_key(elsewhere, "p", [ONE], None)
    assert slow_key(COPY, "p", [ONE], None) != slow_key(COPY, "p", [TWO], None)


@pytest.mark.parametrize(
    "other",
    [
        replace(COPY, destination="/dst"),
        replace(COPY, chown="1"),
        replace(COPY, chmod="755"),
        replace(COPY, excludes=("*.o",)),
        replace(COPY, unpack=True),
        replace(COPY, sources=(*COPY.sources, InlineFile("f", "body"))),
    ],
)
def test_how_it_is_copied_is_in_the_slow_key(other: CopyOp) -> None:
    assert slow_key(other, "p", [ONE], None) != slow_key(COPY, "p", [ONE], None)


def test_the_parent_is_told_by_its_output() -> None:
    layer = MadeLayer(Descriptor("t", ONE, 1), TWO, 5, "2026-01-01T00:00:00Z")
    again = MadeLayer(Descriptor("t", Digest.of(b"other compression"), 2), TWO, 9, "2027-01-01T00:00:00Z")
    assert Tree().on_top(layer).chain == Tree().on_top(again).chain
    assert key(RUN, "p") != key(RUN, None)


def test_an_epoch_that_the_user_gave_is_in_the_key() -> None:
    assert fast_key(RUN, "p", [], 0) != fast_key(RUN, "p", [], None)


def test_a_record_survives_the_way_through_the_cache() -> None:
    layer = MadeLayer(Descriptor("t", ONE, 1), TWO, 5, "2026-01-01T00:00:00Z")
    assert MadeLayer.parse(layer.to_bytes()) == layer


@pytest.mark.parametrize("record", [b"", b"{}", b"[1]", b'{"digest": 3}', b"\xff"])
def test_a_record_that_cannot_be_read_is_no_record(record: bytes) -> None:
    assert MadeLayer.parse(record) is None
