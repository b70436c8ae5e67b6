"""The 22 rules of BuildKit (reference/builder.md §1.9): each speaks, is silent, and can be silenced.

Names, texts and lines are what BuildKit says of the same files.
"""

from collections.abc import Callable

import pytest

from builder.checks.facts import BaseFacts, Facts
from builder.checks.findings import Finding
from builder.checks.rules import RULES
from builder.checks.walk import check
from builder.dockerfile import parse_dockerfile
from builder.dockerfile.ignore import IgnoreRules
from registry.model import Platform

Found = Callable[..., list[Finding]]
KNOWN = BaseFacts({"PATH": "/bin"})


def facts(**more: object) -> Facts:
    return Facts(**{"all_stages": True, "base": lambda name: KNOWN, **more})  # type: ignore[arg-type]  # as given


class Rule:
    """What all tests of a rule do: (rule, text, line) of each finding."""

    rule = ""
    can_be_silenced_above = True

    def of(self, found: Found, text: str, given: Facts | None = None) -> list[tuple[int, str]]:
        assert self.rule in RULES
        return [(one.at.line, one.detail) for one in found(text, given or facts()) if one.rule == self.rule]

    def silenced(self, found: Found, text: str, given: Facts | None = None) -> bool:
        """Whether the rule, and all of them, can be silenced for the file."""
        return not any(self.of(found, f"# check=skip={skip}\n{text}", given) for skip in (f"X,{self.rule}", "all"))

    def silenced_above(self, found: Found, before: str, text: str, given: Facts | None = None) -> bool:
        """Whether a comment above the instruction silences the rule."""
        return not self.of(found, f"{before}# check=skip={self.rule}\n{text}", given)


class TestStageNameCasing(Rule):
    rule = "StageNameCasing"

    def test_speaks(self, found: Found) -> None:
        text = "FROM scratch AS BadStageName\n"
        assert self.of(found, text) == [(1, "Stage name 'BadStageName' should be lowercase")]
        assert self.silenced(found, text)
        assert self.silenced_above(found, "", text)

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "FROM scratch AS base3\nFROM scratch\n") == []


class TestFromAsCasing(Rule):
    rule = "FromAsCasing"

    def test_speaks(self, found: Found) -> None:
        assert self.of(found, "FROM scratch as a\n") == [(1, "'as' and 'FROM' keywords' casing do not match")]
        assert self.of(found, "from scratch AS a\n") == [(1, "'AS' and 'from' keywords' casing do not match")]
        assert self.of(found, "FROM scratch As a\n") == [(1, "'As' and 'FROM' keywords' casing do not match")]
        assert self.silenced(found, "FROM scratch as a\n")
        assert self.silenced_above(found, "", "FROM scratch as a\n")

    @pytest.mark.parametrize("line", ["FROM scratch AS a", "from scratch as a", "From scratch as a", "FROM scratch"])
    def test_is_silent(self, found: Found, line: str) -> None:
        assert self.of(found, line) == []


class TestNoEmptyContinuation(Rule):
    rule = "NoEmptyContinuation"
    text = "FROM scratch\nCOPY Dockerfile \\\n\n.\nCOPY Dockerfile \\\n.\n"

    def test_speaks_of_the_last_line(self, found: Found) -> None:
        assert self.of(found, self.text) == [(4, "Empty continuation line")]
        assert self.silenced(found, self.text)

    def test_a_comment_above_does_not_silence_it(self, found: Found) -> None:
        assert not self.silenced_above(found, "FROM scratch\n", "COPY Dockerfile \\\n\n.\n")

    def test_is_silent_at_comments(self, found: Found) -> None:
        assert self.of(found, "FROM scratch\nCOPY a \\\n# why\n.\n") == []


