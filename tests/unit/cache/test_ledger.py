"""What a build's steps hit and missed: found again by the next build, whatever moved meanwhile."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from builder.cache.filemap import FileMap, FileState
from builder.cache.ledger import Ledger, identity
from builder.cache.parts import to_json
from builder.cache.report import Report, StepReport, latest, table, write
from builder.dockerfile.instructions import Position
from builder.plan.vertices import ContextOp, CopyOp, ImageOp, RunOp, SourcePath, Vertex, in_order
from registry.model import Digest
from registry.storage import ContentStore

ME = identity("app:1")
FILE = 0o100644


@pytest.fixture
def store(ram_path: Path) -> Iterator[ContentStore]:
    with ContentStore.open(ram_path / "root") as opened:
        yield opened


def base(content: str = "base") -> Vertex:
    return Vertex(ImageOp("debian:12", Digest.of(content.encode()), (), ()), name="[1/9] FROM debian:12")


def run(command: str, below: Vertex, place: str = "2/9") -> Vertex:
    op = RunOp(("/bin/sh", "-c", command), (), "/", "")
    return Vertex(op, (below,), f"[{place}] RUN {command}", Position("Dockerfile", 7))


def copy(below: Vertex) -> Vertex:
    op = CopyOp((SourcePath(1, "src"),), "/app/")
    return Vertex(op, (below, Vertex(ContextOp())), "[2/9] COPY src /app/", Position("Dockerfile", 3))


class Built:
    """Builds graphs by hand: a step hits if the key of its parts is in the store."""

    def __init__(self, store: ContentStore, name: Digest = ME, files: Mapping[str, FileMap] | None = None) -> None:
        self.store, self.name, self.files = store, name, files or {}

    def build(self, top: Vertex, contents: Sequence[str] = (), *, fail: str = "") -> dict[str, StepReport]:
        graph = list(in_order([top]))
        ledger = Ledger(self.store, [self.name], graph)
        names: dict[Digest, str] = {}
        for number, vertex in enumerate((each for each in graph if not isinstance(each.op, ContextOp)), 1):
            ledger.began(vertex, number)
            if isinstance(vertex.op, ImageOp):
                ledger.hit(vertex)
                names[vertex.digest] = str(vertex.op.digest)
            else:
                taken = [Digest.of(each.encode()) for each in contents] if isinstance(vertex.op, CopyOp) else []
                parts = ledger.parts(vertex, [names.get(each.digest) for each in vertex.inputs], taken, None)
                key = Digest.of(json.dumps([str(parts.definition), parts.below.name, list(map(str, taken))]).encode())
                names[vertex.digest] = str(key)
                if self.store.cache_get(key) is not None and not vertex.no_cache:
                    ledger.hit(vertex, key)
                else:
                    ledger.missed(vertex, parts, self.files.get)
                    if fail and fail in vertex.name:
                        ledger.ended(vertex, 0.0, "failed")
                        break
                    self.store.cache_put(key, json.dumps({"parts": to_json(parts)}).encode())
                    ledger.made(vertex, key)
            ledger.ended(vertex, 0.0)
        ledger.keep()
        return {step.name.partition("] ")[2]: step for step in ledger.steps()}


def why(step: StepReport) -> list[str]:
    return [reason.text for reason in step.reasons]


def test_the_first_build_has_nothing_to_compare_with(store: ContentStore) -> None:
    found = Built(store).build(run("make", base()))
    assert found["FROM debian:12"].outcome == "cached"
    assert found["RUN make"].outcome == "missed"
    assert why(found["RUN make"]) == ["no step like it was built before"]


def test_a_hit_has_no_reasons(store: ContentStore) -> None:
    Built(store).build(run("make", base()))
    found = Built(store).build(run("make", base()))["RUN make"]
    assert (found.outcome, found.reasons, found.line) == ("cached", (), 7)


def test_an_edited_step_is_held_against_what_stood_in_its_place(store: ContentStore) -> None:
    Built(store).build(run("make install", run("make", base()), "3/9"))
    found = Built(store).build(run("make install", run("make -j4", base()), "3/9"))
    assert why(found["RUN make -j4"]) == ['command: "make" → "make -j4"']
    assert why(found["RUN make install"]) == ["#2 [2/9] RUN make -j4 gave other files"]


def test_steps_that_move_are_still_the_same(store: ContentStore) -> None:
    Built(store).build(run("make", base()))
    found = Built(store).build(run("make", run("id", base()), "3/9"))
    assert why(found["RUN id"]) == ["no step like it was built before"]
    assert why(found["RUN make"]) == ["#2 [2/9] RUN id gave other files"]


def test_another_base(store: ContentStore) -> None:
    Built(store).build(run("make", base()))
    (text,) = why(Built(store).build(run("make", base("newer")))["RUN make"])
    assert text.startswith("base image debian:12: sha256:")


def test_the_changed_file_is_named(store: ContentStore) -> None:
    files = {
        str(Digest.of(state.encode())): FileMap({"src/a.c": FileState(len(state), FILE), "src/b.c": FileState(1, FILE)})
        for state in ("old", "newer")
    }
    Built(store, files=files).build(copy(base()), ["old"])
    Built(store, files=files).build(copy(base()), ["old"])
    found = Built(store, files={digest: each for digest, each in files.items() if digest != str(Digest.of(b"old"))})
    assert why(found.build(copy(base()), ["newer"])["COPY src /app/"]) == [
        "src/a.c in the build context: content changed"
    ]


def test_after_a_revert_the_last_build_counts_and_not_the_last_that_missed(store: ContentStore) -> None:
    for command in ("one", "two", "one"):
        Built(store).build(run(command, base()))
    assert why(Built(store).build(run("three", base()))["RUN three"]) == ['command: "one" → "three"']


def test_a_build_of_another_name_finds_the_step_by_its_definition(store: ContentStore) -> None:
    Built(store, identity("a")).build(run("make", base()))
    (text,) = why(Built(store, identity("b")).build(run("make", base("newer")))["RUN make"])
    assert text.startswith("base image debian:12: ")


def test_a_step_whose_layer_went_away(store: ContentStore) -> None:
    Built(store).build(run("make", base()))
    store.cache_clear()
    assert why(Built(store).build(run("make", base()))["RUN make"]) == ["no step like it was built before"]


def test_without_the_cache(store: ContentStore) -> None:
    step = run("make", base())
    again = Vertex(step.op, step.inputs, step.name, step.at, no_cache=True)
    Built(store).build(step)
    assert why(Built(store).build(again)["RUN make"]) == ["--no-cache"]


def test_what_comes_after_a_failure_is_skipped_and_compared_with_the_last_good_build(store: ContentStore) -> None:
    Built(store).build(run("install", run("make", base()), "3/9"))
    found = Built(store).build(run("install", run("make all", base()), "3/9"), fail="make all")
    assert (found["RUN make all"].outcome, found["RUN install"].outcome) == ("failed", "skipped")
    assert why(found["RUN install"]) == ["the build ended before it"]
    found = Built(store).build(run("install", run("make -k", base()), "3/9"))
    assert why(found["RUN make -k"]) == ['command: "make" → "make -k"']


def test_the_same_build_again_writes_nothing(store: ContentStore) -> None:
    Built(store).build(run("make", base()))
    before = store.cache_entries()
    Built(store).build(run("make", base()))
    assert store.cache_entries() == before


def test_a_damaged_record_of_the_last_build_is_no_record(store: ContentStore) -> None:
    store.cache_put(ME, b"{")
    assert why(Built(store).build(run("make", base()))["RUN make"]) == ["no step like it was built before"]


class TestReport:
    REPORT = Report(".", "Dockerfile", "", ("app:1",), 1.5, (
        StepReport(1, "[1/2] FROM debian:12", 1, "cached"),
        StepReport(2, "[2/2] RUN  make", 2, "missed"),
        StepReport(12, "[test 2/2] RUN make test", 3, "missed"),
        StepReport(0, "[lint 1/1] RUN lint", 9, "skipped"),
    ))  # fmt: skip

    @pytest.mark.parametrize(
        ("word", "numbers"),
        [("2", [2]), ("#12", [12]), ("run make", [2, 12]), ("LINT", [0]), ("7", [])],
    )
    def test_steps_are_found_by_number_or_name(self, word: str, numbers: list[int]) -> None:
        assert [step.number for step in self.REPORT.find(word)] == numbers

    def test_the_last_one_is_found_past_what_has_none(self, tmp_path: Path) -> None:
        assert latest(tmp_path) is None
        for name in ("1", "2", "3"):
            (tmp_path / "builds" / name).mkdir(parents=True)
        write(self.REPORT, tmp_path / "builds" / "1")
        (tmp_path / "builds" / "2" / "steps.json").write_text("{")
        assert latest(tmp_path) == self.REPORT

    def test_cached_and_skipped_are_two_words(self) -> None:
        assert table(self.REPORT.steps) == (
            "#1   CACHED   [1/2] FROM debian:12\n"
            "#2   MISSED   [2/2] RUN  make\n"
            "#12  MISSED   [test 2/2] RUN make test\n"
            "-    SKIPPED  [lint 1/1] RUN lint\n"
        )
