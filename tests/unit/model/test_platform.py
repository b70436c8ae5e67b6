"""Platforms: one spelling each, and which runs on which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import ManifestInvalid
from registry.model import Platform
from registry.model.platform import best_match, native, preference
from tests.unit.model import strategies as some


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("i386", "linux/386"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_spellings(typed: str, shown: str) -> None:
    assert str(Platform.parse(typed)) == shown


def test_an_operating_system_alone_means_this_machines_processor() -> None:
    assert Platform.parse("linux") == Platform("linux", native().architecture)


@pytest.mark.parametrize(
    "typed", ["", "/", "linux/", "linux/amd64/v1/x", "linux/am d64", "linux/../etc", "linux\n/amd64", "a b", "none"]
)
def test_what_is_no_platform(typed: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        Platform.parse(typed)
    assert "linux/amd64" in (caught.value.hint or "")


@given(some.platforms)
def test_the_one_spelling_is_stable(platform: Platform) -> None:
    assert platform.normal.normal == platform.normal
    assert Platform.parse(str(platform)) == platform.normal


@given(some.platforms)
def test_every_platform_runs_its_own_images_best(platform: Platform) -> None:
    assert preference(platform, platform) == 0


@given(some.platforms, st.lists(st.none() | some.platforms, max_size=6))
def test_the_best_match_is_one_that_none_beats(wanted: Platform, offered: list[Platform | None]) -> None:
    ranks = [preference(wanted, place) if place else None for place in offered]
    chosen = best_match(wanted, offered)
    if chosen is None:
        assert ranks == [None] * len(offered)
    else:
        assert ranks[chosen] == min(rank for rank in ranks if rank is not None)
        assert chosen == ranks.index(ranks[chosen]), "the first of equals"


@pytest.mark.parametrize(
    ("machine", "in_order"),
    [
        ("linux/arm64", ["linux/arm64", "linux/arm/v7", "linux/arm/v6"]),
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
    ],
)
def test_what_runs_is_taken_in_this_order(machine: str, in_order: list[str]) -> None:
    ranks = [preference(Platform.parse(machine), Platform.parse(place)) for place in in_order]
    assert None not in ranks
    assert ranks == sorted(set(ranks), key=ranks.index), "no two alike"
    assert ranks == sorted(rank for rank in ranks if rank is not None)


@pytest.mark.parametrize(
    ("machine", "image"),
    [
        ("linux/amd64", "linux/arm64"),
        ("linux/amd64", "windows/amd64"),
        ("linux/amd64", "linux/amd64/v3"),
        ("linux/arm/v6", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm64"),
        ("linux/386", "linux/amd64"),
        ("linux/amd64", "unknown/unknown"),
        ("linux/riscv64", "linux/riscv64/v2"),
    ],
)
def test_what_does_not_run(machine: str, image: str) -> None:
    assert preference(Platform.parse(machine), Platform.parse(image)) is None


def test_arm_without_a_variant_is_v7() -> None:
    assert preference(Platform("linux", "arm"), Platform("linux", "arm", "v7")) == 0
    assert preference(Platform("linux", "arm", "v7"), Platform("linux", "arm")) == 0


def test_entries_without_a_platform_are_passed_over() -> None:
    assert best_match(native(), [None, native()]) == 1
    assert best_match(native(), []) is None
