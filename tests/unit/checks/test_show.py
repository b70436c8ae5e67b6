"""What `--check`, `--call=outline` and `--call=targets` print. The shapes are buildx's."""

import base64
import json

from builder.checks.facts import Facts
from builder.checks.outline import list_targets, make_outline
from builder.checks.show import (
    outline_json,
    outline_text,
    report_json,
    report_text,
    targets_json,
    targets_text,
)
from builder.checks.walk import check
from builder.dockerfile import parse_dockerfile

ARGUMENTS = """\

ARG inherited=box
ARG inherited2=box2
ARG unused=abc${inherited2}
# sfx is a suffix
ARG sfx="usy${inherited}"

FROM b${sfx} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
RUN true

FROM alpine${unused} AS second
ARG BAZ
RUN true

FROM scratch AS third
ARG ABC=a
# check=skip=all
ARG password
# alternate_password will show up in the outline
# check=skip=all
ARG alternate_password

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /

FROM second
"""
MOUNTS = """\
FROM busybox AS first
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true

FROM alpine AS second
RUN --mount=type=secret,id=unused --mount=type=ssh,id=ssh2 true

FROM scratch AS third
ARG BAR
RUN --mount=type=secret,id=second${BAR} --mount=type=cache,target=/root/.cache/ true

FROM third AS target
COPY --from=first /foo /
RUN --mount=type=ssh,id=ssh3,required --mount=type=cache,id=apt,target=/x true

FROM second
"""
STAGES = """\
# build defines stage for compiling the binary
FROM alpine AS build
RUN true

FROM --platform=$BUILDPLATFORM busybox as second
RUN false

FROM alpine
RUN false

# binary returns the compiled binary
FROM second AS binary
"""


class TestReport:
    def text(self, dockerfile: str) -> str:
        return report_text(check(parse_dockerfile(dockerfile)), dockerfile)

    def test_nothing_to_say(self) -> None:
        assert self.text("FROM scratch\n") == "Check complete, no warnings found.\n"

    def test_one_warning(self) -> None:
        assert self.text("FROM scratch AS Bad\n") == (
            "Check complete, 1 warning has been found!\n"
            "\n"
            "WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n"
            "Stage name 'Bad' should be lowercase\n"
            "Dockerfile:1\n"
            "--------------------\n"
            "   1 | >>> FROM scratch AS Bad\n"
            "--------------------\n"
        )

    def test_several(self) -> None:
        text = self.text("FROM scratch AS Bad\nENV a \\\n  b\n")
        assert text.startswith("Check complete, 2 warnings have been found!\n")
        assert "   1 |     FROM scratch AS Bad\n   2 | >>> ENV a \\\n   3 | >>>   b\n" in text

    def test_an_error_is_told_by_others(self) -> None:
        assert self.text("FROM scratch\nENV x=\nWORKDIR ${x:?y}\n") == ""

    def test_json(self) -> None:
        dockerfile = b"FROM scratch\nENV a \\\n  b\n"
        found = json.loads(report_json(check(parse_dockerfile(dockerfile)), dockerfile))
        assert found == {
            "warnings": [
                {
                    "ruleName": "LegacyKeyValueFormat",
                    "description": "Legacy key/value format with whitespace separator should not be used",
                    "url": "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/",
                    "detail": '"ENV key=value" should be used instead of legacy "ENV key value" format',
                    "location": {
                        "ranges": [
                            {"start": {"line": 2}, "end": {"line": 2}},
                            {"start": {"line": 3}, "end": {"line": 3}},
                        ]
                    },
                }
            ],
            "sources": [
                {"filename": "Dockerfile", "language": "Dockerfile", "data": base64.b64encode(dockerfile).decode()}
            ],
        }

    def test_json_of_what_the_directive_makes_an_error(self) -> None:
        dockerfile = b"# check=error=true\nFROM scratch AS X\n"
        found = json.loads(report_json(check(parse_dockerfile(dockerfile)), dockerfile))
        assert found["buildError"]["message"] == "lint violation found for rules: StageNameCasing"

    def test_json_of_a_file_that_can_not_be_built(self) -> None:
        dockerfile = b"FROM scratch\nWORKDIR ${x:?y}\n"
        found = json.loads(report_json(check(parse_dockerfile(dockerfile)), dockerfile))
        ranges = [{"start": {"line": 2}, "end": {"line": 2}}]
        assert found["buildError"] == {"message": "x: y", "location": {"ranges": ranges}}


