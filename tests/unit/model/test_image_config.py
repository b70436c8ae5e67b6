"""Image configurations (image-spec config.md, moby/docker-image-spec): ours come back, anybody's are read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DigestInvalid, ManifestInvalid
from registry.model import Digest, ImageConfig, Platform, RunConfig
from tests.unit.model import strategies as some


def read(body: object) -> ImageConfig:
    return ImageConfig.parse(json.dumps(body).encode())


@given(some.image_configs)
def test_what_is_written_reads_the_same(config: ImageConfig) -> None:
    assert ImageConfig.parse(config.to_bytes()) == config
    assert ImageConfig.parse(config.to_bytes()).to_bytes() == config.to_bytes()


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(content: bytes) -> None:
    some.refusal(lambda: ImageConfig.parse(content))


@given(some.json_values, st.sampled_from(["architecture", "config", "rootfs", "history", "created", "os", "variant"]))
def test_any_value_in_any_place_is_read_or_refused_never_a_crash(value: object, key: str) -> None:
    assert len(some.refusal(lambda: read({"architecture": "amd64", "os": "linux", key: value}))) < 1000


@given(some.json_values, st.sampled_from(["User", "Env", "Cmd", "Labels", "ExposedPorts", "Healthcheck", "OnBuild"]))
def test_nor_in_what_to_run(value: object, key: str) -> None:
    assert len(some.refusal(lambda: read({"config": {key: value}}))) < 1000


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"x"', b"[" * 100_000, b"\xff{}"])
def test_what_is_no_configuration(content: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        ImageConfig.parse(content)


def test_a_wrong_diff_id() -> None:
    with pytest.raises(DigestInvalid):
        read({"rootfs": {"type": "layers", "diff_ids": ["sha256:abc"]}})


def test_nulls_mean_absent_as_in_go() -> None:
    keys = ["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "Labels", "Healthcheck", "OnBuild", "Shell"]
    body = {
        "architecture": "amd64", "os": "linux", "author": None, "variant": None, "created": None, "container": "x",
        "config": dict.fromkeys(keys), "history": [{"created_by": None, "empty_layer": None}],
        "rootfs": {"type": "layers", "diff_ids": None},
    }  # fmt: skip
    found = read(body)
    assert found.config == RunConfig()
    assert found.platform == Platform("linux", "amd64")


def test_one_string_is_a_command_of_one_word_as_in_go() -> None:
    found = read({"config": {"Cmd": "top", "Entrypoint": ["a", "b"], "Healthcheck": {"Test": "NONE"}}}).config
    assert (found.cmd, found.entrypoint) == (("top",), ("a", "b"))
    assert found.healthcheck is not None
    assert found.healthcheck.test == ("NONE",)


def test_no_command_and_an_empty_one_differ() -> None:
    for cmd in (None, (), ("sh",)):
        config = ImageConfig(Platform("linux", "amd64"), RunConfig(cmd=cmd))
        assert ImageConfig.parse(config.to_bytes()).config.cmd == cmd


def test_the_environment_is_a_mapping_in_which_the_last_wins() -> None:
    assert RunConfig(env=("A=1", "B=x=y", "A=2", "C")).environment == {"A": "2", "B": "x=y", "C": ""}


def test_equal_labels_in_another_order_give_the_same_image() -> None:
    one, other = ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    images = [ImageConfig(Platform("linux", "amd64"), RunConfig(labels=labels)) for labels in (one, other)]
    assert Digest.of(images[0].to_bytes()) == Digest.of(images[1].to_bytes())


def test_bytes_that_are_no_text_cannot_be_written() -> None:
    with pytest.raises(ManifestInvalid, match="not UTF-8") as caught:
        ImageConfig(Platform("linux", "amd64"), RunConfig(user="\udcff")).to_bytes()
    assert caught.value.hint
