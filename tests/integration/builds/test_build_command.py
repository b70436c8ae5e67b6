"""`pybuild build` as a program: what goes to which stream, exit codes, and an end in good order."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from runner.network import Networks

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root
WAITS = "FROM base\nRUN echo started; sleep 1000\n"


def command(bench: "Bench", *words: str, network: str = "none") -> list[str]:
    return [sys.executable, "-m", "pybuild.cli.main", "--root", str(bench.root), "build", "--network", network, *words]


def pybuild(
    bench: "Bench", *words: str, stdin: "IO[bytes] | None" = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(bench, *words), capture_output=True, text=True, timeout=60, check=False, stdin=stdin, input=text
    )


def processes_named(marker: str) -> list[int]:
    """PIDs whose command line holds the marker."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if marker.encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                    found.append(int(entry))
            except OSError:
                pass
    return found


def until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_the_result_is_the_only_thing_on_standard_output(bench: "Bench", base: str, tmp_path: Path) -> None:
    bench.write({"Dockerfile": base})
    done = pybuild(
        bench,
        "-t",
        "app:1",
        "--iidfile",
        str(tmp_path / "iid"),
        "--metadata-file",
        str(tmp_path / "meta"),
        str(bench.context),
    )
    image_id = done.stdout.strip()
    assert done.returncode == 0
    assert image_id.startswith("sha256:")
    assert "#1 [base 1/2] COPY busybox /bin/busybox" in done.stderr.replace("[1/2]", "[base 1/2]")
    assert (tmp_path / "iid").read_text() == image_id
    metadata = json.loads((tmp_path / "meta").read_text())
    assert metadata["containerimage.config.digest"] == image_id
    assert metadata["image.name"] == "docker.io/library/app:1"


def test_quiet_tells_nothing_but_the_result(bench: "Bench", base: str) -> None:
    bench.write({"Dockerfile": base})
    done = pybuild(bench, "-q", str(bench.context))
    assert (done.stderr, len(done.stdout.split())) == ("", 1)


def test_raw_json_is_one_object_a_line(bench: "Bench", base: str) -> None:
    bench.write({"Dockerfile": base})
    done = pybuild(bench, "--progress", "rawjson", str(bench.context))
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[0] == {"event": "StepStarted", "step": 1, "name": "[1/2] COPY busybox /bin/busybox"}


