"""`.dockerignore` as moby/patternmatcher reads it (reference/builder.md §1.8)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.ignore import IgnoreRules
from builder.errors import ContextError


def excluded(rules: str, *paths: str) -> list[str]:
    parsed = IgnoreRules.parse(rules)
    return [path for path in paths if parsed.excluded(path)]


class TestPatterns:
    @pytest.mark.parametrize(
        ("rules", "out", "kept"),
        [
            ("foo", ["foo", "foo/x", "foo/x/y"], ["a/foo", "foobar", "fo"]),
            ("/foo", ["foo"], ["a/foo"]),
            ("./foo/", ["foo", "foo/x"], ["bar"]),
            ("a/../foo", ["foo"], ["a"]),
            ("*.md", ["a.md", ".md", "x.md/y"], ["d/a.md", "a.mdx"]),
            ("*/*.md", ["d/a.md"], ["a.md", "d/e/a.md"]),
            ("a?c", ["abc", "a.c"], ["ac", "a/c", "abbc"]),
            ("**", ["a", "a/b"], []),
            ("**/foo", ["foo", "a/foo", "a/b/foo/x"], ["xfoo", "a/xfoo"]),
            ("**/*.pyc", ["a.pyc", "d/e/a.pyc"], ["pyc", "a.pyc.txt"]),
            ("foo/**", ["foo/a", "foo/a/b"], ["foo", "foobar"]),
            ("a/**/z", ["a/z", "a/b/z", "a/b/c/z", "a/z/q"], ["a", "az", "b/a/z"]),
            ("**/a/**", ["a/x", "q/a/x"], ["a", "q/a"]),
            ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
            ("[^a]x", ["bx"], ["ax"]),
            ("[!a]x", ["!x", "ax"], ["bx"]),
            ("\\*x", ["*x"], ["ax"]),
            ("\\!x", ["!x"], ["x"]),
            ("a b ", ["a b"], ["a"]),
            ("x+(1)|{2}$.y", ["x+(1)|{2}$.y"], ["xx1"]),
            ("**foo", ["foo", "xfoo", "a/xfoo"], ["foox"]),
            ("a[^b]c", ["axc"], ["a/c", "abc"]),
        ],
    )
    def test_meaning(self, rules: str, out: list[str], kept: list[str]) -> None:
        assert excluded(rules, *out, *kept) == out


class TestFile:
    def test_comments_only_in_the_first_column(self) -> None:
        assert excluded("# a\n #b", "a", "# a", "#b") == ["#b"]

    def test_blank_lines_byte_order_mark_and_crlf(self) -> None:
        assert excluded("\ufefffoo\r\n\r\n  bar  \r\n", "foo", "bar", "x") == ["foo", "bar"]

    def test_last_match_wins(self) -> None:
        assert excluded("*.md\n!README.md\nREADME.md", "a.md", "README.md") == ["a.md", "README.md"]
        assert excluded("*.md\n!README.md", "a.md", "README.md") == ["a.md"]

    def test_exceptions_reach_inside_of_what_is_left_out(self) -> None:
        assert excluded("d\n!d/keep\nd/keep/not", "d", "d/x", "d/keep", "d/keep/a", "d/keep/not") == [
            "d",
            "d/x",
            "d/keep/not",
        ]

    def test_everything_but(self) -> None:
        assert excluded("*\n!src", "a", "src", "src/a", "b/src") == ["a", "b/src"]

    def test_no_rules_leave_out_nothing(self) -> None:
        assert excluded("", "a", "") == []

    @pytest.mark.parametrize(
        ("line", "problem"), [("[a", "broken pattern"), ("a\\", "broken pattern"), ("!", "! without")]
    )
    def test_broken_pattern_is_told_with_its_line(self, line: str, problem: str) -> None:
        with pytest.raises(ContextError, match=f"^sub/.dockerignore:2: {problem}"):
            IgnoreRules.parse(f"ok\n{line}\n", "sub/.dockerignore")

    def test_names_the_rule_that_decides(self) -> None:
        rule = IgnoreRules.parse("a\n!a/b\n").decided_by("a/x")
        assert rule is not None
        assert (rule.pattern, rule.line) == ("a", 1)


def test_rules_given_one_by_one_have_no_comments() -> None:
    rules = IgnoreRules.of(["#a", "*.o", "!b.o"])
    assert [path for path in ("#a", "a.o", "b.o", "c") if rules.excluded(path)] == ["#a", "a.o"]


class TestWaysDown:
    """A directory that is left out is looked into only if an exception can hold in it."""

    @pytest.mark.parametrize(
        ("rules", "into", "not_into"),
        [
            ("*", [], ["a", "a/b"]),
            ("*\n!a/b/c", ["a", "a/b"], ["b", "a/c", "a/b/x"]),
            ("*\n!a/*/c", ["a", "a/x"], ["b", "a/x/y"]),
            ("*\n!**/keep", ["a", "a/b/c"], []),
            ("*\n!a/**/keep", ["a", "a/x/y"], ["b"]),
            ("a\n!b", [], ["a"]),
        ],
    )
    def test_looks(self, rules: str, into: list[str], not_into: list[str]) -> None:
        parsed = IgnoreRules.parse(rules)
        assert [path for path in (*into, *not_into) if parsed.may_hold_included(path)] == into


class TestTime:
    def test_hostile_patterns_take_no_time(self) -> None:
        started = time.process_time()
        parsed = IgnoreRules.parse("*a" * 30 + "b\n" + "**/*a*a/" * 10 + "c\n" + "*[ab]" * 30 + "c")
        assert not parsed.excluded("/".join(["a" * 100] * 30))
        assert time.process_time() - started < 2

    def test_ten_thousand_paths(self) -> None:
        parsed = IgnoreRules.parse(
            "\n".join([*(f"dir{n}/*.o" for n in range(30)), "**/*.pyc", "!**/keep", "node_modules"])
        )
        paths = [f"src/package{n // 100}/module{n % 100}.py" for n in range(10_000)]
        started = time.process_time()
        assert not any(map(parsed.excluded, paths))
        assert time.process_time() - started < 1


_PIECE = st.sampled_from(
    ["[", "]", "^", "-", "*", "**", "?", "/", "!", "\\", "a", ".", "..", "&", "~", "|", "#", "\n", " "]
)


@given(
    st.one_of(st.text(), st.lists(_PIECE).map("".join)),
    st.lists(st.sampled_from(["a", ".", "b/", "[", "/a"])).map("".join),
)
def test_any_text_is_rules_or_a_fault(text: str, path: str) -> None:
    try:
        parsed = IgnoreRules.parse(text)
    except ContextError:
        return
    out = parsed.excluded(path)
    assert (parsed.decided_by(path) is not None) >= out
    assert isinstance(parsed.may_hold_included(path), bool)


def test_an_exception_may_be_as_deep_as_it_likes() -> None:
    rules = IgnoreRules.parse("**\n!" + "a/" * 3000 + "*")
    assert rules.may_hold_included("a/a/a")
    assert not rules.may_hold_included("a/b")
