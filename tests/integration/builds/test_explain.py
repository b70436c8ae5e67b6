"""Why steps were not cached: `--explain`, and the report that `pybuild why` reads."""

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from builder.cache.report import Report, latest
from builder.errors import BuildFailed
from pybuild.engine.pruning import Rules, prune

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root


class Told:
    """Builds, and gives what was explained: the outcome and the reasons of each step, by its text."""

    def __init__(self, bench: "Bench") -> None:
        self.bench = bench

    def build(self, text: str, **words: object) -> dict[str, tuple[str, list[str]]]:
        reports: list[Report] = []
        try:
            self.bench.build(text, explain=reports.append, **{"tags": ("app:1",), **words})
        except BuildFailed:
            pass
        (report,) = reports
        assert latest(self.bench.root) == report
        return {
            step.name.partition("] ")[2]: (step.outcome, [reason.text for reason in step.reasons])
            for step in report.steps
        }


@pytest.fixture
def told(bench: "Bench") -> Told:
    return Told(bench)


def test_names_the_changed_file_and_the_steps_that_it_made_miss(told: Told, base: str) -> None:
    text = base + "FROM base\nCOPY src /src\nRUN cat /src/* > /all\nRUN echo done > /done\n"
    files = {f"src/{n:04}": str(n) for n in range(200)}
    told.build(text, files=files)
    assert {outcome for outcome, _ in told.build(text).values()} == {"cached"}
    found = told.build(text, files={"src/0123": "changed"})
    assert found["COPY busybox /bin/busybox"] == ("cached", [])
    assert found["COPY src /src"] == ("missed", ["src/0123 in the build context: content changed"])
    outcome, (reason,) = found["RUN cat /src/* > /all"]
    assert outcome == "missed"
    assert reason.endswith("COPY src /src gave other files")


@pytest.mark.parametrize(("name", "told_name"), [(b"bad\xffname", r"bad\udcffname"), (b"a\nb\x1b[2J", r"a\nb\x1b[2J")])
def test_any_name_of_a_file_can_be_told(told: Told, bench: "Bench", name: bytes, told_name: str) -> None:
    text = "FROM scratch\nCOPY . /\n"
    told.build(text, files={"f": ""})
    (bench.context / os.fsdecode(name)).touch()
    (_, reasons), *_ = told.build(text).values()
    assert [reason for reason in reasons if reason.startswith(told_name)]


def test_a_step_whose_files_come_out_the_same_says_so_by_hitting(told: Told, base: str) -> None:
    text = base + "FROM base\nCOPY a /a\nRUN rm /a\nRUN echo x > /x\n"
    told.build(base + "FROM base\nCOPY a /a\nRUN true\n", files={"a": "1"})
    told.build(text, files={"a": "1"})
    assert told.build(text)["RUN echo x > /x"] == ("cached", [])


@pytest.mark.parametrize(
    ("before", "after", "step", "reason"),
    [
        ("RUN echo one > /f", "RUN echo two > /f", "RUN echo two > /f", 'command: "echo one > /f" → "echo two > /f"'),
        ("ENV A=1\nRUN true", "ENV A=2\nRUN true", "RUN true", 'ENV A: "1" → "2"'),
        ("USER 0\nRUN true", "USER 1\nRUN true", "RUN true", 'USER: "0" → "1"'),
        ("COPY f /f", "COPY --chmod=600 f /f", "COPY --chmod=600 f /f", '--chmod: "none" → "600"'),
    ],
)
def test_names_what_of_the_dockerfile_changed(
    told: Told, base: str, before: str, after: str, step: str, reason: str
) -> None:
    told.build(f"{base}FROM base\n{before}\n", files={"f": "1"})
    assert told.build(f"{base}FROM base\n{after}\n")[step] == ("missed", [reason])


def test_names_a_build_argument(told: Told, base: str) -> None:
    text = base + "FROM base\nARG MODE=debug\nRUN echo $MODE > /f\n"
    told.build(text)
    found = told.build(text, build_args={"MODE": "release"})
    assert found["RUN echo $MODE > /f"] == ("missed", ['ARG MODE: "debug" → "release"'])


