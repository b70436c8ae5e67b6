"""A program that does everything a store's user can do, to be killed in the middle: `store_writer.py ROOT`.

After each change that it was told is done, it says so on stdout: `tag REPO TAG DIGEST` or `untag REPO TAG`.
It may be run again on what an earlier, killed run left.
"""

import sys
from contextlib import suppress
from pathlib import Path

from registry.errors import BlobUnknown, ManifestUnknown
from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, RootFs
from registry.storage import Client, ContentStore, ScrubReport, TagRule


def image(config: Digest, config_size: int, *layers: bytes) -> bytes:
    return Manifest(
        MediaType.OCI_MANIFEST,
        Descriptor(MediaType.OCI_CONFIG, config, config_size),
        tuple(Descriptor(MediaType.OCI_LAYER, Digest.of(layer), len(layer)) for layer in layers),
    ).to_bytes()


def config_of(*layers: bytes) -> bytes:
    return ImageConfig(
        Platform("linux", "amd64"), rootfs=RootFs(tuple(Digest.of(layer) for layer in layers))
    ).to_bytes()


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def build(store: ContentStore, repo: str, tag: str, *layers: bytes) -> Digest:
    """As the builder does: a lease, blobs, then the manifest that takes them over."""
    with store.lease() as lease:
        for layer in layers:
            with store.ingest(lease=lease) as blob:
                for start in range(0, len(layer), 1000):
                    blob.write(layer[start : start + 1000])
                blob.commit()
        config = store.put(config_of(*layers), lease=lease)
        content = image(config, store.size(config), *layers)
        digest = store.put_manifest(repo, content, MediaType.OCI_MANIFEST, tags=[tag], adopt=True)
    say("tag", repo, tag, digest)
    return digest


def push(store: ContentStore, repo: str, tag: str, *layers: bytes) -> Digest:
    """As the registry server does: resumable uploads, then the manifest."""
    config = config_of(*layers)
    for content in (*layers, config):
        upload = store.start_upload(repo)
        upload.append(content[:100])
        upload.flush()
        upload = store.upload(repo, upload.id)
        upload.append(content[100:])
        upload.finish(Digest.of(content))
    manifest = image(Digest.of(config), len(config), *layers)
    digest = store.put_manifest(repo, manifest, MediaType.OCI_MANIFEST, tags=[tag])
    say("tag", repo, tag, digest)
    return digest


def scenario(root: Path) -> None:
    layers = [bytes([number]) * 5000 for number in range(1, 6)]
    with ContentStore.open(root) as store:
        build(store, "base", "keep", layers[0])
        first = build(store, "app", "latest", layers[0], layers[1])
        build(store, "app", "latest", layers[0], layers[2])
        store.tag("app", "old", first)
        say("tag", "app", "old", first)
        pushed = push(store, "team/app", "1", layers[0], layers[3])
        store.mount("team/other", Digest.of(layers[3]), "team/app")
        store.link_blob("team/other", Digest.of(layers[0]))
        with suppress(BlobUnknown):
            store.unlink_blob("team/other", Digest.of(layers[0]))
        store.cache_put(Digest.of(b"step"), b"record", [Digest.of(layers[0])])
        store.cache_drop([Digest.of(b"step")])
        store.cache_clear()
        upload = store.start_upload("team/app")
        upload.append(b"changed my mind")
        upload.cancel()
        store.put(layers[4])  # nothing will ever refer to it
        with suppress(ManifestUnknown):
            store.untag("app", "old")
        say("untag", "app", "old")
        untagged = build(store, "app", "gone", layers[1])
        store.delete_manifest("app", untagged)
        say("untag", "app", "gone")
        govern(store)
        (root / "uploads" / "trash-left").write_bytes(b"left by a crash long ago")
        store.collect(grace_seconds=0, untagged_seconds=0)
        assert store.manifest("team/app", "1").digest == pushed


def govern(store: ContentStore) -> None:
    """What an operator decides, what clients take away and get back, and a scrub that finds something."""
    store.namespaces.set_quota("team", 1_000_000)
    store.namespaces.set_read_only("team", False)
    store.tag_rules.remove(store.tag_rules.add(TagRule("immutable", "none", "*")))
    deleted = build(store, "app", "back", b"deleted and restored")
    store.note_pulls({("app", deleted): 1.5})
    store.delete_manifest("app", deleted, by=Client("somebody", 3600))
    say("untag", "app", "back")
    store.history.restore("app", "back")
    say("tag", "app", "back", deleted)
    store.path(store.put(b"lost by the disk")).unlink()
    list(store.scrubber.steps(ScrubReport()))


if __name__ == "__main__":
    scenario(Path(sys.argv[1]))
