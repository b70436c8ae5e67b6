"""Builds on one root at the same time: what is the same is done once, and nobody spoils another's work."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Builder, BuildRequest, BuildResult
from builder.cache.mounts import mount_name
from builder.errors import BuildFailed
from builder.progress import Event, StepCanceled, StepDone, StepStarted, StepStatus

if TYPE_CHECKING:
    from tests.gitserver import Hub
    from tests.integration.builds.conftest import Bench, Waiting

pytestmark = pytest.mark.root

# A step that says on the outside that it runs, and goes on when it is told so there.
SLOW = (
    "RUN --mount=type=cache,id=meet,target=/m echo begun >> /m/count; "
    "until test -e /m/go; do sleep 0.05; done; echo done > /x\n"
)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass
class Running:
    """A `pybuild build` in a process of its own, and what it has said so far."""

    process: subprocess.Popen[bytes]
    told: Path

    @property
    def progress(self) -> str:
        return self.told.read_text(errors="replace")

    def says(self, text: str) -> None:
        until(lambda: text in self.progress, f"{text!r} in: {self.progress}")

    def ends(self, code: int = 0) -> str:
        """Its standard output."""
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == code, self.progress
        return output.decode().strip()


@dataclass
class Meeting:
    bench: "Bench"
    path: Path
    running: list[Running]

    @property
    def shared(self) -> Path:
        """The cache mount, from the outside."""
        return self.bench.root / "cache-mounts" / mount_name("meet")

    @property
    def begun(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return len((self.shared / "count").read_text().splitlines())
        return 0

    def go_on(self) -> None:
        (self.shared / "go").touch()

    def start(self, *words: str) -> Running:
        told = self.path / f"told-{len(self.running)}"
        with told.open("wb") as stderr:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "pybuild.cli.main", "--root", self.bench.root, "build", "--network", "none",
                    *words, self.bench.context,
                ],
                stdout=subprocess.PIPE,
                stderr=stderr,
                process_group=0,
            )  # fmt: skip
        self.running.append(Running(process, told))
        return self.running[-1]


@pytest.fixture
def meeting(bench: "Bench", ram_path: Path) -> Iterator[Meeting]:
    meeting = Meeting(bench, ram_path, [])
    try:
        yield meeting
    finally:
        for each in meeting.running:
            each.process.kill()
            each.process.communicate()


class TestTwoProcesses:
    def test_a_step_of_both_is_done_once(self, meeting: Meeting, base: str) -> None:
        meeting.bench.write({"Dockerfile": base + SLOW})
        first = meeting.start()
        until(lambda: meeting.begun == 1, "the step begins")
        second = meeting.start()
        second.says(f"waiting for another build (process {first.process.pid})")
        meeting.go_on()
        assert second.ends() == first.ends()
        assert meeting.begun == 1
        assert "CACHED" in second.progress

    def test_one_that_is_killed_is_noticed_and_the_other_takes_over(self, meeting: Meeting, base: str) -> None:
        meeting.bench.write({"Dockerfile": base + SLOW})
        first = meeting.start()
        until(lambda: meeting.begun == 1, "the step begins")
        second = meeting.start()
        second.says("waiting for another build")
        first.process.send_signal(signal.SIGKILL)
        until(lambda: meeting.begun == 2, "the step begins again")
        meeting.go_on()
        second.ends()
        assert not list((meeting.bench.root / "steps").iterdir())

    def test_an_interrupt_of_the_one_that_waits_ends_only_that(self, meeting: Meeting, base: str) -> None:
        meeting.bench.write({"Dockerfile": base + SLOW})
        first = meeting.start()
        until(lambda: meeting.begun == 1, "the step begins")
        second = meeting.start()
        second.says("waiting for another build")
        second.process.send_signal(signal.SIGINT)
        second.ends(130)
        meeting.go_on()
        first.ends()
        assert meeting.begun == 1

    def test_when_the_first_one_fails_the_other_tries_itself(self, meeting: Meeting, base: str) -> None:
        """It may have been given other secrets, or the network is back."""
        step = SLOW.replace("echo done > /x", "test $(wc -l < /m/count) = 2")
        meeting.bench.write({"Dockerfile": base + step})
        first = meeting.start()
        until(lambda: meeting.begun == 1, "the step begins")
        second = meeting.start()
        second.says("waiting for another build")
        meeting.go_on()
        first.ends(4)
        second.ends()
        assert meeting.begun == 2

    def test_files_that_are_edited_while_it_waits_are_taken_as_they_are_then(self, meeting: Meeting, base: str) -> None:
        step = SLOW.replace("RUN ", "RUN --mount=source=f,target=/f ").replace(
            "echo done > /x", "test $(wc -l < /m/count) -gt 1 && cat /f > /x"
        )
        meeting.bench.write({"Dockerfile": base + step, "f": "before"})
        first = meeting.start()
        until(lambda: meeting.begun == 1, "the step begins")
        second = meeting.start()
        second.says("waiting for another build")
        meeting.bench.write({"f": "edited"})
        meeting.go_on()
        first.ends(4)
        second.ends()
        assert meeting.bench.build(base + step, files={"f": "before"}).read("x") == b"before"
        assert meeting.bench.build(base + step, files={"f": "edited"}).done_again == []

    def test_who_wants_no_cache_waits_for_nobody_and_spoils_nothing(self, meeting: Meeting, base: str) -> None:
        meeting.bench.write({"Dockerfile": base + SLOW})
        running = [meeting.start("--no-cache"), meeting.start("--no-cache")]
        until(lambda: meeting.begun == 2, "both begin")
        meeting.go_on()
        for each in running:
            each.ends()
        again = meeting.start()
        again.ends()
        assert again.progress.count("CACHED") == 3

    def test_copies_of_the_same_files_are_one_step_whatever_else_changed(self, meeting: Meeting, base: str) -> None:
        meeting.bench.write({"Dockerfile": base + "COPY f /f\n" + SLOW, "f": "1", "more": "not copied"})
        first = meeting.start()
        until(lambda: meeting.begun == 1, "the step begins")
        meeting.bench.write({"more": "another"})
        os.utime(meeting.bench.context / "f", (1, 1))
        second = meeting.start()
        second.says("waiting for another build")
        meeting.go_on()
        assert second.ends() == first.ends()
        assert meeting.begun == 1


def test_builds_that_begin_together_give_one_image(meeting: Meeting, base: str) -> None:
    meeting.bench.write({"Dockerfile": base + "RUN echo 1 > /1\nENV A=1\nRUN echo 2 > /2\n"})
    running = [meeting.start("-t", f"app:{number}") for number in range(3)]
    assert len({each.ends() for each in running}) == 1


def test_builds_in_threads_of_one_process_share_steps(bench: "Bench", base: str, meeting: Meeting) -> None:
    bench.write({"Dockerfile": base + SLOW})
    results: list[BuildResult] = []

    def build() -> None:
        request = BuildRequest(context=str(bench.context), network="none")
        results.append(Builder(bench.root, bench.store).build(request))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: meeting.begun == 1, "the step begins")
    meeting.go_on()
    for thread in threads:
        thread.join(60)
    assert len({result.image_id for result in results}) == 1
    assert len(results) == 2
    assert meeting.begun == 1


def test_stages_that_come_to_the_same_step_by_other_ways_do_it_once(bench: "Bench", base: str) -> None:
    """Their files are equal, so the steps after them are the same work, though the graph has two."""
    built = bench.build(
        base
        + "FROM base AS a\nRUN echo 1 > /f\nRUN echo once\n"
        + "FROM base AS b\nRUN printf '1\\n' > /f\nRUN echo once\n"
        + "FROM scratch\nCOPY --from=a /f /a\nCOPY --from=b /f /b\n"
    )
    assert built.output.count("once") == 1


def test_a_download_comes_while_an_earlier_step_runs(base: str, hub: "Hub", waiting: "Waiting") -> None:
    hub.root.mkdir(exist_ok=True)
    (hub.root / "file").write_text("content")
    fetched: list[int] = []

    def is_fetched(event: Event) -> bool:
        if isinstance(event, StepStarted) and "fetch" in event.name:
            fetched.append(event.step)
        return isinstance(event, StepDone) and event.step in fetched

    built = waiting.build(base + f"FROM base\nWAIT true\nADD http://127.0.0.1:{hub.port}/file /f\n", is_fetched)
    assert built.read("f") == b"content"


def test_a_step_that_waits_for_a_locked_cache_says_so(base: str, waiting: "Waiting") -> None:
    step = "RUN --mount=type=cache,id=busy,target=/busy,sharing=locked --mount=type=cache,id=meet,target=/m "
    step += "until test -e /m/go; do sleep 0.05; done; echo {0} > /{0}\n"
    built = waiting.build(
        base + "FROM base AS a\n" + step.format("a") + "FROM base AS b\n" + step.format("b")
        + "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        lambda event: isinstance(event, StepStatus) and "the cache busy" in event.status,
    )  # fmt: skip
    assert (built.read("a"), built.read("b")) == (b"a\n", b"b\n")


class _Dripping(BaseHTTPRequestHandler):
    """Sends a file that does not end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        deadline = time.monotonic() + 120
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                self.wfile.write(bytes(4096))
                time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        pass


def test_a_download_ends_when_another_step_fails(base: str, netns: None, waiting: "Waiting") -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Dripping)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        text = base + f"FROM base\nWAIT exit 7\nADD http://127.0.0.1:{server.server_port}/file /f\n"
        with pytest.raises(BuildFailed, match="exit code: 7"):
            waiting.build(text, lambda event: isinstance(event, StepStatus) and event.status == "Downloading")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert any(isinstance(event, StepCanceled) for event in waiting.bench.events)
