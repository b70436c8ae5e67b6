"""Images by the names and IDs that people type."""

import pytest

from registry.errors import ManifestUnknown
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, Platform, Reference, parse_manifest
from registry.storage import ContentStore
from registry.storage.images import find_by_id, find_image, image_size
from tests.unit.storage.conftest import Images

ARM = Platform("linux", "arm64")
AMD = Platform("linux", "amd64")


def ref(text: str) -> Reference:
    return Reference.parse(text)


def put_index(store: ContentStore, images: Images, *platforms: str, absent: bool = False) -> Digest:
    children = [
        images.descriptor("app", images.put("app", place, platform=place), platform=place) for place in platforms
    ]
    content = Index(MediaType.OCI_INDEX, tuple(children)).to_bytes()
    index = store.put_manifest("app", content, MediaType.OCI_INDEX, tags=["multi"], adopt=True)
    if absent:
        store.delete_manifest("app", children[-1].digest)
    return index


class TestByName:
    def test_latest_is_meant_when_no_tag_is_given(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "x", "latest")
        found = find_image(store, ref("app"), AMD)
        assert (found.digest, found.index_digest) == (digest, None)
        assert str(found.reference) == "app:latest"
        assert found.config.author == "x"
        assert found.config_digest == found.manifest.config.digest

    @pytest.mark.parametrize("name", ["docker.io/library/app:1", "library/app:1", "index.docker.io/app:1", "app:1"])
    def test_every_spelling_of_a_name_finds_it(self, store: ContentStore, images: Images, name: str) -> None:
        images.put("app", "x", "1")
        assert find_image(store, ref(name), AMD).config.author == "x"

    def test_of_another_registry_is_another_image(self, store: ContentStore, images: Images) -> None:
        images.put("localhost:5000/app", "x", "1")
        assert find_image(store, ref("localhost:5000/app:1"), AMD).config.author == "x"
        with pytest.raises(ManifestUnknown, match="app:1"):
            find_image(store, ref("app:1"), AMD)

    def test_a_digest_outranks_the_tag(self, store: ContentStore, images: Images) -> None:
        first = images.put("app", "x", "1")
        images.put("app", "y", "1")
        assert find_image(store, ref(f"app:1@{first}"), AMD).config.author == "x"

    def test_for_a_platform_it_is_not_made_for_it_is_not_there(self, store: ContentStore, images: Images) -> None:
        images.put("app", "x", "1", platform="linux/arm64")
        with pytest.raises(ManifestUnknown, match="linux/arm64, not for linux/amd64"):
            find_image(store, ref("app:1"), AMD)
        assert find_image(store, ref("app:1"), ARM).config.author == "x"


class TestIndexes:
    def test_lead_to_the_image_of_the_platform(self, store: ContentStore, images: Images) -> None:
        index = put_index(store, images, "linux/amd64", "linux/arm64", "linux/arm/v7")
        found = find_image(store, ref("app:multi"), ARM)
        assert found.config.platform == ARM
        assert found.index_digest == index
        assert found.digest != index
        assert isinstance(parse_manifest(store.manifest("app", found.digest).content), Manifest)

    def test_offer_only_what_is_here(self, store: ContentStore, images: Images) -> None:
        put_index(store, images, "linux/amd64", "linux/arm64", absent=True)
        assert find_image(store, ref("app:multi"), AMD).config.platform == AMD
        with pytest.raises(ManifestUnknown, match=r"here: linux/amd64"):
            find_image(store, ref("app:multi"), ARM)

    def test_may_lie_within_indexes(self, store: ContentStore, images: Images) -> None:
        inner = images.descriptor("app", put_index(store, images, "linux/arm64"), "linux/arm64")
        content = Index(MediaType.OCI_INDEX, (inner,)).to_bytes()
        outer = store.put_manifest("app", content, MediaType.OCI_INDEX, tags=["outer"], adopt=True)
        found = find_image(store, ref("app:outer"), ARM)
        assert (found.config.platform, found.index_digest) == (ARM, outer)


class TestById:
    def test_some_digits_of_the_config_or_the_manifest(self, store: ContentStore, images: Images) -> None:
        digest = images.put("team/app", "x", "1")
        config = find_image(store, ref("team/app:1"), AMD).config_digest
        for prefix in (config.encoded, config.encoded[:12], str(config), f"sha256:{config.encoded[:8]}", digest.short):
            found = find_by_id(store, prefix)
            assert (found.config_digest, found.reference.repository) == (config, "team/app")

    def test_in_several_repositories_it_is_one_image(self, store: ContentStore, images: Images) -> None:
        images.put("app", "x", "1")
        images.put("other", "x", "1")
        assert find_by_id(store, find_image(store, ref("app:1"), AMD).config_digest.short).config.author == "x"

    def test_artifacts_are_no_images_and_hide_none(self, store: ContentStore, images: Images) -> None:
        images.put("app", "x", "1")
        wanted = find_image(store, ref("app:1"), AMD).config_digest
        charts = (b'{"os": %d}' % number for number in range(1000))
        chart = next(text for text in charts if Digest.of(text).encoded[0] == wanted.encoded[0])
        config = Descriptor("application/chart", store.put(chart), len(chart))
        content = Manifest(MediaType.OCI_MANIFEST, config, ()).to_bytes()
        store.put_manifest("charts", content, MediaType.OCI_MANIFEST, tags=["1"], adopt=True)
        assert find_by_id(store, wanted.encoded[0]).config_digest == wanted
        with pytest.raises(ManifestUnknown):
            find_by_id(store, config.digest.encoded)

    def test_too_few_digits_are_ambiguous(self, store: ContentStore, images: Images) -> None:
        for number in range(17):
            images.put("app", str(number), str(number))
        firsts = [find_image(store, ref(f"app:{number}"), AMD).config_digest.encoded[0] for number in range(17)]
        twice = next(digit for digit in firsts if firsts.count(digit) > 1)
        with pytest.raises(ManifestUnknown, match=f"IDs that begin with {twice}"):
            find_by_id(store, twice)

    @pytest.mark.parametrize("prefix", ["", "xyz", "sha256:", "0" * 65, "%", "ab_"])
    def test_what_is_no_id_finds_nothing(self, store: ContentStore, images: Images, prefix: str) -> None:
        images.put("app", "x", "1")
        with pytest.raises(ManifestUnknown):
            find_by_id(store, prefix)


def test_size_is_that_of_the_layers(store: ContentStore, images: Images) -> None:
    images.put("app", "12345", "1")
    assert image_size(store, find_image(store, ref("app:1"), AMD).manifest) == 5
