"""Standard streams that are closed, full, or whose reader has gone: no traceback, and nothing runs on for nobody."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.bad_input.conftest import Contexts, Pybuild


def shell(pybuild: Pybuild, line: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of bash, in which `pybuild` is the command on this root."""
    script = f'pybuild() {{ {" ".join(pybuild.words())} "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )


class TestAReaderThatHasGone:
    @pytest.mark.parametrize("line", ["images", "ps -a", "--help", "info", "inspect busybox", "image inspect busybox"])
    def test_is_no_error(self, pybuild: Pybuild, line: str) -> None:
        found = shell(pybuild, f"pybuild {line} | true")
        assert (found.returncode, found.stderr) == (0, "")

    def test_of_an_archive_is_no_error(self, pybuild: Pybuild) -> None:
        found = shell(pybuild, "pybuild save busybox | head -c 512 | wc -c")
        assert (found.returncode, found.stdout.strip(), found.stderr) == (0, "512", "")

    def test_of_files_ends_the_build_with_no_other_word(self, pybuild: Pybuild, contexts: Contexts) -> None:
        context = contexts("FROM busybox\n")
        found = shell(pybuild, f"pybuild build -q --network none -o - {context} | head -c 512 | wc -c")
        assert (found.returncode, found.stdout.strip(), found.stderr) == (0, "512", "")

    def test_of_a_container_ends_it_as_it_would_end_a_program(self, pybuild: Pybuild) -> None:
        with pybuild.unchanged():
            found = shell(pybuild, "pybuild run --rm --network none busybox yes | head -1")
        assert (found.stdout, found.stderr) == ("y\n", "")
        pybuild.end()


class TestAFullDisk:
    @pytest.mark.parametrize("line", ["--version", "--help", "images", "inspect busybox", "save busybox"])
    def test_behind_standard_output_is_told(self, pybuild: Pybuild, line: str) -> None:
        with open("/dev/full", "wb") as full:
            found = pybuild.fails(*line.split(), code=1, says="No space left on device", stdout=full)
        assert found.err.count("\n") <= 2

    def test_behind_the_output_of_a_container_ends_it(self, pybuild: Pybuild) -> None:
        with open("/dev/full", "wb") as full, pybuild.unchanged():
            pybuild.fails("run", "--rm", "--network", "none", "busybox", "yes", code=125, says="No space", stdout=full)
        pybuild.end()

    def test_behind_standard_error_too_is_an_exit_code(self, pybuild: Pybuild) -> None:
        with open("/dev/full", "wb") as full:
            assert pybuild("nosuch", stdout=full, stderr=full).code == 2
            assert pybuild("inspect", "nosuch", stdout=full, stderr=full).code == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
class TestClosedStreams:
    def test_harm_nothing(self, pybuild: Pybuild, closed: str) -> None:
        found = shell(pybuild, f"pybuild images {closed}")
        assert found.returncode == 0
        assert found.stderr == ""
        assert ("busybox" in found.stdout) == (">&- " not in f"{closed} ".replace("2>&-", ""))

    def test_harm_no_build(self, pybuild: Pybuild, contexts: Contexts, closed: str) -> None:
        context = contexts("FROM busybox\nRUN echo hello > /file\n")
        found = shell(pybuild, f"pybuild build --network none -o {context}/out {context} {closed}")
        assert (found.returncode, "Traceback" in found.stderr) == (0, False)
        assert (context / "out/file").read_text() == "hello\n"

    def test_harm_no_container(self, pybuild: Pybuild, tmp_path: Path, closed: str) -> None:
        line = (
            f"pybuild run --rm --network none -v {tmp_path}:/x busybox sh -c 'echo out; echo err >&2; echo hi > /x/f'"
        )
        found = shell(pybuild, f"{line} {closed}")
        assert (found.returncode, "Traceback" in found.stderr) == (0, False)
        assert (tmp_path / "f").read_text() == "hi\n"
        pybuild.end()

    def test_an_error_has_its_exit_code_and_never_goes_to_standard_output(self, pybuild: Pybuild, closed: str) -> None:
        found = shell(pybuild, f"pybuild nosuch {closed}")
        assert (found.returncode, found.stdout) == (2, "")
        assert os.path.exists(pybuild.root / "meta.db")