class TestConsistentInstructionCasing(Rule):
    rule = "ConsistentInstructionCasing"

    @pytest.mark.parametrize(
        ("text", "line", "name", "kind"),
        [
            ("From scratch as base\nFROM scratch AS base2\n", 1, "From", "uppercase"),
            ("FROM scratch\ncopy a /foo\nCOPY a /bar\n", 2, "copy", "uppercase"),
            ("frOM scratch as base\nfrom scratch as base2\n", 1, "frOM", "lowercase"),
            ("from scratch\nCOPY a /foo\ncopy a /bar\n", 2, "COPY", "lowercase"),
            ("FROM scratch\ncopy a /foo\ncopy a /bar\n", 1, "FROM", "lowercase"),
            ("FROM scratch\ncopy a /foo\n", 2, "copy", "uppercase"),
        ],
    )
    def test_speaks(self, found: Found, text: str, line: int, name: str, kind: str) -> None:
        told = f"Command '{name}' should match the case of the command majority ({kind})"
        assert self.of(found, text) == [(line, told)]
        assert self.silenced(found, text)

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "from scratch\ncopy a /b\n") == []
        assert self.of(found, "FROM scratch\nRUN <<E\nenv\nE\n") == []

    def test_arguments_before_the_first_stage_do_not_count(self, found: Found) -> None:
        assert self.of(found, "arg a\narg b\nFROM scratch\n") == []


class TestDuplicateStageName(Rule):
    rule = "DuplicateStageName"
    text = "FROM scratch AS b\nFROM scratch AS B\n"

    def test_speaks_of_the_second(self, found: Found) -> None:
        assert self.of(found, self.text) == [(2, 'Duplicate stage name "b", stage names should be unique')]
        assert self.silenced(found, self.text)

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "FROM scratch AS b1\nFROM scratch AS b2\nFROM scratch\nFROM scratch\n") == []


class TestReservedStageName(Rule):
    rule = "ReservedStageName"
    text = "FROM scratch AS scratch\nFROM alpine AS context\n"

    def test_speaks(self, found: Found) -> None:
        told = "Stage name should not use the same name as reserved stage "
        assert self.of(found, self.text) == [(1, told + '"scratch"'), (2, told + '"context"')]
        assert self.silenced(found, self.text)

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "FROM scratch\nFROM scratch AS a\n") == []


