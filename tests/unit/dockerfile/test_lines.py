"""reference/builder.md §1.1 and §1.2: how text becomes logical lines."""

import pytest

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import Run


def runs(text: str | bytes) -> list[str | None]:
    """The shell lines of all RUN instructions below `FROM base`."""
    head = b"FROM base\n" if isinstance(text, bytes) else "FROM base\n"
    parsed = parse_dockerfile(head + text)  # type: ignore[operator]  # both are str or both are bytes
    return [found.command.shell_form for found in parsed.instructions if isinstance(found, Run)]


class TestContinuation:
    def test_joins_lines_without_a_blank(self) -> None:
        assert runs("RUN ab\\\ncd") == ["abcd"]

    def test_keeps_leading_blanks_of_the_lines_that_follow(self) -> None:
        assert runs("RUN echo \\\n     x") == ["echo      x"]

    def test_strips_leading_blanks_of_the_first_line(self) -> None:
        assert runs("  \tRUN echo x") == ["echo x"]

    @pytest.mark.parametrize("blanks", ["", " ", "\t ", "\r"])
    def test_allows_blanks_behind_the_escape(self, blanks: str) -> None:
        assert runs(f"RUN echo \\{blanks}\nx") == ["echo x"]

    def test_two_escapes_do_not_continue(self) -> None:
        assert runs("RUN echo \\\\\nRUN x") == ["echo \\\\", "x"]

    def test_drops_comments_inside(self) -> None:
        assert runs("RUN echo \\\n# why\n   # because\n x") == ["echo  x"]

    def test_keeps_a_number_sign_inside_of_a_line(self) -> None:
        assert runs("RUN echo # no comment") == ["echo # no comment"]

    def test_skips_blank_lines_and_says_so(self) -> None:
        parsed = parse_dockerfile("FROM base\nRUN echo \\\n\n  x\nRUN y\n")
        assert parsed.empty_continuations == (4,)  # the last line of the instruction

    def test_ends_at_the_end_of_the_file(self) -> None:
        assert runs("RUN echo x \\\n") == ["echo x"]

    def test_escape_alone_on_the_first_line(self) -> None:
        assert runs("\\\n RUN x") == ["x"]


class TestTextOfTheFile:
    def test_byte_order_mark_and_crlf_are_dropped(self) -> None:
        text = b"\xef\xbb\xbfFROM base\r\nRUN echo \\\r\n x\r\n"
        assert parse_dockerfile(text).instructions[1].source == "RUN echo  x"

    def test_a_last_line_without_a_line_feed_counts(self) -> None:
        assert runs("RUN x") == ["x"]

    def test_instruction_names_in_any_case(self) -> None:
        assert runs("rUn x") == ["x"]

    def test_tab_ends_the_name(self) -> None:
        assert runs("RUN\tx") == ["x"]

    def test_position_is_that_of_the_name(self) -> None:
        run = parse_dockerfile("FROM base\n\n  RUN a \\\n b\n", "sub/Dockerfile").instructions[1]
        assert (str(run.at), run.at.end_line) == ("sub/Dockerfile:3:3", 4)

    def test_longest_line(self) -> None:
        assert runs("RUN " + "x" * 65_531) == ["x" * 65_531]


class TestDirectives:
    def test_escape(self) -> None:
        parsed = parse_dockerfile("# escape=`\nFROM base\nRUN dir C:\\ `\n  x\n")
        assert (parsed.escape, parsed.instructions[1].source) == ("`", "RUN dir C:\\   x")

    def test_backtick_escapes_words(self) -> None:
        parsed = parse_dockerfile('#escape = `\nFROM base\nENV a=b` c d="x`"y" p=C:\\\n')
        assert parsed.instructions[1].pairs == (("a", "b` c"), ("d", '"x`"y"'), ("p", "C:\\"))  # type: ignore[attr-defined]

    @pytest.mark.parametrize("line", ["# syntax=docker/dockerfile:1", "#SYNTAX = docker/dockerfile:1 # x"])
    def test_syntax_is_noted(self, line: str) -> None:
        assert parse_dockerfile(f"{line}\nFROM base").syntax == "docker/dockerfile:1"

    def test_several_in_any_order(self) -> None:
        parsed = parse_dockerfile("# check=skip=all\n# syntax=x\n# escape=\\\nFROM base")
        assert (parsed.checks, parsed.syntax, parsed.escape) == ("skip=all", "x", "\\")

    @pytest.mark.parametrize("first", ["# a comment", "", "# foo=bar", "# syntax=", "#escape"])
    def test_end_at_the_first_line_that_is_none(self, first: str) -> None:
        assert parse_dockerfile(f"{first}\n# escape=`\nFROM base").escape == "\\"


class TestComments:
    def test_the_block_directly_above_belongs_to_an_instruction(self) -> None:
        parsed = parse_dockerfile("# of nobody\n#\n# one\n\n# two\nFROM base\nRUN x\n")
        assert parsed.comments == (("one", "two"), ())

    def test_parser_directives_are_no_comments(self) -> None:
        assert parse_dockerfile("# syntax=x\n# check=skip=all\n# base\nFROM base\n").comments == (("base",),)

    def test_what_looks_like_a_directive_further_down_is_one(self) -> None:
        assert parse_dockerfile("FROM base\n# check=skip=all\nRUN x\n").comments == ((), ("check=skip=all",))
