"""Push here, pull there: through our own registry and through docker's."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.client import ClientSettings, Credentials, log_in, pull, push
from registry.errors import ManifestUnknown, Unauthorized
from registry.model import Digest, Platform, Reference
from registry.storage import ContentStore
from registry.storage.images import find_image
from tests.integration.client.images import store_image, store_index

BIG = os.urandom(5_000_000)
# `secret`, by htpasswd -B; docker's registry takes no other hash
HTPASSWD = "me:$2b$04$.xiDTW9ausgDR62mTprRz.g9OvQSl29ehNmSUnMM5/eh.i01mmgum\n"


@pytest.fixture
def other(ram_path: Path) -> Iterator[ContentStore]:
    with ContentStore.open(ram_path / "other") as opened:
        yield opened


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        assert 0 <= current <= total or not total
        if (what, status) not in self.told:
            self.told.append((what, status))


class TestRoundTrip:
    def test_an_image(self, store: ContentStore, other: ContentStore, registry_domain: str) -> None:
        reference = Reference.parse(f"{registry_domain}/team/app:1")
        manifest = store_image(store, str(reference), [BIG, b"two"])
        digest = push(store, reference)
        assert pull(other, reference) == digest == Digest.of(manifest.to_bytes())
        assert other.path(manifest.layers[0].digest).read_bytes() == BIG
        assert other.manifest(reference.repository, "1").content == manifest.to_bytes()

    def test_by_digest_tags_nothing(self, store: ContentStore, other: ContentStore, registry_domain: str) -> None:
        reference = Reference.parse(f"{registry_domain}/app:1")
        store_image(store, str(reference), [b"one"])
        pinned = reference.with_digest(push(store, reference))
        pull(other, pinned)
        assert other.images() == []
        assert find_image(other, pinned).digest == pinned.digest

    def test_the_image_for_this_machine_out_of_several(
        self, store: ContentStore, other: ContentStore, registry_domain: str
    ) -> None:
        reference = Reference.parse(f"{registry_domain}/app:1")
        index = store_index(store, str(reference), {"s390x": b"other", "amd64": b"this", "arm64": b"third"})
        push(store, reference)
        assert pull(other, reference, platform=Platform.parse("linux/arm64")) == Digest.of(index.to_bytes())
        assert other.has(Digest.of(b"third"))
        assert not other.has(Digest.of(b"other"))
        assert find_image(other, reference, Platform.parse("arm64")).index_digest == Digest.of(index.to_bytes())

    def test_the_images_for_all_machines(self, store: ContentStore, other: ContentStore, registry_domain: str) -> None:
        reference = Reference.parse(f"{registry_domain}/app:1")
        store_index(store, str(reference), {"s390x": b"other", "amd64": b"this"})
        push(store, reference)
        pull(other, reference, all_platforms=True)
        assert other.has(Digest.of(b"other"))
        assert other.has(Digest.of(b"this"))

    def test_a_platform_that_is_not_there(self, store: ContentStore, other: ContentStore, registry_domain: str) -> None:
        reference = Reference.parse(f"{registry_domain}/app:1")
        store_index(store, str(reference), {"s390x": b"other", "amd64": b"this"})
        push(store, reference)
        with pytest.raises(ManifestUnknown) as caught:
            pull(other, reference, platform=Platform.parse("linux/riscv64"))
        assert "linux/amd64, linux/s390x" in str(caught.value.hint)
        assert other.images() == []

    def test_a_single_image_for_another_platform_than_was_asked_for(
        self, store: ContentStore, other: ContentStore, registry_domain: str
    ) -> None:
        reference = Reference.parse(f"{registry_domain}/app:1")
        store_image(store, str(reference), [b"one"], "amd64")
        push(store, reference)
        with pytest.raises(ManifestUnknown, match="is for linux/amd64"):
            pull(other, reference, platform=Platform.parse("linux/arm64"))

    def test_the_second_time_nothing_is_sent(self, store: ContentStore, registry_domain: str) -> None:
        reference = Reference.parse(f"{registry_domain}/app:1")
        store_image(store, str(reference), [BIG])
        first, second = Listener(), Listener()
        push(store, reference, progress=first)
        push(store, reference, progress=second)
        short = Digest.of(BIG).short
        assert (short, "Pushed") in first.told
        assert (short, "Layer already exists") in second.told

    def test_what_other_images_brought_is_not_fetched_again(
        self, store: ContentStore, other: ContentStore, registry_domain: str
    ) -> None:
        for name, layers in (("base", [BIG]), ("app", [BIG, b"more"])):
            reference = Reference.parse(f"{registry_domain}/{name}:1")
            store_image(store, str(reference), layers)
            push(store, reference)
        listener = Listener()
        pull(other, Reference.parse(f"{registry_domain}/base:1"))
        pull(other, Reference.parse(f"{registry_domain}/app:1"), progress=listener)
        assert (Digest.of(BIG).short, "Already exists") in listener.told

    def test_layers_are_mounted_from_a_neighbour(self, store: ContentStore, registry_domain: str) -> None:
        listener = Listener()
        for name, layers in (("base", [BIG]), ("app", [BIG, b"more"])):
            reference = Reference.parse(f"{registry_domain}/{name}:1")
            store_image(store, str(reference), layers)
            push(store, reference, progress=listener)
        assert (Digest.of(BIG).short, "Mounted from base") in listener.told

    def test_under_another_name(self, store: ContentStore, other: ContentStore, registry_domain: str) -> None:
        store_image(store, "app:1", [b"one"])
        target = Reference.parse(f"{registry_domain}/renamed:2")
        assert push(store, target, source=Reference.parse("app:1")) == pull(other, target)


class TestHtpasswd:
    def test_docker_s_registry_with_a_password(
        self, store: ContentStore, distribution: Callable[[str], str], tmp_path: Path
    ) -> None:
        (tmp_path / "htpasswd").write_text(HTPASSWD)
        domain = distribution(f"auth: {{htpasswd: {{realm: x, path: {tmp_path}/htpasswd}}}}")
        reference = Reference.parse(f"{domain}/app:1")
        store_image(store, str(reference), [b"one"])
        with pytest.raises(Unauthorized):
            push(store, reference)
        with pytest.raises(Unauthorized):
            log_in(domain, Credentials("me", "wrong"), ClientSettings())
        log_in(domain, Credentials("me", "secret"), ClientSettings())
        assert push(store, reference) == pull(store, reference)


def test_the_http_library_is_loaded_by_the_first_transfer_only() -> None:
    program = "import registry.client, registry.layouts, sys; print('httpx' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
