"""Wildcards of COPY: Go's filepath.Match (reference/builder.md §1.7, item 2)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.match import PatternInvalid, expression, go_match, has_wildcard, plain, tokens


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["a", ".a", ""], ["a/b"]),
        ("*.txt", ["a.txt", ".txt"], ["d/a.txt", "a.txt~"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[a-c]", ["a", "b"], ["d", "A"]),
        ("[^a-c]", ["d"], ["a"]),
        ("[!a]", ["!", "a"], ["b"]),
        ("[\\]x]", ["]", "x"], ["\\"]),
        ("[c-a]", [], ["a", "b"]),
        ("\\*", ["*"], ["a"]),
        ("a*b*c", ["abc", "a1b2c"], ["ab", "acb"]),
        ("d/*", ["d/a"], ["d/a/b", "d"]),
        ("**", ["ab"], ["a/b"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [name for name in (*yes, *no) if go_match(pattern, name)] == yes


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[]a]", "[a-]", "[-a]", "a\\", "[a-", "[^]"])
def test_broken_patterns(pattern: str) -> None:
    with pytest.raises(PatternInvalid):
        go_match(pattern, "a")


def test_wildcards_and_escapes() -> None:
    assert [word for word in ("a*", "a?", "[a]", "\\*", "a\\[b", "\\\\*", "plain") if has_wildcard(word)] == [
        "a*", "a?", "[a]", "\\\\*",
    ]  # fmt: skip
    assert plain("a\\[b\\\\") == "a[b\\"


def test_no_star_looks_back_as_in_go() -> None:
    assert go_match("a[^b]c", "a/c")
    assert not go_match("*[^a]*", "b/c")


@given(st.text("ab/*", max_size=12), st.text("ab/", max_size=12))
def test_shortcuts_for_speed_change_no_result(pattern: str, name: str) -> None:
    for deep in (False, True):
        pieces = list(tokens(pattern, deep=deep))
        slow = re.compile("".join(text for _, text in pieces), re.DOTALL)
        quick = re.compile(expression(pieces), re.DOTALL)
        assert bool(quick.fullmatch(name)) == bool(slow.fullmatch(name))
        end = r"(?:/|\Z)"
        assert bool(re.match(f"(?:{expression(pieces)}){end}", name)) == bool(
            re.match(f"(?:{slow.pattern}){end}", name)
        )
