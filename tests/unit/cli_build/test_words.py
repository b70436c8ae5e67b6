"""The words of `pybuild build`, and what they ask of the builder."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.build import Secret
from pybuild.cli.build import Line, parse_secret
from pybuild.errors import UsageError
from registry.model.platform import native

LINE = Line(
    context=".", tags=(), file=None, target="", build_args=(), contexts=(), labels=(), secrets=(), agents=(), allow=(),
    no_cache=False, pull=False, network="default", hosts=(), platforms=(), outputs=(), push=False, load=False,
    compression=None, iidfile=None, metadata_file=None, quiet=False, progress="auto", attest=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOURCE_DATE_EPOCH", "SSH_AUTH_SOCK", "TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("id=a,src=/f", Secret("a", Path("/f"))),
        ("id=a,source=/f,type=file", Secret("a", Path("/f"))),
        ("id=a,env=V", Secret("a", None, "V")),
        ("type=env,id=a", Secret("a", None, "a")),
        ("id=a", Secret("a", Path("a"))),
        ('id=a,"src=/with,comma"', Secret("a", Path("/with,comma"))),
    ],
)
def test_secrets(text: str, secret: Secret) -> None:
    assert parse_secret(text) == secret


def test_a_secret_with_only_an_id_is_the_variable_of_that_name_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "x")
    assert parse_secret("id=TOKEN") == Secret("TOKEN", None, "TOKEN")


@pytest.mark.parametrize("text", ["", "src=/f", "id=a,src=b,env=c", "id=a,colour=red", "id=a,type=vault"])
def test_no_secrets(text: str) -> None:
    with pytest.raises(UsageError):
        parse_secret(text)


def test_source_date_epoch_comes_from_the_argument_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LINE.request().epoch is None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert LINE.request().epoch == 7
    assert replace(LINE, build_args=("SOURCE_DATE_EPOCH=8",)).request().epoch == 8
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError):
        LINE.request()


def test_a_build_argument_asks_for_a_cache_in_the_image() -> None:
    for value, kinds in (("1", ["inline"]), ("true", ["inline"]), ("0", []), ("", [])):
        line = replace(LINE, build_args=(f"BUILDKIT_INLINE_CACHE={value}",))
        assert [place.type for place in line.request().cache_to] == kinds
    line = replace(LINE, build_args=("BUILDKIT_INLINE_CACHE=1",), cache_to=("type=inline",))
    assert len(line.request().cache_to) == 1


def test_compression_is_a_kind_and_maybe_a_level() -> None:
    assert LINE.request().compression == "gzip"
    assert replace(LINE, compression="zstd", compression_level=9).request().compression == "zstd:9"
    assert replace(LINE, compression_level=1).request().compression == "gzip:1"


def test_platforms_are_given_in_one_word_or_several() -> None:
    def platforms(*words: str) -> list[str]:
        return [str(platform) for platform in replace(LINE, platforms=words).request().platforms]

    assert platforms() == [str(native())]
    assert platforms("linux/s390x,linux/arm64/v8", "arm64") == ["linux/s390x", "linux/arm64"]
    assert platforms("linux/arm", "local") == ["linux/arm/v7", str(native())]


def test_load_keeps_an_image_whatever_the_outputs_say() -> None:
    assert [output.type for output in replace(LINE, outputs=("out",), load=True).request().outputs] == [
        "local",
        "image",
    ]


def test_push_pushes_the_images_there_are_or_one_more() -> None:
    asked = replace(LINE, tags=("reg.io/x",), push=True)
    assert [output.pushes for output in asked.request().wanted] == [True]
    files = replace(asked, outputs=("out",)).request().wanted
    assert [(output.type, output.pushes) for output in files] == [("local", False), ("image", True)]


def test_hosts_take_both_forms() -> None:
    hosts = replace(LINE, hosts=("a:10.0.0.1", "b=[::1]", "c:::1")).request().hosts
    assert hosts == (("a", "10.0.0.1"), ("b", "::1"), ("c", "::1"))


def test_names_get_a_tag() -> None:
    assert [str(tag) for tag in replace(LINE, tags=("app", "reg.io/x:2")).request().tags] == [
        "app:latest",
        "reg.io/x:2",
    ]


def test_an_argument_that_is_nowhere_is_left_out() -> None:
    request = replace(LINE, build_args=("TOKEN", "A=1", "B=")).request()
    assert request.build_args == {"A": "1", "B": ""}


def test_contexts_have_names_that_mean_nothing_else() -> None:
    places = replace(LINE, contexts=("lib=../lib", "debian:12=docker-image://mirror/debian:12")).request().contexts
    assert places == {"lib": "../lib", "debian:12": "docker-image://mirror/debian:12"}
    for word in ("lib", "=../lib", "lib=", "scratch=dir", "context=dir"):
        with pytest.raises(UsageError, match="--build-context"):
            replace(LINE, contexts=(word,)).request()
