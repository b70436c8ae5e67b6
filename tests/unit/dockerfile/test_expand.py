"""reference/builder.md §1.3: every form of expansion, and agreement with bash where the meanings are the same."""

import contextlib
import os
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile.expand import MAX_NESTING, ExpansionError, check, expand, expand_body, expand_words

VARIABLES = {"a": "1", "empty": "", "path": "/usr/local/bin", "dots": "a.b.c", "lines": "x\ny", "star": "a*b", "é": "e"}


class TestValues:
    @pytest.mark.parametrize(
        ("word", "text"),
        [
            ("$a", "1"), ("${a}", "1"), ("x$a.y", "x1.y"), ("$a$a", "11"), ("$unset", ""), ("${unset}", ""),
            ("${unset:-w}", "w"), ("${empty:-w}", "w"), ("${a:-w}", "1"),
            ("${unset-w}", "w"), ("${empty-w}", ""), ("${a-w}", "1"),
            ("${unset:+w}", ""), ("${empty:+w}", ""), ("${a:+w}", "w"),
            ("${unset+w}", ""), ("${empty+w}", "w"), ("${a+w}", "w"),
            ("${a:?m}", "1"), ("${empty?m}", ""),
            ("${unset:-${empty:-$a}}", "1"), ("${unset:-a b}", "a b"), ("${unset:-'}'}", "}"), ("${unset:-\\}}", "}"),
            ("$1x", "x"), ("$12x", "x"), ("$@", ""), ("$$a", "a"), ("$?", ""), ("$-", ""), ("$!", ""), ("$#", ""),
            ("$é", "e"), ("$.", "$."), ("$", "$"), ("a$", "a$"), ("$ a", "$ a"),
        ],
    )  # fmt: skip
    def test_form(self, word: str, text: str) -> None:
        assert expand(word, VARIABLES) == text


class TestPatterns:
    @pytest.mark.parametrize(
        ("word", "text"),
        [
            ("${path#*/}", "usr/local/bin"), ("${path##*/}", "bin"), ("${path%/*}", "/usr/local"), ("${path%%/*}", ""),
            ("${path#x}", "/usr/local/bin"), ("${dots#?.}", "b.c"), ("${dots%.?}", "a.b"), ("${dots#a}", ".b.c"),
            ("${dots/./-}", "a-b.c"), ("${dots//./-}", "a-b-c"), ("${dots//./}", "abc"), ("${dots//?/x}", "xxxxx"),
            ("${path//\\//:}", ":usr:local:bin"), ("${path/\\/usr/}", "/local/bin"), ("${star/\\*/+}", "a+b"),
            ("${star#a\\*}", "b"), ("${dots/*/all}", "all"), ("${dots//[a]/x}", "a.b.c"), ("${lines#*}", "x\ny"),
            ("${lines##*}", "\ny"), ("${lines/*/z}", "z\ny"), ("${unset#x}", ""), ("${unset/x/y}", ""),
            ("${dots//$a/x}", "a.b.c"), ("${dots/a/$a}", "1.b.c"), ("${dots//b/\\$1}", "a.\\$1.c"),
        ],
    )  # fmt: skip
    def test_form(self, word: str, text: str) -> None:
        assert expand(word, VARIABLES) == text


class TestQuotes:
    @pytest.mark.parametrize(
        ("word", "text"),
        [
            ("'$a'", "$a"), ('"$a"', "1"), ("\\$a", "$a"), ('"\\$a"', "$a"), ("'\\$a'", "\\$a"), ("a\\ b", "a b"),
            ('"a\\b"', "a\\b"), ("a\\b", "ab"), ('"\\""', '"'), ('"\\\\"', "\\"), ("\\\\", "\\"), ("x\\", "x"),
            ("'a'\"b\"c", "abc"), ('"it\'s"', "it's"), ("''", ""), ('"${unset:-"x y"}"', "x y"),
        ],
    )  # fmt: skip
    def test_form(self, word: str, text: str) -> None:
        assert expand(word, VARIABLES) == text

    def test_backtick_escapes_when_the_file_says_so(self) -> None:
        assert expand('`$a C:\\$a `` "`""', VARIABLES, escape="`") == '$a C:\\1 ` "'

    def test_heredoc_bodies_keep_their_quotes(self) -> None:
        assert expand_body("'$a' \"$a\" \\$a \\\\ it's", VARIABLES) == "'1' \"1\" $a \\ it's"

    def test_words_are_split_after_expansion(self) -> None:
        variables = {"ports": "80 443/tcp", "one": "1"}
        assert expand_words("$ports 8$one '9 9' a\\ b", variables) == ["80", "443/tcp", "81", "9 9", "a b"]
        assert expand_words('"$ports" $none', variables) == ["80 443/tcp"]


