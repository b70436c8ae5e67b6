"""The command line's door: default command, unknown words, errors in two lines, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from pybuild import __version__
from pybuild.cli.door import with_default_command
from pybuild.cli.main import COMMANDS, main


def pybuild(*words: str, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pybuild.cli.main", *(["--root", str(root)] if root else []), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class TestTheWordBuildMayBeLeftOut:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            (["-t", "app:1", "."], ["build", "-t", "app:1", "."]),
            (["."], ["build", "."]),
            (["--root", "/r", "-t", "a", "."], ["--root", "/r", "build", "-t", "a", "."]),
            (["--root=/r", "./dir"], ["--root=/r", "build", "./dir"]),
            (["ps", "-a"], ["ps", "-a"]),
            (["--help"], ["--help"]),
            (["--debug", "ps"], ["--debug", "ps"]),
            (["biuld"], ["biuld"]),
            ([], []),
        ],
    )
    def test_before_an_option_or_a_directory(self, typed: list[str], meant: list[str]) -> None:
        assert with_default_command(typed) == meant


def test_an_unknown_command_gets_a_suggestion_and_exit_code_2() -> None:
    done = pybuild("biuld")
    assert done.returncode == 2
    assert "did you mean 'build'?" in done.stderr


def test_an_unknown_option_gets_a_suggestion_and_exit_code_2() -> None:
    done = pybuild("ps", "--no-trnc")
    assert done.returncode == 2
    assert "--no-trunc" in done.stderr


def test_version_is_answered_without_importing_a_library() -> None:
    code = (
        "import sys; from pybuild.cli.main import main; main(['--version']);"
        "sys.exit(bool({'click', 'rich', 'asyncio', 'httpx', 'aiohttp', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"pybuild {__version__}\n")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: pybuild" in shown
    assert "Example" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_PYBUILD_COMPLETE" in capsys.readouterr().out


def test_completion_knows_the_commands() -> None:
    env = {"_PYBUILD_COMPLETE": "bash_complete", "COMP_WORDS": "pybuild re", "COMP_CWORD": "1", "PATH": "/usr/bin"}
    command = [Path(sys.executable).with_name("pybuild")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "plain,registry" in done.stdout.splitlines()


def test_info_tells_what_the_machine_can_do(tmp_path: Path) -> None:
    done = pybuild("info", root=tmp_path / "root")
    assert done.returncode == 0
    assert "Cgroups:" in done.stdout
    assert not (tmp_path / "root").exists()


def test_an_error_is_two_lines_and_no_traceback(tmp_path: Path) -> None:
    done = pybuild("tag", "nosuch:1", "other:1", root=tmp_path / "root")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    line = f"{sys.executable} -m pybuild.cli.main --help | true"
    done = subprocess.run(["bash", "-c", line + "; echo ${PIPESTATUS[0]}"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
