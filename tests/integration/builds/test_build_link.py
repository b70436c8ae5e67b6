"""COPY --link: its layer stays when what is below changes, and does not change that (reference §1.7, item 9)."""

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from builder.errors import BuildFailed
from builder.progress import Event, StepCanceled, StepStarted, StepStatus

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench, Waiting

pytestmark = pytest.mark.root
LINE = "COPY --link f /app/bin/\n"


def test_another_base_leaves_the_layer_as_it_is(bench: "Bench", base: str) -> None:
    first = bench.build(f"{base}RUN echo 1 > /version\n{LINE}", files={"f": "x"})
    second = bench.build(f"{base}RUN echo 2 > /version\n{LINE}RUN cat /version /app/bin/f > /both\n")
    assert not [name for name in second.done_again if name.startswith("COPY")]
    assert second.layers[-2] == first.layers[-1]
    assert second.read("both") == b"2\nx"


def test_without_it_the_layer_is_made_again(bench: "Bench", base: str) -> None:
    line = LINE.replace("--link ", "")
    bench.build(f"{base}RUN echo 1 > /version\n{line}", files={"f": "x"})
    assert bench.build(f"{base}RUN echo 2 > /version\n{line}").done_again[-1].startswith("COPY")


def test_other_files_make_another_layer(bench: "Bench", base: str) -> None:
    bench.build(base + LINE, files={"f": "x"})
    assert bench.build(base + LINE, files={"f": "y"}).read("app/bin/f") == b"y"


def test_an_unchanged_build_does_nothing(bench: "Bench", base: str) -> None:
    bench.build(base + LINE, files={"f": "x"})
    assert bench.build(base + LINE).done_again == []


@pytest.mark.parametrize("again", [False, True])
def test_directories_below_keep_mode_and_owner(bench: "Bench", base: str, again: bool) -> None:
    """BuildKit's layer would make /app 0755 and root's (BK#3912)."""
    prepare = "RUN mkdir -p -m 1770 /app && chown 7:8 /app\n"
    if again:
        bench.build(f"{base}{prepare}RUN echo old\n{LINE}", files={"f": "x"})
    look = "RUN stat -c '%a %u:%g' /app /app/bin > /seen\n"
    built = bench.build(f"{base}{prepare}RUN echo new\n{LINE}{look}", files={"f": "x"})
    assert built.read("seen") == b"1770 7:8\n755 0:0\n"
    assert [(entry.name, entry.mode, entry.uid) for entry in built.layer(-2)[:1]] == [("app", 0o1770, 7)]
    if again:
        assert not [name for name in built.done_again if name.startswith("COPY")]


def test_other_modes_below_make_another_layer(bench: "Bench", base: str) -> None:
    bench.build(f"{base}RUN mkdir -m 700 /app\n{LINE}", files={"f": "x"})
    built = bench.build(f"{base}RUN mkdir -m 711 /app\n{LINE}RUN stat -c %a /app > /seen\n")
    assert built.read("seen") == b"711\n"


def test_the_destination_itself_keeps_its_mode_when_a_directory_is_copied(bench: "Bench", base: str) -> None:
    built = bench.build(
        f"{base}RUN mkdir -m 700 /app\nCOPY --link d /app\nRUN stat -c %a /app /app/x > /seen\n", files={"d/x/f": "1"}
    )
    assert built.read("seen") == b"700\n755\n"


def test_no_link_of_the_destination_is_followed(bench: "Bench", base: str) -> None:
    built = bench.build(
        f"{base}RUN mkdir /real && ln -s /real /app\n{LINE}RUN ls /real > /real.txt; readlink /app > /app.txt; true\n",
        files={"f": "x"},
    )
    assert (built.read("real.txt"), built.read("app.txt")) == (b"", b"")


def test_owner_and_mode_are_numbers(bench: "Bench", base: str) -> None:
    built = bench.build(f"{base}COPY --link --chown=5:6 --chmod=640 f /new/\n", files={"f": "x"})
    seen = [(entry.name, entry.uid, entry.gid, entry.mode) for entry in built.layer(-1)]
    assert seen == [("new", 5, 6, 0o640), ("new/f", 5, 6, 0o640)]


def test_add_unpacks_into_it(bench: "Bench", base: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("member"))
    built = bench.build(
        f"{base}ADD --link a.tar /d/\nCOPY --link <<text /d/\nhi\ntext\n", files={"a.tar": content.getvalue()}
    )
    assert (built.names(-2), built.names(-1)) == (["d", "d/member"], ["d", "d/text"])