@pytest.mark.parametrize(
    ("dockerfile", "code", "says"),
    [
        ("FROM scratch\nCOPPY a b\n", 3, "COPY"),
        ("FROM scratch\nCOPY missing /\n", 4, "missing"),
        ("FROM scratch\nCOPY ../../../etc/passwd /\n", 4, "etc/passwd"),
        ('FROM scratch\nRUN ["/none"]\n', 4, "/none"),
        ("FROM scratch\nRUN --device=vendor/class=one,required x\n", 3, "vendor/class=one"),
    ],
)
def test_a_failure_is_an_error_a_hint_and_a_code(bench: "Bench", dockerfile: str, code: int, says: str) -> None:
    bench.write({"Dockerfile": dockerfile})
    done = pybuild(bench, "-q", str(bench.context))
    assert done.returncode == code
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--platform", "linux/a/b/c"], "linux/amd64"),
        (["-o", "type=oic,dest=x"], "did you mean oci?"),
        (["-o", "type=oci,dst=x"], "did you mean dest?"),
        (["--secret", "src=x"], "--secret id="),
        (["--push"], "-t"),
        (["-t", "UPPER:1"], "lowercase"),
        (["--add-host", "x"], "NAME:ADDRESS"),
        (["--network", "mine"], "default, none or host"),
        (["--sbom", "true"], "not supported yet"),
        (["--compression", "lzma"], "gzip"),
        (["--annotation", "index:a=1"], "single platform"),
        (["--ssh", "default"], "agent"),
        (["--allow", "everything"], "network.host"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused_before_anything_is_done(
    bench: "Bench", base: str, words: Sequence[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    bench.write({"Dockerfile": base})
    done = pybuild(bench, *words, str(bench.context))
    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert "#1" not in done.stderr


def test_the_context_may_be_an_archive_on_standard_input(bench: "Bench", base: str, tmp_path: Path) -> None:
    bench.write({"Dockerfile": base})
    subprocess.run(["tar", "czf", str(tmp_path / "c.tgz"), "-C", str(bench.context), "."], check=True)
    with (tmp_path / "c.tgz").open("rb") as archive:
        assert pybuild(bench, "-t", "a", "-", stdin=archive).returncode == 0


def test_a_lone_dockerfile_may_come_on_standard_input(bench: "Bench", base: str) -> None:
    assert pybuild(bench, "-", text="FROM scratch\nCOPY <<x /x\nhi\nx\n").returncode == 0
    assert pybuild(bench, "-f", "-", str(bench.context), text=base).returncode == 0


def test_files_go_to_standard_output_as_an_archive(bench: "Bench") -> None:
    bench.write({"Dockerfile": "FROM scratch\nCOPY <<x /x\nhi\nx\n"})
    done = subprocess.run(command(bench, "-o", "-", str(bench.context)), capture_output=True, timeout=60, check=True)
    listed = subprocess.run(["tar", "t"], input=done.stdout, capture_output=True, check=True)
    assert listed.stdout == b"x\n"


def test_a_build_argument_without_value_comes_from_the_environment(
    bench: "Bench", base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_ENV", "seen")
    bench.write({"Dockerfile": base + "ARG FROM_ENV\nRUN echo $FROM_ENV\n"})
    assert "seen" in pybuild(bench, "--build-arg", "FROM_ENV", str(bench.context)).stderr


@pytest.fixture
def waiting(bench: "Bench", base: str, netns: None) -> Iterator[subprocess.Popen[str]]:
    """A build that has come to a step that does not end, on a network of the test's own."""
    bench.write({"Dockerfile": base + WAITS})
    words = command(bench, "--progress", "plain", str(bench.context), network="default")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith("started\n"):
            break
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_stops_its_steps_and_leaves_nothing(
    bench: "Bench", waiting: subprocess.Popen[str], number: int, code: int
) -> None:
    until(lambda: processes_named("sleep\x001000"))
    waiting.send_signal(number)
    assert waiting.wait(20) == code
    assert not processes_named("sleep\x001000")
    assert bench.leftovers()["snapshots"] == []
    assert Networks(bench.root / "networks").attached() == []


def test_a_killed_build_takes_its_steps_along_and_the_next_one_cleans_up(
    bench: "Bench", base: str, waiting: subprocess.Popen[str]
) -> None:
    waiting.kill()
    waiting.wait(20)
    until(lambda: not processes_named("sleep\x001000"))
    networks = Networks(bench.root / "networks")
    assert len(bench.leftovers()["snapshots"]) == 1  # type: ignore[arg-type]
    assert len(networks.attached()) == 1
    bench.build(base + "FROM base\nRUN echo again\n", network="default")
    assert bench.leftovers()["snapshots"] == []
    assert networks.attached() == []


def test_a_build_again_finds_every_step_cached(bench: "Bench", base: str) -> None:
    bench.write({"Dockerfile": base + "FROM base\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(10))})
    assert pybuild(bench, "-t", "a", str(bench.context)).returncode == 0
    assert pybuild(bench, "-t", "a", str(bench.context)).stderr.count("CACHED") == 12


FAILS_TWICE = (
    "FROM base AS one\nRUN echo one; exit 3\nFROM base AS two\nRUN echo two; exit 5\nFROM base AS good\nRUN echo good\n"
    "FROM base\nCOPY --from=one /x /x\nCOPY --from=two /x /x\nCOPY --from=good /x /x\n"
)


def test_a_build_that_keeps_going_does_what_it_can_and_tells_every_failure(bench: "Bench", base: str) -> None:
    bench.write({"Dockerfile": base + FAILS_TWICE})
    done = pybuild(bench, "--keep-going", str(bench.context))
    assert done.returncode == 4
    for text in ("exit code: 3", "exit code: 5", "Dockerfile:5", "Dockerfile:7"):
        assert text in done.stderr.partition("error: ")[2]
    assert "Traceback" not in done.stderr
    bench.write({"Dockerfile": base + "FROM base AS good\nRUN echo good\n"})
    assert pybuild(bench, str(bench.context)).stderr.count("CACHED") == 3


def test_a_failure_names_the_file_that_has_the_whole_output(bench: "Bench", base: str) -> None:
    bench.write({"Dockerfile": base + "RUN seq 1000; exit 1\n"})
    done = pybuild(bench, str(bench.context))
    log = Path(done.stderr.rpartition("its whole output is in ")[2].strip())
    assert log.read_text().splitlines() == [str(number) for number in range(1, 1001)]
    assert log.is_relative_to(bench.root / "builds")
