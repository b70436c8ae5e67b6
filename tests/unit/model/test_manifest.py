"""Manifests and indexes from hostile bytes: read as one thing, or refused (image-spec manifest.md, image-index.md)."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DigestInvalid, ManifestInvalid, RegistryError, SizeInvalid
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, parse_manifest
from registry.model.manifest import check_content
from tests.unit.model import strategies as some

DIGEST = str(Digest.of(b""))
BLOB = {"mediaType": MediaType.OCI_LAYER, "digest": DIGEST, "size": 0}
IMAGE: dict[str, Any] = {"schemaVersion": 2, "mediaType": MediaType.OCI_MANIFEST, "config": BLOB, "layers": [BLOB]}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": [BLOB]}


def read(body: object, media_type: str | None = None) -> Manifest | Index:
    return parse_manifest(json.dumps(body).encode(), media_type)


@given(some.manifests | some.indexes)
def test_what_is_written_reads_the_same(manifest: Manifest | Index) -> None:
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert parse_manifest(manifest.to_bytes(), f"{manifest.media_type}; charset=utf-8") == manifest


@given(some.manifests)
def test_equal_values_give_equal_bytes(manifest: Manifest) -> None:
    turned = dict(reversed(manifest.annotations.items()))
    again = Manifest(
        manifest.media_type, manifest.config, manifest.layers, manifest.subject, manifest.artifact_type, turned
    )
    assert again.to_bytes() == manifest.to_bytes()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_manifest_are_refused(content: bytes) -> None:
    with pytest.raises(RegistryError):
        parse_manifest(content)


@given(some.json_values, st.sampled_from([*IMAGE, "manifests", "subject", "annotations", "artifactType"]))
def test_any_value_in_any_place_is_read_or_refused_never_a_crash(value: object, key: str) -> None:
    for base in (IMAGE, INDEX):
        assert len(some.refusal(partial(read, base | {key: value}))) < 1000


@given(some.json_values, st.sampled_from(["mediaType", "digest", "size", "platform", "urls", "annotations", "data"]))
def test_nor_in_a_descriptor(value: object, key: str) -> None:
    assert len(some.refusal(lambda: read(IMAGE | {"layers": [BLOB | {key: value}]}))) < 1000


class TestTypeConfusion:
    """CVE-2021-41190: the same bytes must not be an image for one reader and an index for another."""

    @pytest.mark.parametrize("extra", [{"manifests": [BLOB]}, {"manifests": []}])
    @pytest.mark.parametrize("declared", [None, MediaType.OCI_MANIFEST])
    def test_an_image_that_also_lists_manifests(self, extra: dict[str, Any], declared: str | None) -> None:
        with pytest.raises(ManifestInvalid, match="both"):
            read(IMAGE | extra, declared)

    @pytest.mark.parametrize("extra", [{"layers": []}, {"config": BLOB}, {"layers": [BLOB], "config": BLOB}])
    def test_an_index_that_also_has_layers_or_a_config(self, extra: dict[str, Any]) -> None:
        with pytest.raises(ManifestInvalid, match="both"):
            read(INDEX | extra)
        without = {key: value for key, value in INDEX.items() if key != "mediaType"}
        with pytest.raises(ManifestInvalid, match="both"):
            read(without | extra)

    @pytest.mark.parametrize(
        ("body", "declared"),
        [(IMAGE, MediaType.OCI_INDEX), (INDEX, MediaType.OCI_MANIFEST), (IMAGE, MediaType.DOCKER_MANIFEST)],
    )
    def test_a_content_type_that_the_body_contradicts(self, body: dict[str, Any], declared: str) -> None:
        with pytest.raises(ManifestInvalid, match="sent as"):
            read(body, declared)

    def test_a_declared_type_that_the_body_cannot_be(self) -> None:
        silent = {key: value for key, value in IMAGE.items() if key != "mediaType"}
        assert isinstance(read(silent, MediaType.OCI_MANIFEST), Manifest)
        with pytest.raises(ManifestInvalid, match="without manifests"):
            read(silent, MediaType.OCI_INDEX)


class TestForm:
    def test_without_a_media_type_the_form_decides(self) -> None:
        for base, kind in ((IMAGE, MediaType.OCI_MANIFEST), (INDEX, MediaType.OCI_INDEX)):
            silent = {key: value for key, value in base.items() if key != "mediaType"}
            assert read(silent).media_type == kind

    @pytest.mark.parametrize("version", [1, 3, 0])
    def test_other_schema_versions(self, version: int) -> None:
        with pytest.raises(ManifestInvalid, match=f"version {version}"):
            read(IMAGE | {"schemaVersion": version})

    @pytest.mark.parametrize("missing", ["schemaVersion", "config", "layers"])
    def test_missing_parts(self, missing: str) -> None:
        with pytest.raises(ManifestInvalid):
            read({key: value for key, value in IMAGE.items() if key != missing})

    def test_a_schema_1_manifest(self) -> None:
        with pytest.raises(ManifestInvalid):
            read({"schemaVersion": 1, "name": "x", "fsLayers": [], "signatures": []})

    def test_an_unknown_type(self) -> None:
        with pytest.raises(ManifestInvalid, match="text/plain"):
            read(IMAGE | {"mediaType": "text/plain"})

    @pytest.mark.parametrize("digest", ["sha256:abc", "", "md5:0", "../../etc/passwd"])
    def test_a_wrong_digest(self, digest: str) -> None:
        with pytest.raises(DigestInvalid):
            read(IMAGE | {"layers": [BLOB | {"digest": digest}]})

    @pytest.mark.parametrize("size", [-1, 2**63, 10**400])
    def test_a_size_that_cannot_be(self, size: int) -> None:
        with pytest.raises(SizeInvalid):
            read(IMAGE | {"layers": [BLOB | {"size": size}]})

    def test_unknown_keys_and_nulls_are_no_fault(self) -> None:
        body = IMAGE | {"subject": None, "annotations": None, "future": {"deep": [1.5, None]}}
        descriptor = BLOB | {"data": "aGk=", "urls": None, "platform": {"os": "linux", "architecture": None}}
        parsed = read(body | {"layers": [descriptor]})
        assert isinstance(parsed, Manifest)
        assert parsed.subject is None

    @pytest.mark.parametrize(
        "content", [b"[" * 100_000, b'{"a":' * 100_000, b'{"schemaVersion":2', b"\xff", b"null", b"[]"]
    )
    def test_nesting_halves_and_noise(self, content: bytes) -> None:
        with pytest.raises(ManifestInvalid):
            parse_manifest(content)


class TestMeaning:
    def test_an_image_needs_its_config_first_then_its_layers(self) -> None:
        config, layer = Descriptor("c", Digest.of(b"c"), 1), Descriptor("l", Digest.of(b"l"), 1)
        assert Manifest(MediaType.OCI_MANIFEST, config, (layer,)).children == (config, layer)

    def test_the_artifact_type_falls_back_to_the_configs(self) -> None:
        config = Descriptor("application/config", Digest.of(b"c"), 1)
        assert Manifest(MediaType.OCI_MANIFEST, config, ()).kind == "application/config"
        assert Manifest(MediaType.OCI_MANIFEST, config, (), artifact_type="application/sbom").kind == "application/sbom"
        assert Index(MediaType.OCI_INDEX, ()).kind is None

    def test_content_is_checked_against_its_descriptor(self) -> None:
        descriptor = Descriptor("x", Digest.of(b"hello"), 5)
        assert check_content(descriptor, b"hello") == b"hello"
        with pytest.raises(SizeInvalid):
            check_content(descriptor, b"hello!")
        with pytest.raises(DigestInvalid):
            check_content(descriptor, b"hullo")
