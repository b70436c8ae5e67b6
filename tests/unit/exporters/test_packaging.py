"""Manifests and indexes: media types, annotations, which layers are packed anew."""

import json
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.exporters.annotations import Annotation, check, parse_annotation
from builder.exporters.assemble import Image
from builder.exporters.packaging import Form, Package, package
from builder.solver.results import Tree
from registry.model import Descriptor, Digest, ImageConfig, MediaType, Platform, RootFs, parse_manifest

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
BASE = Descriptor(MediaType.DOCKER_LAYER_GZIP, Digest.of(b"base"), 5)
OWN = Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(b"own"), 6)


def image(platform: Platform) -> Image:
    diff_ids = (Digest.of(b"base diff"), Digest.of(b"own diff"))
    config = ImageConfig(platform, rootfs=RootFs(diff_ids))
    return Image(platform, config, Tree((BASE, OWN), diff_ids), 1)


def packed(form: Form, *platforms: Platform) -> Package:
    def repack(layer: Descriptor, diff_id: Digest, how: str) -> Descriptor:
        assert diff_id
        return Descriptor(MediaType.OCI_LAYER_ZSTD, Digest.of(f"{how} {layer.digest}".encode()), 7)

    return package([image(platform) for platform in platforms], form, repack)


def layers(made: Package, number: int = 0) -> list[str]:
    return [str(layer.media_type) for layer in parse_manifest(made.manifests[number]).children[1:]]


def read(content: bytes | None) -> Any:  # noqa: ANN401 - JSON
    assert content is not None
    return json.loads(content)


def test_layers_of_a_docker_image_are_named_as_oci_names_them() -> None:
    assert layers(packed(Form(), AMD)) == [MediaType.OCI_LAYER_GZIP] * 2


def test_docker_media_types_are_used_throughout() -> None:
    made = packed(Form(oci=False), AMD, ARM)
    manifest, index = read(made.manifests[0]), read(made.index)
    assert manifest["mediaType"] == MediaType.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == MediaType.DOCKER_CONFIG
    assert layers(made) == [MediaType.DOCKER_LAYER_GZIP] * 2
    assert index["mediaType"] == MediaType.DOCKER_LIST
    assert {entry["mediaType"] for entry in index["manifests"]} == {MediaType.DOCKER_MANIFEST}


def test_one_platform_needs_no_index() -> None:
    made = packed(Form(), AMD)
    assert made.index is None
    assert made.top.digest == Digest.of(made.manifests[0])
    assert made.image_id == Digest.of(made.configs[0])


def test_several_platforms_make_an_index_in_the_order_they_were_asked_for() -> None:
    made = packed(Form(), ARM, AMD)
    entries = read(made.index)["manifests"]
    assert [entry["platform"]["architecture"] for entry in entries] == ["arm64", "amd64"]
    assert [entry["digest"] for entry in entries] == [str(Digest.of(content)) for content in made.manifests]
    assert made.image_id == made.top.digest


def test_only_the_layers_of_this_build_are_packed_anew() -> None:
    assert layers(packed(Form("zstd"), AMD)) == [MediaType.OCI_LAYER_GZIP, MediaType.OCI_LAYER_ZSTD]


def test_with_force_those_of_the_base_are_too() -> None:
    assert layers(packed(Form("zstd", force=True), AMD)) == [MediaType.OCI_LAYER_ZSTD] * 2


class TestAnnotations:
    def test_each_level_has_its_own(self) -> None:
        words = ("manifest:a=1", "index:b=2", "manifest-descriptor:c=3", "index-descriptor:d=4")
        made = packed(Form(annotations=tuple(each for word in words for each in parse_annotation(word))), AMD, ARM)
        assert [read(content)["annotations"] for content in made.manifests] == [{"a": "1"}] * 2
        assert read(made.index)["annotations"] == {"b": "2"}
        assert [entry["annotations"] for entry in read(made.index)["manifests"]] == [{"c": "3"}] * 2
        assert made.top.annotations == {"d": "4"}

    def test_one_platform_may_have_another_value(self) -> None:
        words = (*parse_annotation("who=all"), *parse_annotation("manifest[linux/arm64]:who=arm"))
        made = packed(Form(annotations=words), AMD, ARM)
        assert [read(content)["annotations"] for content in made.manifests] == [{"who": "all"}, {"who": "arm"}]

    def test_without_an_index_the_descriptor_of_the_manifest_is_what_points_to_it(self) -> None:
        made = packed(Form(annotations=parse_annotation("manifest-descriptor:c=3")), AMD)
        assert made.top.annotations == {"c": "3"}

    def test_a_word_may_name_several_levels_and_a_value_hold_anything(self) -> None:
        assert parse_annotation("index,manifest:url=http://x/?a=b") == (
            Annotation("index", "url", "http://x/?a=b"),
            Annotation("manifest", "url", "http://x/?a=b"),
        )

    @pytest.mark.parametrize("text", ["a", "=1", "shelf:a=1", "index[]:a=1", "index[x/y/z/w]:a=1", "index:=1"])
    def test_refuses_what_is_none(self, text: str) -> None:
        with pytest.raises(BuilderError):
            parse_annotation(text)

    def test_an_index_that_there_is_not_has_none(self) -> None:
        with pytest.raises(BuilderError, match="not supported for single platform"):
            check(parse_annotation("index:a=1"), [AMD])

    def test_a_platform_that_is_not_built_has_none(self) -> None:
        with pytest.raises(BuilderError, match="is for linux/arm64"):
            check(parse_annotation("manifest[linux/arm64]:a=1"), [AMD])
