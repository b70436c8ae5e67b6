"""What a build says about its Dockerfile, and when that ends it."""

from typing import TYPE_CHECKING

import pytest

from builder.dockerfile.instructions import DockerfileError
from builder.progress import Warned

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench, Built


pytestmark = pytest.mark.root


def rules(built: "Built") -> list[tuple[str, int]]:
    return [(found.rule, found.at.line) for found in built.result.findings]


def test_findings_are_events_and_part_of_the_result(bench: "Bench") -> None:
    built = bench.build("FROM scratch\nENV a b\n")
    assert rules(built) == [("LegacyKeyValueFormat", 2)]
    (warned,) = [event for event in built.events if isinstance(event, Warned)]
    assert warned.short.startswith("LegacyKeyValueFormat: ")
    assert warned.short.endswith(" (line 2)")
    assert ">>> ENV a b" in warned.excerpt


def test_a_cached_build_says_the_same(bench: "Bench") -> None:
    text = "FROM scratch\nCOPY --chmod=644 conf /x/\nENV a b\n"
    first = bench.build(text, files={"conf/a": "1"})
    again = bench.build(text)
    assert again.done_again == []
    assert rules(again) == rules(first) == [("PybuildDirectoryMode", 2), ("LegacyKeyValueFormat", 3)]


def test_stages_that_are_not_built_are_not_checked(bench: "Bench") -> None:
    assert rules(bench.build("FROM scratch AS a\nENV a b\nFROM scratch AS b\nENV c d\n", target="b")) == [
        ("LegacyKeyValueFormat", 4)
    ]


def test_what_a_base_image_sets_is_known(bench: "Bench") -> None:
    bench.build('FROM scratch\nENV HOME_OF=/app\nSHELL ["/bin/x", "-c"]\nWORKDIR /srv/x\n', tags=["base:1"])
    text = "FROM base:1\nWORKDIR $HOME_OF\nENV A=$HOME_OFF\nCMD run\nCOPY a b /srv/x\n"
    built = bench.build(text, files={"a": "", "b": ""})
    assert rules(built) == [("UndefinedVar", 3)]
    assert built.result.findings[0].detail.endswith("(did you mean $HOME_OF?)")


def test_a_file_that_is_left_out_is_told_of_before_the_build_misses_it(bench: "Bench") -> None:
    with pytest.raises(Exception, match="gone"):
        bench.build("FROM scratch\nCOPY gone /\n", files={"gone": "", ".dockerignore": "gone\n"})
    assert "CopyIgnoredFile" in bench.told


class TestErrors:
    TEXT = "# check=error=true\nFROM scratch\n{}\n"

    def test_a_warning_can_end_a_build(self, bench: "Bench") -> None:
        with pytest.raises(DockerfileError, match="lint violation found for rules: LegacyKeyValueFormat"):
            bench.build(self.TEXT.format("ENV a b"))
        assert "Warned" in bench.told

    def test_before_anything_is_done(self, bench: "Bench") -> None:
        with pytest.raises(DockerfileError):
            bench.build(self.TEXT.format("COPY Dockerfile /\nENV a b"))
        assert "StepStarted" not in bench.told

    def test_ours_do_not(self, bench: "Bench") -> None:
        built = bench.build(self.TEXT.format("COPY id_rsa /"), files={"id_rsa": ""})
        assert rules(built) == [("PybuildSecretInLayer", 3)]

    def test_a_directive_that_makes_no_sense(self, bench: "Bench") -> None:
        with pytest.raises(DockerfileError, match="failed to parse check options"):
            bench.build("# check=skipp=all\nFROM scratch\n")

    def test_the_build_argument_outranks_the_directive(self, bench: "Bench") -> None:
        built = bench.build(self.TEXT.format("ENV a b"), build_args={"BUILDKIT_DOCKERFILE_CHECK": "skip=all"})
        assert rules(built) == []