class TestFaults:
    @pytest.mark.parametrize(
        ("word", "problem"),
        [
            ("${}", "bad substitution"), ("${:x}", "bad substitution"), ("${{x}}", "bad substitution"),
            ("${a", "missing '}'"), ("${", "missing '}'"), ("${a:-x", "missing '}'"), ("${a/x}", "missing '/'"),
            ("${a:#x}", "unsupported modifier ':#'"), ("${a:%x}", "unsupported modifier ':%'"),
            ("${a@Q}", "unsupported modifier '@'"), ("${a:1:2}", "unsupported modifier ':1'"),
            ("${.}", "unsupported modifier '.'"), ("${#a}", "unsupported modifier 'a'"),
            ("${a#\\x}", "invalid escape '\\x'"), ("'x", "quote ' is not closed"), ('"x', 'quote " is not closed'),
            ("${unset:?no value}", "unset: no value"), ("${empty:?no value}", "empty: no value"),
            ("${unset?}", "unset: is not allowed to be unset"), ("${empty:?}", "empty: is not allowed to be empty"),
            ("${unset:?set $path}", "unset: set /usr/local/bin"),
        ],
    )  # fmt: skip
    def test_form(self, word: str, problem: str) -> None:
        with pytest.raises(ExpansionError) as caught:
            expand(word, VARIABLES)
        assert problem in str(caught.value)

    def test_offset_points_into_the_word(self) -> None:
        with pytest.raises(ExpansionError) as caught:
            expand("ab${a@Q}", VARIABLES)
        assert caught.value.offset == 2


class TestMissing:
    def test_names_that_are_not_set_and_have_no_default(self) -> None:
        missing: set[str] = set()
        expand("$a $b ${c} ${d:-x} ${e+x} ${f#x} '$g' ${empty}", VARIABLES, missing=missing)
        assert missing == {"b", "c", "f"}


class TestLimits:
    def test_nesting_has_an_end(self) -> None:
        word = "${u:-" * (MAX_NESTING + 2) + "x" + "}" * (MAX_NESTING + 2)
        with pytest.raises(ExpansionError, match="nested"):
            expand(word, {})

    def test_growth_has_an_end(self) -> None:
        with pytest.raises(ExpansionError, match="more than"):
            expand("$a" * 30_000, {"a": "x" * 60_000})
        with pytest.raises(ExpansionError, match="more than"):
            expand("${a//?/" + "y" * 60_000 + "}", {"a": "x" * 60_000})

    @pytest.mark.parametrize("word", ["${a#" + "*a" * 500 + "b}", "${a%b" + "*a" * 500 + "}", "${a//a*a*a*b/x}"])
    def test_patterns_take_linear_time(self, word: str) -> None:
        started = time.process_time()
        assert expand(word, {"a": "a" * 20_000}) == "a" * 20_000
        assert time.process_time() - started < 2


_PIECE = st.sampled_from(["${", "}", "$", "a", ":-", ":?", "#", "%", "/", "'", '"', "\\", "*", "?", " "])
_HOSTILE = st.one_of(st.text(), st.lists(_PIECE).map("".join))


@given(_HOSTILE, _HOSTILE, st.sampled_from(["\\", "`"]))
def test_any_word_expands_or_is_a_fault(word: str, value: str, escape: str) -> None:
    for expanding in (
        lambda: expand(word, {"a": value}, escape=escape),
        lambda: expand_words(word, {"a": value}, escape=escape),
        lambda: expand_body(word, {"a": value}),
    ):
        with contextlib.suppress(ExpansionError):
            expanding()


@given(_HOSTILE)
def test_what_passes_the_check_fails_for_its_values_only(word: str) -> None:
    try:
        check(word)
    except ExpansionError:
        with pytest.raises(ExpansionError):
            expand(word, {})


# Where Dockerfile and bash mean the same: no backslashes but before $ and quotes, no patterns with brackets or escapes.
_TEXT = st.text("ab.*/ ", max_size=6)
_PATTERN = st.text("ab.*?", max_size=4)
_NAME = st.sampled_from(["v", "w", "empty", "unset"])


def _forms(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(_NAME, st.sampled_from([":-", "-", ":+", "+"]), inner).map(lambda t: "${" + "".join(t) + "}"),
        st.tuples(_NAME, st.sampled_from(["#", "##", "%", "%%"]), _PATTERN).map(lambda t: "${" + "".join(t) + "}"),
        st.lists(inner, max_size=3).map("".join),
    )


_PLAIN = st.one_of(
    st.text("ab./", max_size=5),
    _NAME.map(lambda name: f"${{{name}}}"),
    st.text("ab $'", max_size=3).filter(lambda text: "'" not in text).map(lambda text: f"'{text}'"),
    st.sampled_from(["\\$", "\\'", '\\"']),
)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.recursive(_PLAIN, _forms, max_leaves=6).filter(lambda word: "\n" not in word), min_size=30, max_size=60
    ),
    _TEXT,
    _TEXT,
)
def test_means_what_bash_means(words: list[str], v: str, w: str) -> None:
    variables = {"v": v, "w": w, "empty": ""}
    # An assignment neither splits nor globs, as a Dockerfile does not.
    script = "".join(f"x={word}\nprintf '%s\\0' \"$x\"\n" for word in words)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **variables}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, check=True, text=True, timeout=30
    )
    assert [expand(word, variables) for word in words] == done.stdout.split("\0")[:-1]