def test_from_a_stage(bench: "Bench", base: str) -> None:
    text = f"{base}RUN echo made > /made && chown 9 /made\nFROM scratch\nCOPY --link --from=base /made /d/\n"
    assert [(entry.name, entry.uid) for entry in bench.build(text).layer(-1)] == [("d", 0), ("d/made", 9)]


def is_copied(event: Event) -> bool:
    return isinstance(event, StepStatus) and event.what == "copied"


class TestAtTheSameTimeAsTheStepBefore:
    """It can't see what that does. A build in which it does not come early would not end."""

    def test_the_layer_is_the_one_that_it_would_be_afterwards(
        self, bench: "Bench", base: str, waiting: "Waiting"
    ) -> None:
        early = waiting.build(
            base + "WAIT echo 1 > /1\n" + LINE + "RUN cat /1 /app/bin/f > /both\n", is_copied, files={"f": "x"}
        )
        assert early.read("both") == b"1\nx"
        late = bench.build("FROM scratch\n" + LINE, no_cache=True)
        assert early.layers[-2] == late.layers[-1]

    def test_a_build_again_finds_all_of_it(self, bench: "Bench", base: str, waiting: "Waiting") -> None:
        text = base + "WAIT true\n" + LINE + "RUN true\n"
        first = waiting.build(text, is_copied, files={"f": "x"})
        again = waiting.build(text, is_copied)
        assert again.done_again == []
        assert again.result == first.result

    def test_without_cache_too(self, base: str, waiting: "Waiting") -> None:
        text = base + "WAIT true\n" + LINE + "RUN cat /app/bin/f > /g\n"
        waiting.build(text, is_copied, files={"f": "x"})
        built = waiting.build(text, is_copied, files={"f": "x"}, no_cache=True)
        assert built.read("g") == b"x"

    def test_directories_that_the_step_made_keep_their_modes(self, base: str, waiting: "Waiting") -> None:
        look = "RUN stat -c '%a %u' /app /app/bin / > /seen\n"
        text = base + "WAIT mkdir -m 1770 /app; chown 7 /app; chmod 711 /\n" + LINE + look
        assert waiting.build(text, is_copied, files={"f": "x"}).read("seen") == b"1770 7\n755 0\n711 0\n"

    def test_the_root_directory_keeps_its_mode(self, base: str, waiting: "Waiting") -> None:
        text = base + "WAIT chmod 711 /\n" + LINE + "RUN stat -c %a / > /seen\n"
        assert waiting.build(text, is_copied, files={"f": "x"}).read("seen") == b"711\n"

    def test_what_was_copied_is_of_use_though_the_step_before_fails(
        self, bench: "Bench", base: str, waiting: "Waiting"
    ) -> None:
        with pytest.raises(BuildFailed):
            waiting.build(base + "WAIT exit 1\n" + LINE, is_copied, files={"f": "x"})
        assert bench.leftovers()["snapshots"] == []
        assert bench.build(base + "RUN true\n" + LINE).done_again == ["RUN true"]

    def test_a_file_that_is_not_there_is_told_at_once(self, bench: "Bench", base: str, waiting: "Waiting") -> None:
        bench.build(base)
        with pytest.raises(BuildFailed, match="missing"):
            waiting.build(base + "WAIT true\nCOPY missing /x\n", lambda event: False)
        started = {event.step: event.name for event in bench.events if isinstance(event, StepStarted)}
        canceled = [started[event.step] for event in bench.events if isinstance(event, StepCanceled)]
        assert len(canceled) == 1
        assert "RUN" in canceled[0]

    @pytest.mark.parametrize("flag", ["", "--link "])
    def test_a_file_that_changes_meanwhile_is_taken_as_it_is_then(
        self, bench: "Bench", base: str, waiting: "Waiting", flag: str
    ) -> None:
        """And what is kept in the cache is never another file than its key says."""
        text = base + f"WAIT true\nCOPY {flag}f /f\nCOPY --link other /other\n"

        def edited(event: Event) -> bool:
            if is_copied(event):
                bench.write({"f": "edited"})
            return is_copied(event)

        built = waiting.build(text, edited, files={"f": "before", "other": "1"})
        assert built.read("f") == b"edited"
        assert waiting.build(text, is_copied, files={"f": "before"}).read("f") == b"before"
