"""What is done again and what is not (reference §1.10), and that the same build gives the same bytes."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Builder

if TYPE_CHECKING:
    from tests.gitserver import Hub
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root


class TestCache:
    def test_an_unchanged_build_does_nothing_and_gives_the_same_image(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nENV A=1\nCOPY f /f\nRUN cat /f > /g\nCMD x\n"
        first = bench.build(text, files={"f": "1"})
        second = bench.build(text)
        assert second.done_again == []
        assert second.result == first.result

    def test_a_cached_build_needs_no_snapshot(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nRUN echo x > /x\n"
        bench.build(text)
        shutil.rmtree(bench.root / "snapshots")
        assert bench.build(text).done_again == []
        assert not (bench.root / "snapshots").exists()

    def test_a_snapshot_that_is_gone_is_made_again_from_its_layers(self, bench: "Bench", base: str) -> None:
        bench.build(base)
        shutil.rmtree(bench.root / "snapshots")
        built = bench.build(base + "RUN echo new > /new\n")
        assert built.done_again == ["RUN echo new > /new"]
        assert built.read("new") == b"new\n"

    def test_other_times_of_the_same_files_change_nothing(self, bench: "Bench", base: str) -> None:
        text = base + "COPY f /f\n"
        bench.build(text, files={"f": "1"})
        os.utime(bench.context / "f", (1_700_000_000, 1_700_000_000))
        assert bench.build(text).done_again == []

    @pytest.mark.parametrize("change", ["content", "mode", "name"])
    def test_other_files_do(self, bench: "Bench", base: str, change: str) -> None:
        text = base + "COPY d /d\nRUN ls /d\n"
        bench.build(text, files={"d/f": "1"})
        file = bench.context / "d" / "f"
        if change == "content":
            file.write_text("2")
        elif change == "mode":
            file.chmod(0o600)
        else:
            file.rename(file.with_name("g"))
        assert bench.build(text).done_again == ["COPY d /d", "RUN ls /d"]

    def test_files_that_are_not_selected_do_not_matter(self, bench: "Bench", base: str) -> None:
        text = base + "COPY a* /\n"
        bench.build(text, files={"a1": "", "b": "1"})
        assert bench.build(text, files={"b": "2"}).done_again == []

    def test_an_argument_matters_from_where_it_is_declared(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nRUN one\nARG V\nRUN two\n".replace("one", "echo one").replace("two", "echo two")
        bench.build(text, build_args={"V": "1"})
        assert bench.build(text, build_args={"V": "2"}).done_again == ["RUN echo two"]

    def test_an_equal_output_lets_the_steps_after_it_hit_again(self, bench: "Bench", base: str) -> None:
        """Early cut-off: the step is another one, what it made is not."""
        text = base + "FROM base\nRUN {} > /out\nRUN cat /out\n"
        bench.build(text.format("echo 1"))
        assert bench.build(text.format("printf '1\\n'")).done_again == ["RUN printf '1\\n' > /out"]

    def test_a_stage_that_gives_the_same_files_lets_copies_of_them_hit(self, bench: "Bench", base: str) -> None:
        text = (
            base + "FROM base AS make\nRUN echo same > /out; echo {} > /log\nFROM scratch\nCOPY --from=make /out /out\n"
        )
        bench.build(text.format("1"))
        again = bench.build(text.format("2")).done_again
        assert again == ["RUN echo same > /out; echo 2 > /log"]

    def test_a_newer_source_lets_what_is_made_of_it_equal_hit_in_the_next_stage(
        self, bench: "Bench", base: str
    ) -> None:
        """The time of what a step makes is that of its newest source, and no key has it."""
        text = (
            base + "FROM base AS make\nCOPY src /src\nRUN wc -c < /src > /size\n"
            "FROM base\nCOPY --from=make /size /size\nRUN --mount=from=make,source=/size,target=/s cat /s > /seen\n"
        )
        bench.build(text, files={"src": "one"})
        os.utime(bench.context / "src", (1_700_000_000, 1_700_000_000))
        again = bench.build(text, files={"src": "two"})
        assert again.done_again == ["COPY src /src", "RUN wc -c < /src > /size"]

    def test_what_is_mounted_only_does_not_make_the_output_newer(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nRUN --mount=source=src,target=/src wc -c < /src > /size\nRUN cat /size\n"
        bench.build(text, files={"src": "one"})
        again = bench.build(text, files={"src": "two"})
        assert again.done_again == ["RUN --mount=source=src,target=/src wc -c < /src > /size"]

    def test_a_download_of_the_same_bytes_hits_though_the_server_calls_them_newer(
        self, bench: "Bench", base: str, hub: "Hub"
    ) -> None:
        (hub.root / "file").parent.mkdir(exist_ok=True)
        (hub.root / "file").write_text("same")
        text = base + f"FROM base\nADD http://127.0.0.1:{hub.port}/file /f\nRUN cat /f\n"
        hub.modified = "Wed, 01 Jan 2020 00:00:00 GMT"
        bench.build(text)
        hub.modified = "Fri, 01 Jan 2021 00:00:00 GMT"
        assert not [name for name in bench.build(text).done_again if not name.startswith("fetch")]

    def test_a_stage_that_the_target_does_not_need_is_not_even_looked_at(self, bench: "Bench", base: str) -> None:
        text = base + "FROM nowhere.invalid/image AS unneeded\nCOPY missing /\nRUN false\nFROM base\nRUN echo x > /x\n"
        assert bench.build(text).read("x") == b"x\n"

    def test_the_owner_of_a_stages_file_matters(self, bench: "Bench", base: str) -> None:
        text = (
            base + "FROM base AS make\nRUN echo same > /out; chown {} /out\nFROM scratch\nCOPY --from=make /out /out\n"
        )
        bench.build(text.format("1:1"))
        built = bench.build(text.format("2:2"))
        assert built.layer(-1)[0].uid == 2

    def test_no_cache_does_all_again(self, bench: "Bench", base: str) -> None:
        bench.build(base)
        assert len(bench.build(base, no_cache=True).done_again) == 2

    def test_equal_steps_of_two_stages_run_once(self, bench: "Bench", base: str) -> None:
        built = bench.build(
            base + "FROM base AS a\nRUN echo once\nFROM base AS b\nRUN echo once\n"
            "FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
        )
        assert built.output.count("once") == 1

    def test_stages_run_at_the_same_time(self, bench: "Bench", base: str) -> None:
        """Each waits for a file that the other makes in a cache they share."""
        step = (
            "RUN --mount=type=cache,id=meet,target=/m touch /m/{0}; "
            "for i in $(seq 100); do test -e /m/{1} && exit 0; sleep 0.1; done; exit 1\n"
        )
        bench.build(
            base + "FROM base AS a\n" + step.format("a", "b") + "FROM base AS b\n" + step.format("b", "a")
            + "FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
        )  # fmt: skip

    def test_a_base_image_is_looked_for_in_the_store_first(self, bench: "Bench", base: str) -> None:
        bench.build(base, tags=["mine:1"])
        built = bench.build("FROM mine:1\nRUN echo x > /x\n")
        assert built.read("x") == b"x\n"
        assert len(built.layers) == 3


class TestSameBytes:
    TEXT = (
        "FROM base\nCOPY d /d\nRUN mkdir -p /x/y && echo 1 > /x/y/f && rm /d/gone && ln -s f /x/y/l && mkfifo /x/p\n"
        "WORKDIR /w\n"
    )

    def test_two_builds_without_cache_give_the_same_layers(self, bench: "Bench", base: str) -> None:
        files = {"d/gone": "1", "d/stays": "2"}
        first = bench.build(base + self.TEXT, files=files)
        second = bench.build(base + self.TEXT, no_cache=True)
        assert len(second.done_again) == 5
        assert second.layers == first.layers

    def test_no_time_of_a_layer_is_that_of_the_build(self, bench: "Bench", base: str) -> None:
        bench.write({"d/gone": "1", "d/stays": "2"})
        for path in (bench.context / "d" / "gone", bench.context / "d" / "stays", bench.context / "d"):
            os.utime(path, (1_600_000_000, 1_600_000_000))
        built = bench.build(base + self.TEXT)
        assert {entry.mtime for number in range(5) for entry in built.layer(number)} == {1_600_000_000}

    def test_another_root_and_one_core_give_the_same_layers(self, bench: "Bench", base: str, ram_path: Path) -> None:
        from builder.build import BuildRequest
        from registry.storage import ContentStore

        first = bench.build(base + self.TEXT, files={"d/gone": "1", "d/stays": "2" * 3_000_000})
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            with ContentStore.open(ram_path / "other") as store:
                Builder(ram_path / "other", store).build(BuildRequest(context=str(bench.context), network="none"))
                assert all(store.has(layer) for layer in first.layers)
        finally:
            os.sched_setaffinity(0, cores)

    def test_a_file_that_a_step_makes_is_not_older_than_what_it_was_made_from(self, bench: "Bench", base: str) -> None:
        os.utime(bench.context / "busybox", (1_650_000_000, 1_650_000_000))
        built = bench.build(base + "COPY src /src\nRUN cat /src > /obj\n", files={"src": "x"})
        made = {entry.name: entry.mtime for entry in built.layer(-1)}
        assert made["obj"] >= int((bench.context / "src").stat().st_mtime)

    def test_the_next_step_sees_the_times_that_the_layer_has(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nRUN echo > /f\nRUN stat -c %Y /f\n")
        assert built.output.splitlines()[-1] == str(built.layer(-2)[0].mtime)

    def test_an_epoch_rules_all_times(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nCOPY f /f\nRUN echo $SOURCE_DATE_EPOCH > /g\nCMD x\n"
        built = bench.build(text, files={"f": ""}, epoch=1_000_000_000)
        assert {entry.mtime for number in range(4) for entry in built.layer(number)} == {1_000_000_000}
        assert {step.created for step in built.config.history} == {"2001-09-09T01:46:40Z"}
        assert built.config.created == "2001-09-09T01:46:40Z"
        assert built.read("g") == b"1000000000\n"
        assert bench.build(text, epoch=1_000_000_000, no_cache=True).result == built.result

    def test_an_epoch_is_no_variable_of_the_image(self, bench: "Bench", base: str) -> None:
        built = bench.build(base, epoch=1_000_000_000)
        assert "SOURCE_DATE_EPOCH" not in built.config.config.environment
