"""Sending images: nothing that is there already, once, in one piece if possible, and on from where it stopped."""

import itertools
import re
from collections.abc import Callable

import pytest

from registry.client import ClientSettings, Credentials, push
from registry.errors import Denied, ManifestUnknown, TransferError
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, Reference
from registry.storage import ContentStore
from tests.integration.client.fake import FakeRegistry, Reply, Seen, json_reply
from tests.integration.client.images import store_image

BIG = bytes(range(256)) * 12288  # 3 MiB


class Taking:
    """The side of a registry that takes uploads, with places to break it."""

    def __init__(self, fake: FakeRegistry) -> None:
        self.fake = fake
        self.uploads: dict[str, bytearray] = {}
        self.order: list[str] = []
        self.numbers = itertools.count(1)
        fake.on("HEAD", "/blobs/", self.head)
        fake.on("POST", "/blobs/uploads/", self.start)
        fake.on("PATCH", "/upload/", self.patch)
        fake.on("GET", "/upload/", self.status)
        fake.on("PUT", "/upload/", self.put)
        fake.on("PUT", "/manifests/", self.manifest)

    def head(self, seen: Seen) -> Reply:
        found = self.fake.blobs.get(seen.path.rpartition("/")[2])
        return Reply(404) if found is None else Reply(200, found)

    def start(self, seen: Seen) -> Reply:
        name = str(next(self.numbers))
        self.uploads[name] = bytearray()
        return Reply(202, b"", {"Location": f"/upload/{name}?_state=a%2Fb%3D", "Range": "0-0"})

    def name(self, seen: Seen) -> str:
        return seen.path.rpartition("/")[2]

    def told(self, name: str) -> dict[str, str]:
        return {"Location": f"/upload/{name}?_state=a%2Fb%3D", "Range": f"0-{max(len(self.uploads[name]) - 1, 0)}"}

    def patch(self, seen: Seen) -> Reply:
        name = self.name(seen)
        if seen.headers["content-range"].partition("-")[0] != str(len(self.uploads[name])):
            return Reply(416, b"", self.told(name))
        self.uploads[name] += seen.body
        return Reply(202, b"", self.told(name))

    def status(self, seen: Seen) -> Reply:
        return Reply(204, b"", self.told(self.name(seen)))

    def put(self, seen: Seen) -> Reply:
        assert seen.query["_state"] == ["a/b="]
        content = bytes(self.uploads[self.name(seen)] + seen.body)
        digest = Digest.of(content)
        if [str(digest)] != seen.query["digest"]:
            return json_reply({"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}, 400)
        self.fake.add_blob(content)
        return Reply(201, b"", {"Location": f"/v2/app/blobs/{digest}"})

    def manifest(self, seen: Seen) -> Reply:
        self.order.append(seen.path.rpartition("/")[2])
        digest = self.fake.add_manifest("app", self.order[-1], seen.body, seen.headers["content-type"])
        return Reply(201, b"", {"Docker-Content-Digest": str(digest)})


@pytest.fixture
def taking(fake: FakeRegistry) -> Taking:
    return Taking(fake)


@pytest.fixture
def send(store: ContentStore, fake: FakeRegistry, settings: ClientSettings) -> Callable[..., Digest]:
    def run(name: str = "app:1", **options: object) -> Digest:
        return push(store, Reference.parse(f"{fake.domain}/{name}"), settings=settings, **options)

    return run


class TestWhatIsSent:
    def test_each_blob_once_in_one_request_then_the_manifest_as_it_is(
        self, store: ContentStore, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        manifest = store_image(store, f"{fake.domain}/app:1", [BIG, b"two"])
        assert send() == Digest.of(manifest.to_bytes())
        assert {*fake.blobs.values()} == {BIG, b"two", store.read(manifest.config.digest)}
        assert fake.manifests["app/1"] == (manifest.to_bytes(), MediaType.OCI_MANIFEST)
        assert [int(seen.headers["content-length"]) for seen in fake.seen("PUT", "/upload/")].count(len(BIG)) == 1
        assert not fake.seen("PATCH", "")

    def test_nothing_that_the_registry_has(
        self, store: ContentStore, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        store_image(store, f"{fake.domain}/app:1", [BIG, b"two"])
        fake.add_blob(BIG)
        send()
        assert len(fake.seen("POST", "")) == 2

    def test_a_blob_of_another_of_its_repositories_is_mounted(
        self, store: ContentStore, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        manifest = store_image(store, f"{fake.domain}/base:1", [BIG])
        store_image(store, f"{fake.domain}/app:1", [BIG, b"two"])

        def mount(seen: Seen) -> Reply:
            fake.add_blob(BIG)
            return Reply(201, b"", {"Location": "/x"})

        fake._rules.insert(0, ("POST", re.compile(f"mount={manifest.layers[0].digest}&from=base$"), [mount]))
        send()
        assert not [seen for seen in fake.seen("PUT", "/upload/") if seen.headers["content-length"] == str(len(BIG))]

    def test_a_mount_that_does_not_work_becomes_an_upload(
        self, store: ContentStore, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        store_image(store, f"{fake.domain}/base:1", [BIG])
        store_image(store, f"{fake.domain}/app:1", [BIG])
        send()
        assert str(Digest.of(BIG)) in fake.blobs

    def test_images_before_the_index_that_lists_them(
        self, store: ContentStore, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        name = f"{fake.domain}/app:1"
        children = [store_image(store, name, [arch.encode()], arch, tagged=False) for arch in ("amd64", "arm64")]
        index = self.index(children)
        store.put_manifest(f"{fake.domain}/app", index.to_bytes(), index.media_type, tags=["1"])
        assert send() == Digest.of(index.to_bytes())
        assert taking.order == [*(str(Digest.of(child.to_bytes())) for child in children), "1"]

    def test_of_an_index_with_one_image_here_that_image(
        self, store: ContentStore, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        """What a pull for one platform leaves; docker pushes so, too."""
        name = f"{fake.domain}/app:1"
        here = store_image(store, name, [b"amd64"], "amd64", tagged=False)
        missing = Manifest(here.media_type, here.config, ())
        index = self.index([here, missing])
        store.put_manifest(f"{fake.domain}/app", index.to_bytes(), index.media_type, tags=["1"], sparse=True)
        assert send() == Digest.of(here.to_bytes())
        assert fake.manifests["app/1"][0] == here.to_bytes()

    def index(self, children: list[Manifest]) -> Index:
        return Index(
            MediaType.OCI_INDEX,
            tuple(Descriptor(c.media_type, Digest.of(c.to_bytes()), len(c.to_bytes())) for c in children),
        )

    def test_layers_that_may_not_be_distributed_stay(
        self, store: ContentStore, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        image = store_image(store, f"{fake.domain}/app:1", [BIG])
        foreign = Descriptor(MediaType.DOCKER_FOREIGN_LAYER, Digest.of(BIG), len(BIG), urls=("https://example.com/x",))
        manifest = Manifest(image.media_type, image.config, (foreign,))
        store.put_manifest(f"{fake.domain}/app", manifest.to_bytes(), manifest.media_type, tags=["1"])
        send()
        assert str(Digest.of(BIG)) not in fake.blobs

    def test_an_image_that_is_not_here(self, send: Callable[..., Digest]) -> None:
        with pytest.raises(ManifestUnknown, match="no image"):
            send()


class TestWhatGoesWrong:
    @pytest.fixture(autouse=True)
    def image(self, store: ContentStore, fake: FakeRegistry, taking: Taking) -> Manifest:
        fake.add_blob(store_image(store, f"{fake.domain}/app:1", [BIG]).to_bytes())
        return store_image(store, f"{fake.domain}/app:1", [BIG])

    def before(self, fake: FakeRegistry, method: str, pattern: str, *replies: object) -> None:
        fake._rules.insert(0, (method, re.compile(pattern), list(replies)))

    def test_a_broken_upload_goes_on_where_the_registry_says_it_stands(
        self, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        def lose_the_rest(seen: Seen) -> Reply:
            if len(seen.body) == len(BIG):
                taking.uploads[taking.name(seen)] += seen.body[:1_000_000]
                return Reply(raw=b"")
            return taking.put(seen)

        self.before(fake, "PUT", "/upload/", lose_the_rest)
        send()
        assert str(Digest.of(BIG)) in fake.blobs
        last = fake.seen("PUT", "/upload/")[-1]
        assert last.headers["content-range"] == f"1000000-{len(BIG) - 1}"

    def test_an_answer_that_got_lost_is_not_sent_again(
        self, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest]
    ) -> None:
        def forget(seen: Seen) -> Reply:
            taking.put(seen)
            return Reply(raw=b"")

        self.before(fake, "PUT", "/upload/", forget)
        self.before(fake, "GET", "/upload/", Reply(404))
        send()
        assert len([seen for seen in fake.seen("PUT", "/upload/") if len(seen.body) == len(BIG)]) == 1

    def test_a_registry_that_wants_pieces_gets_pieces(
        self, fake: FakeRegistry, taking: Taking, store: ContentStore, settings: ClientSettings
    ) -> None:
        def too_large(seen: Seen) -> Reply:
            return Reply(413) if len(seen.body) > 1024 * 1024 else taking.put(seen)

        self.before(fake, "PUT", "/upload/", too_large)
        small = ClientSettings(chunk=1024 * 1024, pause=settings.pause)
        push(store, Reference.parse(f"{fake.domain}/app:1"), settings=small)
        assert str(Digest.of(BIG)) in fake.blobs
        ranges = [seen.headers["content-range"] for seen in fake.seen("PATCH", "/upload/")]
        assert ranges == ["0-1048575", "1048576-2097151"]

    def test_the_least_size_of_a_piece_is_kept(
        self, fake: FakeRegistry, taking: Taking, store: ContentStore, settings: ClientSettings
    ) -> None:
        def start(seen: Seen) -> Reply:
            reply = taking.start(seen)
            reply.headers["OCI-Chunk-Min-Length"] = "2000000"
            return reply

        self.before(fake, "POST", "/uploads/", start)
        self.before(
            fake, "PUT", "/upload/", lambda seen: taking.put(seen) if len(seen.body) < 2_500_000 else Reply(413)
        )
        small = ClientSettings(chunk=1024 * 1024, pause=settings.pause, parallel=1)
        push(store, Reference.parse(f"{fake.domain}/app:1"), settings=small)
        assert {len(seen.body) for seen in fake.seen("PATCH", "/upload/")} == {2_000_000}

    def test_a_busy_registry_is_given_time(
        self, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest], waits: list[float]
    ) -> None:
        self.before(fake, "PUT", "/upload/", Reply(503, b"", {"Retry-After": "3"}), taking.put)
        send()
        assert 3.0 in waits

    def test_a_fault_that_stays_ends_the_push(
        self, fake: FakeRegistry, taking: Taking, send: Callable[..., Digest], settings: ClientSettings
    ) -> None:
        self.before(fake, "PUT", "/upload/", Reply(500))
        with pytest.raises(TransferError, match="answers 500"):
            send()
        assert not taking.order

    def test_no_right_to_push(self, fake: FakeRegistry, send: Callable[..., Digest]) -> None:
        denied = json_reply({"errors": [{"code": "DENIED", "message": "read only"}]}, 403)
        self.before(fake, "POST", "/uploads/", denied)
        with pytest.raises(Denied, match="read only"):
            send()

    def test_a_registry_that_changes_the_manifest_is_found_out(
        self, fake: FakeRegistry, send: Callable[..., Digest]
    ) -> None:
        self.before(fake, "PUT", "/manifests/", Reply(201, b"", {"Docker-Content-Digest": f"sha256:{'1' * 64}"}))
        with pytest.raises(TransferError, match="changed the manifest"):
            send()

    def test_an_upload_elsewhere_gets_no_credentials(
        self, fake: FakeRegistry, new_fake: Callable[..., FakeRegistry], store: ContentStore, settings: ClientSettings
    ) -> None:
        elsewhere = new_fake()
        elsewhere.on("PUT", "/bucket", Reply(201))
        self.before(fake, "GET", "/v2/$", Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        self.before(fake, "POST", "/uploads/", Reply(202, b"", {"Location": f"http://{elsewhere.domain}/bucket"}))
        me = Credentials("me", "hunter2")
        push(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings, credentials=me)
        assert elsewhere.seen("PUT", "/bucket")
        assert {seen.headers.get("authorization") for seen in elsewhere.requests} == {None}

    def test_an_upload_without_a_place(self, fake: FakeRegistry, send: Callable[..., Digest]) -> None:
        self.before(fake, "POST", "/uploads/", Reply(202))
        with pytest.raises(TransferError, match="without Location"):
            send()
