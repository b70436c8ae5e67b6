"""reference/builder.md §1.4."""

import pytest

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import Copy, Heredoc, Instruction, Onbuild, Run


def second(text: str) -> Instruction:
    return parse_dockerfile(f"FROM base\n{text}").instructions[1]


def heredocs(text: str) -> tuple[Heredoc, ...]:
    found = second(text)
    assert isinstance(found, Run)
    return found.heredocs


class TestBodies:
    def test_is_taken_as_it_is(self) -> None:
        assert heredocs("RUN <<EOF\n# a\n\n  b \\\nc $d\nEOF\n") == (Heredoc("EOF", "# a\n\n  b \\\nc $d\n", True),)

    def test_instructions_go_on_below(self) -> None:
        parsed = parse_dockerfile("FROM base\nRUN <<EOF\nx\nEOF\nUSER a\n")
        assert [(i.at.line, i.at.end_line) for i in parsed.instructions] == [(1, 1), (2, 4), (5, 5)]

    def test_several_in_order(self) -> None:
        assert [(h.name, h.content) for h in heredocs("RUN cat <<A <<B\n1\nA\n2\nB\n")] == [("A", "1\n"), ("B", "2\n")]

    def test_the_end_may_be_the_end_of_the_file(self) -> None:
        assert heredocs("RUN <<EOF\nx\nEOF")[0].content == "x\n"

    def test_crlf_ends_it_too_and_stays_in_the_body(self) -> None:
        assert heredocs("RUN <<EOF\r\nx\r\nEOF\r\n")[0].content == "x\r\n"

    def test_dash_strips_tabs_but_no_spaces(self) -> None:
        (body,) = heredocs("RUN <<-EOF\n\t\ta\n \tb\n\tEOF\n")
        assert body == Heredoc("EOF", "\t\ta\n \tb\n", True, strip_tabs=True)
        assert body.content == "a\n \tb\n"

    def test_without_dash_an_indented_word_does_not_end_it(self) -> None:
        assert heredocs("RUN <<EOF\n\tEOF\nEOF\n")[0].content == "\tEOF\n"


class TestWords:
    @pytest.mark.parametrize("word", ["'EOF'", '"EOF"', "E'O'F"])
    def test_quotes_forbid_expansion(self, word: str) -> None:
        assert heredocs(f"RUN cat <<{word}\nEOF\n") == (Heredoc("EOF", "", expand=False),)

    def test_descriptor(self) -> None:
        assert heredocs("RUN x 3<<EOF\nEOF\n")[0].fd == 3

    def test_blanks_before_the_word(self) -> None:
        assert heredocs("RUN cat << EOF\nEOF\n")[0].name == "EOF"

    @pytest.mark.parametrize(
        "command",
        [
            "cat <<<word",
            "echo $((1<<2))",
            "echo '<<EOF'",
            'echo "<<EOF"',
            "a<<EOF",
            "echo \\<<EOF",
            "x <<''",
            "it's <<EOF",
        ],
    )
    def test_these_open_none(self, command: str) -> None:
        assert heredocs(f"RUN {command}\n") == ()

    def test_none_in_json_form(self) -> None:
        assert heredocs('RUN ["cat", "<<EOF"]\n') == ()

    def test_none_in_other_instructions(self) -> None:
        assert second("CMD cat <<EOF\n").source == "CMD cat <<EOF"


class TestCopy:
    def test_mixes_files_and_heredocs(self) -> None:
        found = second("COPY a <<one <<'two' b /dst/\n1$x\none\n2\ntwo\n")
        assert isinstance(found, Copy)
        assert (found.sources, found.destination) == (("a", "b"), "/dst/")
        assert found.heredocs == (Heredoc("one", "1$x\n", True), Heredoc("two", "2\n", False))

    def test_bodies_belong_to_words_in_order(self) -> None:
        found = second("COPY <<'A' <<A /d/\n1\nA\n2\nA\n")
        assert isinstance(found, Copy)
        assert [(doc.content, doc.expand) for doc in found.heredocs] == [("1\n", False), ("2\n", True)]


class TestOnbuild:
    def test_trigger_holds_the_bodies(self) -> None:
        found = second("ONBUILD RUN cat <<A <<B\n1\nA\n2\nB\n")
        assert isinstance(found, Onbuild)
        assert found.trigger == "RUN cat <<A <<B\n1\nA\n2\nB"
