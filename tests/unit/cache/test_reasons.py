"""Why a step missed: each input that can differ, and how it is told."""

from collections.abc import Mapping
from typing import Any

import pytest

from builder.cache.filemap import FileMap, FileState
from builder.cache.parts import Input, Parts, Selection, definition_of, from_json, to_json
from builder.cache.reasons import compare
from builder.plan.vertices import RunOp

FILE = 0o100644
BASE = Input("image", "debian:12", "sha256:chain", "sha256:" + "a" * 64)
RUN: dict[str, Any] = {
    "op": "run", "args": ["/bin/sh", "-c", "make"], "env": [["PATH", "/bin"], ["MODE", "debug"]], "cwd": "/src",
    "user": "", "network": "default", "security": "sandbox", "mounts": [],
}  # fmt: skip
COPY: dict[str, Any] = {
    "op": "copy", "sources": [{"input": 1, "path": "src"}], "destination": "/app/", "chown": "", "chmod": "",
    "excludes": [], "unpack": False,
}  # fmt: skip
DECLARED = {"MODE": "ARG"}


def told(before: Parts, now: Parts, files: Mapping[str, FileMap] | None = None) -> list[tuple[str, str]]:
    return [(reason.kind, reason.text) for reason in compare(before, now, (files or {}).get, DECLARED)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"args": ["/bin/sh", "-c", "make -j4"]}, ("command", 'command: "make" → "make -j4"')),
        ({"args": ["make", "all"]}, ("command", 'command: "/bin/sh -c make" → "make all"')),
        ({"env": [["PATH", "/bin"], ["MODE", "fast"]]}, ("arg", 'ARG MODE: "debug" → "fast"')),
        ({"env": [["PATH", "/sbin"], ["MODE", "debug"]]}, ("env", 'ENV PATH: "/bin" → "/sbin"')),
        ({"env": [["PATH", "/bin"]]}, ("arg", "ARG MODE removed")),
        ({"env": [*RUN["env"], ["CC", "clang"]]}, ("env", "ENV CC added")),
        ({"network": "none"}, ("flag", '--network: "default" → "none"')),
        ({"user": "app"}, ("flag", 'USER: "none" → "app"')),
        ({"cwd": "/"}, ("flag", 'WORKDIR: "/src" → "/"')),
        (
            {"mounts": [{"type": "cache", "target": "/c", "read_only": False, "mode": None}]},
            ("flag", '--mount: "none" → "type=cache,target=/c"'),
        ),
    ],
)
def test_of_a_command(change: dict[str, Any], reason: tuple[str, str]) -> None:
    assert told(Parts(RUN, BASE), Parts({**RUN, **change}, BASE)) == [reason]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sources": [{"input": 1, "path": "lib"}]}, ("flag", 'sources: "src" → "lib"')),
        ({"destination": "/srv/"}, ("flag", 'destination: "/app/" → "/srv/"')),
        ({"chown": "1000"}, ("flag", '--chown: "none" → "1000"')),
        ({"excludes": ["*.md"]}, ("flag", '--exclude: "none" → "*.md"')),
    ],
)
def test_of_a_copy(change: dict[str, Any], reason: tuple[str, str]) -> None:
    assert told(Parts(COPY, BASE), Parts({**COPY, **change}, BASE)) == [reason]


def test_an_option_that_the_last_pybuild_did_not_know_is_nothing_that_the_user_changed() -> None:
    assert told(Parts(COPY, BASE), Parts({**COPY, "link": False, "parents": False}, BASE)) == [
        ("version", "another version of pybuild, which knows other options of such a step")
    ]
    assert told(Parts(COPY, BASE), Parts({**COPY, "link": True}, BASE)) == [("flag", '--link: "none" → "on"')]


def test_a_long_command_is_shown_where_it_differs() -> None:
    old, new = ({**RUN, "args": ["/bin/sh", "-c", f"{'x' * 200}{end}"]} for end in ("one", "two"))
    ((_, text),) = told(Parts(old, BASE), Parts(new, BASE))
    assert text == f'command: "…{"x" * 15}one" → "…{"x" * 15}two"'


def test_what_looks_like_a_secret_is_not_shown() -> None:
    old, new = ({**RUN, "env": [["API_TOKEN", value]]} for value in ("hunter2", "hunter3"))
    ((_, text),) = told(Parts(old, BASE), Parts(new, BASE))
    assert "API_TOKEN" in text
    assert "hunter" not in text


def test_another_base_under_the_same_name() -> None:
    now = Input("image", "debian:12", "sha256:other", "sha256:" + "b" * 64)
    assert told(Parts(RUN, BASE), Parts(RUN, now)) == [
        ("base", "base image debian:12: sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb")
    ]


def test_another_base() -> None:
    now = Input("scratch", "scratch")
    assert told(Parts(RUN, BASE), Parts(RUN, now)) == [("base", "base: debian:12 (sha256:aaaaaaaaaaaa) → scratch")]


def test_the_step_below() -> None:
    old, new = (Input("step", "#5 [2/3] COPY . /src", f"sha256:{end}") for end in ("one", "two"))
    assert told(Parts(RUN, old), Parts(RUN, new)) == [("parent", "#5 [2/3] COPY . /src gave other files")]


def test_files_of_a_source() -> None:
    old, new = (Parts(COPY, BASE, (), (Selection("the build context", end),)) for end in ("one", "two"))
    files = {
        "one": FileMap({"src/a": FileState(1, FILE), "src/b": FileState(2, FILE)}),
        "two": FileMap({"src/a": FileState(3, FILE), "src/b": FileState(2, FILE)}),
    }
    assert told(old, new, files) == [("file", "src/a in the build context: content changed")]
    assert told(old, new) == [("source", "the content of the build context changed")]


def test_of_many_changed_files_some_are_named_and_the_rest_counted() -> None:
    old, new = (Parts(COPY, BASE, (), (Selection("the build context", end),)) for end in ("one", "two"))
    files = {
        end: FileMap({f"{n:03}": FileState(n + at, FILE) for n in range(50)}) for at, end in enumerate(("one", "two"))
    }
    found = told(old, new, files)
    assert len(found) == 21
    assert found[-1] == ("source", "30 more files of the build context")


def test_the_users_epoch() -> None:
    assert told(Parts(RUN, BASE), Parts(RUN, BASE, epoch=5)) == [("epoch", "SOURCE_DATE_EPOCH: none → 5")]


def test_every_difference_is_told() -> None:
    now = Parts({**RUN, "args": ["/bin/sh", "-c", "make -j4"], "user": "app"}, Input("scratch", "scratch"), epoch=1)
    assert [kind for kind, _ in told(Parts(RUN, BASE), now)] == ["command", "flag", "base", "epoch"]


def test_parts_come_back_from_a_record_and_stay_small() -> None:
    op = RunOp(("/bin/sh", "-c", "x" * 1_000_000), (("PATH", "/bin"),), "/", "")
    parts = Parts(definition_of(op), BASE, (BASE,), (Selection("a", "b"),), 7)
    assert from_json(to_json(parts)) == parts
    assert len(str(to_json(parts))) < 4000
    assert from_json({"definition": 5}) is None
    assert from_json(None) is None
