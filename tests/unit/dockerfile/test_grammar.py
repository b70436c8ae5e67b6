"""The grammar's tables are current and cheap; no text at all makes the parser do anything but parse or complain."""

import importlib.resources
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builder.dockerfile
from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import DockerfileError
from builder.dockerfile.parser import USAGE
from builder.dockerfile.tables import compiled, head, parser


def test_tables_belong_to_this_grammar_and_this_lark() -> None:
    kept = importlib.resources.files("builder.dockerfile").joinpath("grammar.tables").read_bytes()
    assert kept.startswith(head() + b"\n"), "run: python -m builder.dockerfile.tables"


def test_another_lark_makes_the_same_parser_from_the_grammar() -> None:
    for line in (
        "FROM --platform=x a AS b",
        "RUN --mount=x -- y",
        'CMD ["a"]',
        "ENV a=b c",
        "HEALTHCHECK --retries=1 CMD x",
    ):
        assert compiled().parse(line, start="instruction") == parser().parse(line, start="instruction")


def test_lark_is_not_loaded_before_something_is_parsed() -> None:
    rooms = "builder.dockerfile, builder.dockerfile.expand, builder.dockerfile.ignore"
    script = f"import sys, {rooms}; print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


ORDINARY = """\
# syntax=docker/dockerfile:1
ARG PYTHON=3.11
FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 \\
    LANG=C.UTF-8
RUN --mount=type=cache,target=/root/.cache \\
    apt-get update && apt-get install -y gcc
WORKDIR /src
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY --chown=app:app . .
RUN make

FROM python:${PYTHON}
COPY --from=build /src /srv
LABEL org.opencontainers.image.title="app" version="1"
USER app
EXPOSE 8000/tcp
HEALTHCHECK --interval=30s CMD curl -f localhost:8000
ENTRYPOINT ["python", "-m", "app"]
CMD ["--port", "8000"]
"""


def test_tokens_of_lark_stay_inside() -> None:
    def check(value: object) -> None:
        assert isinstance(value, int | tuple | msgspec.Struct | None) or type(value) is str, value
        if isinstance(value, tuple):
            for each in value:
                check(each)
        elif isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                check(getattr(value, name))

    more = 'ARG a b=c\nENV a b\nSHELL ["x"]\nADD a b\nVOLUME a\nSTOPSIGNAL 9\nONBUILD USER a\nMAINTAINER m\n'
    check(parse_dockerfile(ORDINARY + more))


_WORD = st.one_of(
    st.sampled_from(list(USAGE)),
    st.sampled_from(
        ["AS", "NONE", "--from=x", "--mount=", "--mount=type=cache,target=/x", "--chmod=7", "--link", "--"]
    ),
    st.sampled_from(
        ["<<EOF", "<<-'E'", "EOF", "#", "\\", "\\\n", "\n", "`", "[", '["a"]', '["a", 1]', "a=b", "'", '"']
    ),
    st.sampled_from(["=", "$x", "${x:-", "# escape=`\n", "\t", "\r\n", "\f", "\x85", "\u2028", "\0", "\ufeff"]),
    st.text(max_size=6),
)


def complaint(text: str | bytes) -> DockerfileError | None:
    try:
        parse_dockerfile(text)
    except DockerfileError as error:
        return error
    return None


@settings(max_examples=300, deadline=1000)
@given(st.one_of(st.lists(_WORD, max_size=25).map(" ".join), st.lists(_WORD, max_size=25).map("".join), st.text()))
def test_any_text_parses_or_is_a_fault(text: str) -> None:
    for whole in (text, f"FROM base\n{text}"):
        error = complaint(whole)
        assert error is None or (1 <= error.at.line <= whole.count("\n") + 1 and error.at.column >= 1)


@settings(max_examples=100, deadline=1000)
@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_a_fault(content: bytes) -> None:
    error = complaint(b"FROM base\nRUN " + content)
    assert error is None or error.at.line >= 1


@pytest.mark.parametrize(
    "text",
    [
        "FROM base\n" + "RUN x\n" * 20_000,
        "FROM base\nRUN a" + " \\\n b" * 50_000,
        "#\n" * 100_000 + "FROM base\n",
        "FROM base\n" + "# a\n" * 100_000 + "RUN x\n",
        "FROM base\nRUN a \\\n" + "\n" * 100_000 + "b",
        "FROM base\nRUN <<E\n" + "x\n" * 100_000 + "E\n",
        "FROM base\nCMD " + "[" * 60_000,
        "FROM base\nCMD [" + '"a",' * 15_000 + "'b']",
        "FROM base\nENV " + "a='b' " * 10_000 + '"',
        "FROM base\nCOPY " + '--exclude="a' * 5_000,
        "FROM base\nRUN " + "<<A " * 2_000 + "\n" + "A\n" * 2_000,
        "FROM base\nRUN <<" + "'" * 50_000,
        "FROM base\nRUN --mount=" + "ro," * 20_000 + "x",
    ],
    ids=range(13),
)
def test_time_grows_with_the_text_only(text: str) -> None:
    started = time.process_time()
    error = complaint(text)
    assert time.process_time() - started < 4
    assert error is None or len(str(error)) < 100_000


def test_no_group_is_repeated_possessively() -> None:
    """Python before 3.11.5, Debian 12's among them, matches such patterns wrongly."""
    room = Path(builder.dockerfile.__file__).parent
    texts = {path.name: path.read_text() for path in [*room.rglob("*.py"), *room.glob("*.lark")]}
    assert [name for name, text in texts.items() if re.search(r"\)(\*|\+|\?|\})\+", text)] == []