class TestOutline:
    def test_arguments_of_the_target_and_what_it_is_made_from(self) -> None:
        outline = make_outline(parse_dockerfile(ARGUMENTS), Facts({"BAR": "678"}, target="target"))
        assert (outline.name, outline.description) == ("target", "defines build target")
        assert [(one.name, one.value, one.description, one.at.line) for one in outline.arguments] == [
            ("inherited", "box", "", 2),
            ("sfx", "usybox", "is a suffix", 6),
            ("FOO", "123", "", 10),
            ("BAR", "678", "is a number", 12),
            ("ABC", "a", "", 20),
            ("password", "", "", 22),
            ("alternate_password", "", "will show up in the outline", 25),
        ]

    def test_mounts(self) -> None:
        outline = make_outline(parse_dockerfile(MOUNTS), Facts({"BAR": "678"}, target="target"))
        assert [(one.name, one.required) for one in outline.secrets] == [("passwd", True), ("second678", False)]
        assert [(one.name, one.required) for one in outline.agents] == [("default", False), ("ssh3", True)]
        assert [one.name for one in outline.caches] == ["/root/.cache", "apt"]

    def test_arguments_that_are_made_from_each_other(self) -> None:
        text = "ARG FOO=123\nARG ABC=abc\nARG DEF=def\nARG FOO=${FOO}${ABC}\nARG BAR=${FOO}456\n"
        text += "ARG FOO=${FOO}456${BAR}\nFROM scratch\nARG FOO\nARG INFOO=123\nARG INBAR=${INFOO}456\n"
        outline = make_outline(parse_dockerfile(f"{text}ARG INFOO=${{INFOO}}456${{INBAR}}\n"), Facts())
        assert {one.name: one.value for one in outline.arguments} == {
            "ABC": "abc",
            "BAR": "123abc456",
            "FOO": "123abc456123abc456",
            "INBAR": "123456",
            "INFOO": "123456123456",
        }

    def test_text(self) -> None:
        text = "ARG A=1\n# app is it\nFROM b$A AS app\n# B is b\nARG B\n"
        text += "RUN --mount=type=secret,id=s,required --mount=type=ssh --mount=type=cache,target=/c x\n"
        assert outline_text(make_outline(parse_dockerfile(text), Facts())) == (
            "TARGET:      app\n"
            "DESCRIPTION: is it\n"
            "\n"
            "BUILD ARG   VALUE   DESCRIPTION\n"
            "A           1       \n"
            "B                   b\n"
            "\n"
            "SECRET   REQUIRED\n"
            "s        true\n"
            "\n"
            "SSH       REQUIRED\n"
            "default   \n"
            "\n"
            "CACHE MOUNT\n"
            "/c\n"
            "\n"
        ).replace("B                   b\n", "B                   is b\n")

    def test_json(self) -> None:
        dockerfile = b"FROM scratch\nARG A=1\nRUN --mount=type=cache,target=/c x\n"
        found = json.loads(outline_json(make_outline(parse_dockerfile(dockerfile), Facts()), dockerfile))
        assert found == {
            "args": [{"name": "A", "value": "1", "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}}],
            "cache": [{"ID": "/c", "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]}}],
            "sources": [base64.b64encode(dockerfile).decode()],
        }


class TestTargets:
    def test_text(self) -> None:
        assert targets_text(list_targets(parse_dockerfile(STAGES))) == (
            "TARGET           DESCRIPTION\n"
            "build            defines stage for compiling the binary\n"
            "second           \n"
            "                 \n"
            "binary (default) returns the compiled binary\n"
        )

    def test_a_last_stage_without_a_name(self) -> None:
        assert targets_text(list_targets(parse_dockerfile("FROM a\n"))) == "TARGET    DESCRIPTION\n(default) \n"

    def test_json(self) -> None:
        found = json.loads(targets_json(list_targets(parse_dockerfile(STAGES)), STAGES.encode()))
        assert [target.get("name") for target in found["targets"]] == ["build", "second", None, "binary"]
        assert found["targets"][1] == {
            "name": "second",
            "base": "busybox",
            "platform": "$BUILDPLATFORM",
            "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]},
        }
        assert found["targets"][3]["default"] is True
        assert found["sources"] == [base64.b64encode(STAGES.encode()).decode()]
