"""Names of --build-context, and the places that they stand for (reference §1.8)."""

import pytest

from builder.plan.contexts import NamedContexts, context_name, is_elsewhere, split_layout
from registry.model import Platform

HERE = Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("debian", "debian"),
        ("debian:latest", "debian"),
        ("docker.io/library/debian:latest", "debian"),
        ("debian:12", "debian:12"),
        ("localhost:5000/x/y:latest", "localhost:5000/x/y"),
        ("Build", "build"),
    ],
)
def test_one_spelling(text: str, name: str) -> None:
    assert context_name(text) == name


def test_a_platform_outranks_a_name_for_all() -> None:
    named = NamedContexts({"x": "all", "x::linux/amd64": "mine", "y::linux/arm64": "other"}, HERE)
    assert (named.place("x"), named.place("y")) == ("mine", None)
    assert NamedContexts({"x": "all", "x::linux/arm64": "other"}, HERE).place("x") == "all"


@pytest.mark.parametrize("name", ["scratch", "context"])
def test_some_names_are_taken(name: str) -> None:
    assert NamedContexts({name: "/tree"}, HERE).place(name) is None


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("oci-layout:///a/b", ("/a/b", "")),
        ("oci-layout://a:1", ("a", "1")),
        ("oci-layout:///a:b/c", ("/a:b/c", "")),
        (f"oci-layout:///a@sha256:{'0' * 64}", ("/a", f"sha256:{'0' * 64}")),
    ],
)
def test_layouts(place: str, parts: tuple[str, str]) -> None:
    assert split_layout(place) == parts


def test_what_must_be_fetched() -> None:
    places = ["https://h/x.tar", "git@h:x", "ssh://h/x", "github.com/x/y", "dir", "/a/x.git", "docker-image://x"]
    assert [place for place in places if is_elsewhere(place)] == places[:4]
