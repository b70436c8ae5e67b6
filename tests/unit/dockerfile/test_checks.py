"""reference/builder.md §1.9, as far as the file alone can tell."""

import pytest

from builder.dockerfile import parse_dockerfile

CASES = {
    "NoEmptyContinuation": ("FROM a\nRUN x \\\n\n y\n", 2),
    "LegacyKeyValueFormat": ("FROM a\nENV k v\n", 2),
    "MaintainerDeprecated": ("FROM a\nMAINTAINER x\n", 2),
    "StageNameCasing": ("FROM a AS Build\n", 1),
    "FromAsCasing": ("FROM a as build\n", 1),
    "ConsistentInstructionCasing": ("FROM a\nRUN x\nrun y\n", 3),
    "DuplicateStageName": ("FROM a AS x\nFROM b AS x\n", 2),
    "JSONArgsRecommended": ("FROM a\nCMD x y\n", 2),
    "MultipleInstructionsDisallowed": ('FROM a\nCMD ["x"]\nCMD ["y"]\n', 2),
}


def rules(text: str) -> list[tuple[str, int]]:
    return [(advice.rule, advice.at.line) for advice in parse_dockerfile(text).warnings]


@pytest.mark.parametrize(("rule", "text", "line"), [(rule, *case) for rule, case in CASES.items()], ids=CASES.keys())
def test_rule(rule: str, text: str, line: int) -> None:
    assert rules(text) == [(rule, line)]


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, (text, _) in CASES.items()], ids=CASES.keys())
def test_can_be_silenced(rule: str, text: str) -> None:
    assert rules(f"# check=skip={rule}\n{text}") == []
    assert rules(f"# check=skip=all\n{text}") == []


def test_a_comment_above_silences_one_instruction() -> None:
    assert rules("FROM a\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n") == [("LegacyKeyValueFormat", 4)]


@pytest.mark.parametrize(
    "text",
    [
        'FROM a AS build\nRUN x\nCMD ["x"]\n',
        "from a as build\nrun x\n",
        'FROM a\nSHELL ["/bin/sh"]\nCMD x\n',
        'FROM a\nCMD ["x"]\nFROM b\nCMD ["y"]\n',
    ],
)
def test_nothing_to_say(text: str) -> None:
    assert rules(text) == []