def test_names_another_base_image(told: Told, bench: "Bench", base: str) -> None:
    bench.build(base, tags=("tools:1",))
    text = "FROM tools:1\nRUN echo x > /x\n"
    told.build(text)
    bench.build(base + "RUN echo newer > /newer\n", tags=("tools:1",))
    outcome, (reason,) = told.build(text)["RUN echo x > /x"]
    assert outcome == "missed"
    assert reason.startswith("base image tools:1: sha256:")


def test_names_a_file_of_another_stage(told: Told, base: str) -> None:
    text = base + "FROM base AS made\nCOPY f /out/f\nFROM base\nCOPY --from=made /out /in\n"
    told.build(text, files={"f": "1"})
    outcome, (reason,) = told.build(text, files={"f": "2"})["COPY --from=made /out /in"]
    assert outcome == "missed"
    assert reason.startswith("out/f in #")
    assert reason.endswith("COPY f /out/f: content changed")


def test_names_a_file_that_a_command_has_mounted(told: Told, base: str) -> None:
    text = base + "FROM base\nRUN --mount=type=bind,target=/ctx cat /ctx/f > /g\n"
    told.build(text, files={"f": "1"})
    found = told.build(text, files={"f": "2"})
    assert found["RUN --mount=type=bind,target=/ctx cat /ctx/f > /g"] == (
        "missed", ["f in the build context: content changed"],
    )  # fmt: skip


def test_skipped_is_another_word_than_cached(told: Told, base: str) -> None:
    text = base + "FROM base AS test\nRUN echo tests\nFROM base\nRUN true\nRUN false\nRUN echo never\n"
    found = told.build(text)
    assert found["RUN echo tests"] == ("skipped", ["the target does not need it"])
    assert found["RUN false"][0] == "failed"
    assert found["RUN echo never"] == ("skipped", ["the build ended before it"])


def test_after_pruning_the_store_is_to_blame(told: Told, bench: "Bench", base: str) -> None:
    text = base + "FROM base\nRUN echo x > /x\n"
    told.build(text, tags=())
    bench.store.untagged()
    for stored in bench.store.images():
        bench.store.untag(stored.repository, stored.tag)
    bench.store.collect(grace_seconds=0, untagged_seconds=0)
    prune(bench.store, bench.root, Rules(), idle_seconds=0)
    assert told.build(text, tags=())["RUN echo x > /x"] == (
        "missed", ["its inputs are those of the last time, but its layer is no longer in the store"],
    )  # fmt: skip


def test_the_context_may_move_if_the_name_stays(told: Told, bench: "Bench", base: str) -> None:
    text = base + "FROM base\nCOPY f /f\n"
    told.build(text, files={"f": "1"})
    elsewhere = bench.context.with_name("elsewhere")
    shutil.copytree(bench.context, elsewhere)
    bench.context = elsewhere
    found = told.build(text, files={"f": "2"})
    assert found["COPY f /f"] == ("missed", ["f in the build context: content changed"])


def test_what_a_build_has_hit_is_not_collected_while_it_runs(bench: "Bench", base: str) -> None:
    """The first steps are hits; before the last one is done, somebody forgets the whole cache."""
    text = base + "FROM base\nRUN echo a > /a\n"
    bench.build(text)
    for stored in bench.store.images():
        bench.store.untag(stored.repository, stored.tag)

    def forget(event: object) -> None:
        if "echo b" in str(event):
            bench.store.cache_clear()
            bench.store.collect(grace_seconds=0, untagged_seconds=0)

    from builder.build import Builder, BuildRequest

    bench.write({"Dockerfile": text + "RUN echo b > /b\n"})
    request = BuildRequest(context=str(bench.context), network="none")
    result = Builder(bench.root, bench.store).build(request, forget)
    assert bench.store.has(result.image_id)


def test_a_cached_build_keeps_one_small_report(told: Told, bench: "Bench", base: str) -> None:
    told.build(base)
    told.build(base)
    builds = sorted(os.listdir(bench.root / "builds"))
    assert len(builds) == 2
    assert os.listdir(bench.root / "builds" / builds[-1]) == ["steps.json"]
