"""Each rule of the language names tests that there are, and the page of differences has every one."""

from collections import Counter

import pytest

from builder.checks.rules import RULES
from tests.conformance.compatibility import PAGE, page
from tests.conformance.rules import Named, Rule, rules


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: f"{rule.section.split()[0]} {rule.text[:40]}")
def test_a_rule_is_held_by_tests_that_exist(rule: Rule) -> None:
    assert rule.tests
    assert [word for word in rule.tests if not Named.parse(word).exists] == []


def test_no_rule_is_there_twice() -> None:
    assert [text for text, times in Counter(rule.text for rule in rules()).items() if times > 1] == []


def test_each_build_check_is_a_rule() -> None:
    named = {rule.text for rule in rules() if rule.section.startswith("1.9")}
    assert {name for name, about in RULES.items() if not about.ours} - named == set()


def test_the_page_of_differences_is_what_the_tests_know() -> None:
    """`python -m tests.conformance --write` makes it anew."""
    assert PAGE.read_text("utf-8") == page()
