"""`# check=`: what silences rules, and for how much of the file."""

import pytest

from builder.checks.facts import Facts
from builder.checks.settings import Settings
from builder.checks.walk import check
from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import DockerfileError

FILE = "FROM scratch as base\ncopy Dockerfile .\n"


def rules(text: str, **build_args: str) -> list[str]:
    return [found.rule for found in check(parse_dockerfile(text), Facts(build_args=build_args)).findings]


@pytest.mark.parametrize(
    ("directive", "left"),
    [
        ("skip=all", []),
        ("skip=all;error=true", []),
        ("skip=ConsistentInstructionCasing,FromAsCasing", []),
        ("skip=ConsistentInstructionCasing", ["FromAsCasing"]),
        ("skip=Nothing", ["FromAsCasing", "ConsistentInstructionCasing"]),
        ("error=true", ["FromAsCasing", "ConsistentInstructionCasing"]),
    ],
)
def test_for_the_file(directive: str, left: list[str]) -> None:
    assert rules(f"# check={directive}\n{FILE}") == left


def test_the_build_argument_takes_the_place_of_the_directive() -> None:
    assert rules(f"# check=skip=all\n{FILE}", BUILDKIT_DOCKERFILE_CHECK="skip=FromAsCasing") == [
        "ConsistentInstructionCasing"
    ]
    assert rules(f"# check=error=true\n{FILE}", BUILDKIT_DOCKERFILE_CHECK="skip=all") == []


def test_a_comment_above_is_for_one_instruction() -> None:
    text = "FROM scratch\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n"
    assert rules(text) == ["LegacyKeyValueFormat"]


def test_the_first_such_comment_counts() -> None:
    text = "FROM scratch\n# x\n# check=skip=X\n# check=skip=all\nENV a b\n"
    assert rules(text) == ["LegacyKeyValueFormat"]


def test_a_broken_one_above_an_instruction_means_nothing() -> None:
    assert rules("FROM scratch\n# check=skip\nENV a b\n") == ["LegacyKeyValueFormat"]


def test_what_comes_after_the_second_semicolon_is_one_option() -> None:
    assert Settings.parse("skip=a;error=true;experimental=x;skip=b").experimental == {"x;skip=b"}


@pytest.mark.parametrize("text", ["skip", "x=y", "error=maybe", "=all", "skip = FromAsCasing"])
def test_nonsense_for_the_file_is_an_error(text: str) -> None:
    with pytest.raises(DockerfileError, match="failed to parse check options") as caught:
        rules(f"# check={text}\n{FILE}")
    assert caught.value.hint is not None


class TestErrors:
    """`error=true`: what ends the build."""

    def violated(self, text: str) -> list[str]:
        return check(parse_dockerfile(text), Facts(all_stages=True)).violated

    def test_lists_the_rules(self) -> None:
        assert self.violated(f"# check=error=true\n{FILE}") == ["ConsistentInstructionCasing", "FromAsCasing"]

    def test_only_when_asked(self) -> None:
        assert self.violated(FILE) == []
        assert self.violated(f"# check=error=false\n{FILE}") == []

    def test_not_for_rules_of_ours(self) -> None:
        assert self.violated("# check=error=true\nFROM scratch\nCOPY --chown=app a /\n") == []


def test_what_can_not_be_built_ends_the_check() -> None:
    report = check(parse_dockerfile("FROM scratch AS X\nENV x=\nENV a b\nWORKDIR ${x:?no}\nENV c d\n"))
    assert [found.rule for found in report.findings] == ["StageNameCasing", "LegacyKeyValueFormat"]
    assert report.error is not None
    assert (report.error.problem, report.error.at.line) == ("x: no", 4)


def test_no_such_target() -> None:
    report = check(parse_dockerfile("FROM scratch AS a\n"), Facts(target="b"))
    assert report.error is not None
    assert "'b'" in report.error.problem