class TestJSONArgsRecommended(Rule):
    rule = "JSONArgsRecommended"

    @pytest.mark.parametrize("name", ["CMD", "ENTRYPOINT", "cmd"])
    def test_speaks(self, found: Found, name: str) -> None:
        told = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        assert self.of(found, f"FROM scratch\n{name} mycommand\n") == [(2, told)]
        assert self.silenced(found, f"FROM scratch\n{name} mycommand\n")
        assert self.silenced_above(found, "FROM scratch\n", f"{name} mycommand\n")

    @pytest.mark.parametrize(
        "text",
        [
            'FROM scratch\nCMD ["x"]\n',
            'FROM scratch\nSHELL ["/usr/bin/customshell"]\nCMD x\n',
            'FROM scratch AS base\nSHELL ["/usr/bin/customshell"]\nFROM base\nENTRYPOINT x\n',
            "FROM scratch\nHEALTHCHECK CMD x\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []

    def test_is_silent_when_the_base_image_has_a_shell(self, found: Found) -> None:
        given = facts(base=lambda name: BaseFacts(shell=("/bin/bash", "-c")))
        assert self.of(found, "FROM a\nCMD x\n", given) == []


class TestMaintainerDeprecated(Rule):
    rule = "MaintainerDeprecated"
    text = "FROM scratch\nMAINTAINER me@example.org\n"

    def test_speaks(self, found: Found) -> None:
        assert self.of(found, self.text) == [(2, "Maintainer instruction is deprecated in favor of using label")]
        assert self.silenced(found, self.text)
        assert self.silenced_above(found, "FROM scratch\n", "MAINTAINER me@example.org\n")

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, 'FROM scratch\nLABEL org.opencontainers.image.authors="me@example.org"\n') == []


class TestUndefinedArgInFrom(Rule):
    rule = "UndefinedArgInFrom"

    def test_speaks(self, found: Found) -> None:
        text = "FROM --platform=linux/amd64$BULIDPLATFORM scratch\n"
        told = "FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"
        assert self.of(found, text) == [(1, told)]
        assert self.silenced(found, text)
        assert self.silenced_above(found, "", text)

    def test_suggests_what_was_declared(self, found: Found) -> None:
        text = "ARG MY_ARCH=amd64\nFROM --platform=linux/amd64${MYARCH} busybox\n"
        assert self.of(found, text) == [(2, "FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)")]

    def test_suggests_nothing_that_is_far(self, found: Found) -> None:
        text = "ARG tag=latest\nFROM busybox:${tag}${version} AS b\n"
        assert self.of(found, text) == [(2, "FROM argument 'version' is not declared")]

    @pytest.mark.parametrize(
        "text",
        [
            "ARG base=scratch\nFROM $base\n",
            "FROM --platform=$BUILDPLATFORM scratch\n",
            "ARG DEBUG\nFROM scratch${DEBUG}\n",
            "ARG DEBUG\nFROM scra${DEBUG:-tch}\n",
            'ARG DEBUG=""\nFROM scratch${DEBUG-@bogus}\n',
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []

    def test_nothing_can_be_built_for_no_platform(self) -> None:
        report = check(parse_dockerfile("FROM --platform=$BULIDPLATFORM scratch\n"))
        assert [one.rule for one in report.findings] == [self.rule]
        assert report.error is not None
        assert report.error.problem == "empty platform value from expression $BULIDPLATFORM"


class TestWorkdirRelativePath(Rule):
    rule = "WorkdirRelativePath"
    text = "FROM scratch\nWORKDIR app/\nWORKDIR b\n"

    def test_speaks_once(self, found: Found) -> None:
        told = 'Relative workdir "app/" can have unexpected results if the base image changes'
        assert self.of(found, self.text) == [(2, told)]
        assert self.silenced(found, self.text)
        assert self.silenced_above(found, "FROM scratch\n", "WORKDIR app/\n")

    def test_tells_what_the_variables_made(self, found: Found) -> None:
        told = 'Relative workdir "a/b" can have unexpected results if the base image changes'
        assert self.of(found, "FROM scratch\nARG A=a\nWORKDIR $A/b\n") == [(3, told)]

    @pytest.mark.parametrize(
        "text",
        [
            "FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR subdir/\n",
            "FROM scratch\nENV A=/a\nWORKDIR ${A}/b\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []

    def test_is_silent_when_the_base_image_may_set_the_variable(self, found: Found) -> None:
        assert self.of(found, "FROM unknown\nWORKDIR $APP\n", Facts()) == []


class TestUndefinedVar(Rule):
    rule = "UndefinedVar"

    def test_speaks(self, found: Found) -> None:
        text = "FROM alpine\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n"
        assert self.of(found, text) == [(2, "Usage of undefined variable '$foo'")]
        assert self.silenced(found, text)
        assert self.silenced_above(found, "FROM alpine\n", "COPY $foo .\n")

    def test_suggests_what_is_near(self, found: Found) -> None:
        text = "FROM alpine\nARG DIR_BINARIES=b/\nARG DIR_ASSETS=a/\nCOPY $DIR_ASSET .\n"
        assert self.of(found, text) == [(4, "Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?)")]

    def test_knows_path(self, found: Found) -> None:
        told = "Usage of undefined variable '$PAHT' (did you mean $PATH?)"
        assert self.of(found, "FROM alpine\nENV PATH=$PAHT:/tmp/bin\n") == [(2, told)]
        assert self.of(found, "FROM scratch\nENV PATH=$PAHT:/tmp/bin\n") == [(2, told)]

    @pytest.mark.parametrize(
        "text",
        [
            "ENV x=$y",
            "ENV $y=x",
            "LABEL x=${y:-z}",
            "WORKDIR /$y",
            "USER $y",
            "VOLUME $y",
            "STOPSIGNAL $y",
            "ARG x=$y",
            "COPY --chown=$y a b",
            "ADD --chmod=$y a b",
            "ADD --checksum=$y http://a b",
            "RUN --mount=type=cache,target=$y x",
            "COPY <<E /a\n$y\nE",
        ],
    )
    def test_knows_where_variables_are_expanded(self, found: Found, text: str) -> None:
        assert [line for line, _ in self.of(found, f"FROM alpine\n{text}\n")] == [2]

    @pytest.mark.parametrize(
        "text",
        [
            "FROM alpine\nARG foo\nCOPY Dockerfile${foo} .\n",
            "FROM alpine AS base\nARG foo=Dockerfile\nFROM base\nCOPY $foo .\n",
            "FROM alpine\nRUN echo $PATH $foo\n",
            "FROM alpine\nCMD echo $foo\n",
            "FROM alpine\nEXPOSE $foo\n",
            "FROM alpine\nCOPY <<'E' /a\n$foo\nE\n",
            "FROM alpine\nENV a='$foo' b=\\$foo\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []

    def test_each_word_is_told(self, found: Found) -> None:
        assert len(self.of(found, "FROM alpine\nCOPY $foo/a $foo/b /\n")) == 2

    def test_an_unknown_base_image_may_set_anything(self, found: Found) -> None:
        assert self.of(found, "FROM unknown\nENV PATH=$JAVA_HOME/bin:$PATH\nWORKDIR ${X:?no}\n", Facts()) == []

    def test_what_the_base_image_sets_is_defined(self, found: Found) -> None:
        given = facts(base=lambda name: BaseFacts({"JAVA_HOME": "/j"}))
        assert self.of(found, "FROM java\nENV PATH=$JAVA_HOME/bin:$PATH\n", given) == []

    def test_stages_that_the_target_does_not_need_are_left_out(self, found: Found) -> None:
        text = "FROM scratch AS first\nCOPY $foo .\nFROM scratch AS second\nCOPY $bar .\n"
        assert [line for line, _ in self.of(found, text)] == [2, 4]
        assert [line for line, _ in self.of(found, text, Facts())] == [4]
        assert [line for line, _ in self.of(found, text, Facts(target="first", all_stages=True))] == [2]

    def test_stages_that_are_copied_from_are_needed(self, found: Found) -> None:
        text = "FROM scratch AS a\nCOPY $x .\nFROM scratch AS b\nCOPY $y .\n"
        text += "FROM scratch\nCOPY --from=a / /\nRUN --mount=from=1,target=/m x\n"
        assert [line for line, _ in self.of(found, text, Facts())] == [2, 4]


class TestMultipleInstructionsDisallowed(Rule):
    rule = "MultipleInstructionsDisallowed"

    @pytest.mark.parametrize("name", ["CMD", "ENTRYPOINT", "HEALTHCHECK CMD"])
    def test_speaks_of_the_one_that_does_not_count(self, found: Found, name: str) -> None:
        text = f'FROM scratch\n{name} ["/myapp"]\nCOPY a /b\n{name} ["/myotherapp"]\n'
        word = name.split(maxsplit=1)[0]
        told = (
            f"Multiple {word} instructions should not be used in the same stage because only the last one will be used"
        )
        assert self.of(found, text) == [(2, told)]
        assert self.silenced(found, text)

    def test_a_comment_above_the_last_one_silences_it(self, found: Found) -> None:
        assert self.silenced_above(found, 'FROM scratch\nCMD ["a"]\n', 'CMD ["b"]\n')

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, 'FROM scratch AS a\nCMD ["a"]\nFROM a AS b\nCMD ["b"]\n') == []


class TestLegacyKeyValueFormat(Rule):
    rule = "LegacyKeyValueFormat"

    @pytest.mark.parametrize("name", ["ENV", "LABEL", "env"])
    def test_speaks(self, found: Found, name: str) -> None:
        told = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
        assert self.of(found, f"FROM scratch\n{name} a b\n") == [(2, told)]
        assert self.silenced(found, f"FROM scratch\n{name} a b\n")
        assert self.silenced_above(found, "FROM scratch\n", f"{name} a b\n")

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "FROM scratch\nENV testkey=value b='c d'\nLABEL key=value\n") == []

    def test_triggers_speak_where_they_run(self, found: Found) -> None:
        text = "FROM scratch AS a\nONBUILD ENV x y\nFROM a\n"
        assert [line for line, _ in self.of(found, text)] == [3]


class TestInvalidBaseImagePlatform(Rule):
    rule = "InvalidBaseImagePlatform"

    def given(self, platform: str) -> Facts:
        base = BaseFacts(platform=Platform.parse(platform))
        return facts(base=lambda name: base, platform=Platform.parse("linux/arm64"))

    def test_speaks(self, found: Found) -> None:
        told = 'Base image busybox:1 was pulled with platform "linux/amd64", expected "linux/arm64" for current build'
        assert self.of(found, "FROM busybox:1\n", self.given("linux/amd64")) == [(1, told)]
        assert self.silenced(found, "FROM busybox:1\n", self.given("linux/amd64"))

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "FROM busybox:1\n", self.given("linux/arm64/v8")) == []
        assert self.of(found, "FROM --platform=linux/amd64 busybox:1\n", self.given("linux/amd64")) == []


class TestRedundantTargetPlatform(Rule):
    rule = "RedundantTargetPlatform"

    @pytest.mark.parametrize("word", ["$TARGETPLATFORM", "${TARGETPLATFORM}"])
    def test_speaks(self, found: Found, word: str) -> None:
        text = f"FROM --platform={word} scratch\n"
        told = f"Setting platform to predefined {word} in FROM is redundant as this is the default behavior"
        assert self.of(found, text) == [(1, told)]
        assert self.silenced(found, text)
        assert self.silenced_above(found, "", text)

    @pytest.mark.parametrize("word", ["$BUILDPLATFORM", "linux/$TARGETARCH", "$TARGETPLATFORM$TARGETVARIANT"])
    def test_is_silent(self, found: Found, word: str) -> None:
        assert self.of(found, f"FROM --platform={word} scratch\n") == []


class TestSecretsUsedInArgOrEnv(Rule):
    rule = "SecretsUsedInArgOrEnv"

    @pytest.mark.parametrize(
        "name",
        ["SUPER_Secret", "password", "apikey", "git_key", "auth", "DB_PASSWD", "aws_credentials_x", "TOKEN", "pword"],
    )
    @pytest.mark.parametrize("instruction", ["ENV", "ARG"])
    def test_speaks(self, found: Found, instruction: str, name: str) -> None:
        told = f'Do not use ARG or ENV instructions for sensitive data ({instruction} "{name}")'
        assert self.of(found, f"FROM scratch\n{instruction} {name}=x\n") == [(2, told)]

    @pytest.mark.parametrize(
        "name", ["PUBLIC_KEY", "public_token", "secret_File", "AUTH_MODULE_VERSION", "sunflower", "keyboard", "AUTHOR"]
    )
    def test_is_silent(self, found: Found, name: str) -> None:
        assert self.of(found, f"FROM scratch\nENV {name}=x\nARG {name}\n") == []

    def test_can_be_silenced(self, found: Found) -> None:
        assert self.silenced(found, "FROM scratch\nENV password=x\nARG token\n")
        assert self.silenced_above(found, "FROM scratch\n", "ARG password\n")
        assert self.of(found, "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv // why not\nENV password=x\n") == []

    def test_before_the_first_stage_it_is_in_no_image(self, found: Found) -> None:
        assert self.of(found, "ARG TOKEN\nFROM scratch\n") == []

    def test_each_name_is_told(self, found: Found) -> None:
        assert len(self.of(found, "FROM scratch\nENV password=bar secret=baz x=y\n")) == 2


class TestInvalidDefaultArgInFrom(Rule):
    rule = "InvalidDefaultArgInFrom"

    @pytest.mark.parametrize(
        ("text", "argument", "image"),
        [
            ("ARG VERSION\nFROM busybox:$VERSION\n", {"VERSION": "latest"}, "busybox:$VERSION"),
            ("ARG IMAGE\nFROM $IMAGE\n", {"IMAGE": "busybox:latest"}, "$IMAGE"),
            ('ARG SFX="box:"\nFROM busy${SFX}\n', {"SFX": "box:latest"}, "busy${SFX}"),
        ],
    )
    def test_speaks(self, found: Found, text: str, argument: dict[str, str], image: str) -> None:
        given = facts(build_args=argument)
        told = f"Default value for ARG {image} results in empty or invalid base image name"
        assert self.of(found, text, given) == [(2, told)]
        assert self.silenced(found, text, given)

    @pytest.mark.parametrize(
        "text",
        [
            'ARG VERSION="latest"\nFROM busybox:${VERSION}\n',
            'ARG VARIANT=""\nFROM busybox:stable${VARIANT}\n',
            "ARG VARIANT\nFROM busybox:stable${VARIANT}\n",
            "FROM scratch\nFROM scratch AS a\nFROM a\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text, facts(build_args={"VARIANT": "-musl"})) == []


class TestFromPlatformFlagConstDisallowed(Rule):
    rule = "FromPlatformFlagConstDisallowed"

    def test_speaks(self, found: Found) -> None:
        text = "FROM --platform=linux/amd64 scratch\n"
        assert self.of(found, text) == [(1, 'FROM --platform flag should not use constant value "linux/amd64"')]
        assert self.silenced(found, text)
        assert self.silenced_above(found, "", text)

    @pytest.mark.parametrize(
        "text",
        [
            "FROM --platform=linux/amd64 scratch AS my_amd64_stage\n",
            "FROM --platform=linux/amd64 scratch AS linux\n",
            "FROM --platform=$BUILDPLATFORM scratch\n",
            "FROM scratch\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []


class TestCopyIgnoredFile(Rule):
    rule = "CopyIgnoredFile"

    def given(self, ignore: str) -> Facts:
        return facts(ignore=IgnoreRules.parse(ignore))

    def test_speaks(self, found: Found) -> None:
        text = "FROM scratch\nCOPY Dockerfile .\nADD ./Dockerfile /windy\n"
        told = 'file "Dockerfile" that is excluded by .dockerignore'
        given = self.given("Dockerfile\n")
        assert self.of(found, text, given) == [(2, f"Attempting to Copy {told}"), (3, f"Attempting to Add {told}")]
        assert self.silenced(found, text, given)
        assert self.silenced_above(found, "FROM scratch\n", "COPY Dockerfile .\n", given)

    def test_speaks_of_a_file_below_an_ignored_directory(self, found: Found) -> None:
        assert len(self.of(found, "FROM scratch\nCOPY a/b/c .\n", self.given("a\n"))) == 1

    def test_speaks_of_the_whole_context_when_nothing_of_it_is_left(self, found: Found) -> None:
        told = 'Attempting to Copy file "." that is excluded by .dockerignore'
        assert self.of(found, "FROM scratch\nCOPY . .\n", self.given("*\n")) == [(2, told)]
        assert self.of(found, "FROM scratch\nCOPY . .\n", self.given(".*\n")) == []

    @pytest.mark.parametrize(
        ("text", "ignore"),
        [
            ("COPY Dockerfile /foobar", "foobar\n"),
            ("COPY ./Dockerfile .", "**\n!Dockerfile\n"),
            ("COPY . .", "**\n!Dockerfile\n"),
            ("COPY --from=alpine foo .", "foo\n"),
            ("ADD https://example.com/foo .", "**\n"),
            ("COPY <<foo .\nfoo", "foo\n"),
            ("COPY foo .", ""),
        ],
    )
    def test_is_silent(self, found: Found, text: str, ignore: str) -> None:
        assert self.of(found, f"FROM scratch\n{text}\n", self.given(ignore)) == []


class TestInvalidDefinitionDescription(Rule):
    rule = "InvalidDefinitionDescription"

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("# bar this is the bar\nARG foo=bar\nFROM scratch\n", "ARG should follow the format: `# foo"),
            ("# BasE is the base\nFROM scratch AS base\n", "FROM should follow the format: `# base"),
            ("FROM scratch\n# a bad comment\nARG foo=baz bar=qux\n", "ARG should follow the format: `# <arg_key>"),
        ],
    )
    def test_speaks_when_asked(self, found: Found, text: str, told: str) -> None:
        for asked in ("InvalidDefinitionDescription", "all"):
            (one,) = self.of(found, f"# check=skip=all;experimental={asked}\n{text}")
            assert one[1] == f"Comment for {told} <description>`"

    def test_can_be_asked_for_above(self, found: Found) -> None:
        text = "FROM scratch\n# check=experimental=InvalidDefinitionDescription\n# x\nARG y\n"
        assert [line for line, _ in self.of(found, text)] == [4]

    def test_is_experimental(self, found: Found) -> None:
        assert self.of(found, "# bar\nARG foo=bar\nFROM scratch\n") == []

    @pytest.mark.parametrize(
        "text",
        [
            "# foo this is the foo\nARG foo=bar\nFROM scratch\n",
            "FROM scratch\n# baz this is the baz\nARG foo=baz bar=qux baz=quux\n",
            "FROM scratch\n# not for it\n#\nARG bit=bat\n",
            "FROM scratch\n# anything\nCOPY a .\n",
            "# anything\nFROM scratch\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, f"# check=experimental=all\n{text}") == []


class TestExposeProtoCasing(Rule):
    rule = "ExposeProtoCasing"
    text = "FROM scratch\nEXPOSE 80/TcP 8080/TCP 8080/udp\n"

    def test_speaks(self, found: Found) -> None:
        assert self.of(found, self.text) == [
            (2, "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase"),
            (2, "Defined protocol '8080/TCP' in EXPOSE instruction should be lowercase"),
        ]
        assert self.silenced(found, self.text)
        assert self.silenced_above(found, "FROM scratch\n", "EXPOSE 80/TCP\n")

    def test_speaks_of_what_a_variable_brings(self, found: Found) -> None:
        assert len(self.of(found, 'FROM scratch\nENV P="80/TCP 81/UDP"\nEXPOSE $P\n')) == 2

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "FROM scratch\nEXPOSE 80 81/tcp 82/udp 83/sctp\n") == []


class TestExposeInvalidFormat(Rule):
    rule = "ExposeInvalidFormat"
    text = "FROM scratch\nEXPOSE 127.0.0.1:80:80 [::1]:8080:8080 5000:5000 8000\n"

    def test_speaks(self, found: Found) -> None:
        told = "EXPOSE instruction should not define an IP address or host-port mapping, found "
        words = ("'127.0.0.1:80:80'", "'5000:5000'", "'[::1]:8080:8080'")
        assert self.of(found, self.text) == [(2, told + word) for word in words]
        assert self.silenced(found, self.text)
        assert self.silenced_above(found, "FROM scratch\n", "EXPOSE 1:2\n")

    def test_is_silent(self, found: Found) -> None:
        assert self.of(found, "FROM scratch\nEXPOSE 80 8000-8010/tcp\n") == []


def test_all_rules_are_tested_here() -> None:
    tested = {kind.rule for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Rule)}
    assert tested - {""} == {rule.name for rule in RULES.values() if not rule.ours}
    assert len(tested - {""}) == 22
