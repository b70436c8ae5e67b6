"""`--check` and `--call`: what is asked, and how the answers and exit codes come."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.build import BuildRequest
from builder.dockerfile.instructions import DockerfileError
from builder.errors import BuilderError
from pybuild.cli.checks import Call, answer, parse_call
from pybuild.errors import UsageError

Ask = Callable[..., int]
BAD = "FROM scratch\nENV a b\n"


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("", None),
        ("build", None),
        ("check", Call("check")),
        ("lint", Call("check")),
        ("outline,format=json", Call("outline", json=True)),
        ("format=json,targets", Call("targets", json=True)),
        ("check,ignorestatus=true", Call("check", ignore_status=True)),
    ],
)
def test_words(text: str, call: Call | None) -> None:
    assert parse_call(text) == call


@pytest.mark.parametrize("text", ["nothing", "check,outline", "check,x=y", "check,format=xml", "check,ignorestatus=2"])
def test_words_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_call(text)
    assert caught.value.hint


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Write files into a context, ask, and return the exit code."""

    def ask(call: str, target: str = "", **files: str) -> int:
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        for name, text in files.items():
            (context / name.replace("_", ".")).write_text(text)
        asked = parse_call(call)
        assert asked is not None
        return answer(tmp_path / "root", BuildRequest(str(context), target=target), asked)

    return ask


def test_a_warning_is_exit_code_1(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("check", Dockerfile=BAD) == 1
    assert capsys.readouterr().out.startswith("Check complete, 1 warning has been found!\n\nWARNING: LegacyKeyValue")


def test_nothing_found_is_exit_code_0(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("check", Dockerfile="FROM scratch\n") == 0
    assert capsys.readouterr().out == "Check complete, no warnings found.\n"


def test_warnings_need_not_fail(ask: Ask) -> None:
    assert ask("check,ignorestatus=true", Dockerfile=BAD) == 0


def test_json(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("check,format=json", Dockerfile=BAD) == 1
    assert [one["ruleName"] for one in json.loads(capsys.readouterr().out)["warnings"]] == ["LegacyKeyValueFormat"]


def test_warnings_that_are_errors(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BuilderError, match="lint violation found for rules: LegacyKeyValueFormat"):
        ask("check", Dockerfile=f"# check=error=true\n{BAD}")
    assert "WARNING: LegacyKeyValueFormat" in capsys.readouterr().out


def test_what_can_not_be_built_shows_what_was_found_before(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DockerfileError, match=">>> WORKDIR"):
        ask("check", Dockerfile=f"{BAD}ENV x=\nWORKDIR ${{x:?no}}\n")
    assert "WARNING: LegacyKeyValueFormat" in capsys.readouterr().out


def test_so_does_what_can_not_be_read(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DockerfileError, match="unknown instruction BADCMD"):
        ask("check", Dockerfile="FROM scratch AS BadStageName\nMAINTAINER me@example.org\nBADCMD\n")
    out = capsys.readouterr().out
    assert out.startswith("Check complete, 2 warnings have been found!\n\nWARNING: StageNameCasing")
    assert "WARNING: MaintainerDeprecated" in out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nCOPY y /\n", "'b'|b "),
        ("FROM scratch\nCOPY https://example.com/x /\n", "URL"),
        ("FROM scratch\nADD --checksum=sha256:00 x /\n", "checksum"),
    ],
)
def test_what_a_build_would_end_with_is_told(ask: Ask, text: str, told: str) -> None:
    with pytest.raises(DockerfileError, match=told):
        ask("check", Dockerfile=text)


def test_of_images_that_are_not_here_nothing_is_wrong(ask: Ask) -> None:
    assert ask("check", Dockerfile="FROM somewhere/else:1\nWORKDIR ${HOME:?}\nCOPY --from=other:2 a b\n") == 0


def test_what_can_not_be_read_is_in_the_json(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DockerfileError):
        ask("check,format=json", Dockerfile="FROM scratch\nBADCMD\n")
    assert json.loads(capsys.readouterr().out)["buildError"]["location"]["ranges"][0]["start"]["line"] == 2


def test_all_stages_are_checked_unless_one_is_asked_for(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    text = "FROM scratch AS a\nENV a b\nFROM scratch AS b\nENV c d\n"
    ask("check", Dockerfile=text)
    assert "2 warnings have" in capsys.readouterr().out
    ask("check", "b", Dockerfile=text)
    assert "1 warning has" in capsys.readouterr().out


def test_the_context_is_looked_at(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    ask("check", Dockerfile="FROM scratch\nCOPY gone /\nCOPY --chmod=644 here /x\n", _dockerignore="gone\n")
    assert 'Attempting to Copy file "gone" that is excluded' in capsys.readouterr().out


def test_nothing_drives_the_terminal(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    ask("check", Dockerfile="FROM scratch\nENV a \x1b[2Jb\n")
    assert "\x1b" not in capsys.readouterr().out


def test_outline_and_targets(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    text = "# a is it\nFROM scratch AS a\nARG X=1\n"
    assert ask("outline", Dockerfile=text) == ask("targets", Dockerfile=text) == 0
    assert capsys.readouterr().out == (
        "TARGET:      a\nDESCRIPTION: is it\n\nBUILD ARG   VALUE   DESCRIPTION\nX           1       \n\n"
        "TARGET      DESCRIPTION\na (default) is it\n"
    )
    assert ask("targets,format=json", Dockerfile=text) == 0
    assert json.loads(capsys.readouterr().out)["targets"][0]["name"] == "a"


def test_standard_output_has_the_answer_alone(tmp_path: Path) -> None:
    """As users call it: the options of a build, the exit code of the answer."""
    import subprocess
    import sys

    (tmp_path / "Dockerfile").write_text(BAD)
    words = [sys.executable, "-m", "pybuild.cli.main", "--root", str(tmp_path / "root"), "build"]
    done = subprocess.run([*words, "--check", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("Check complete, 1 warning has been found!\n")
    done = subprocess.run([*words, "--call", "targets", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "TARGET    DESCRIPTION\n(default) \n")
