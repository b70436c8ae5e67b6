"""Manifests and tags (distribution-spec "Pushing Manifests", "Pulling manifests", "Deleting Manifests")."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.model import Digest
from registry.server.state import Settings
from tests.integration.registry.support import OCI_INDEX, OCI_MANIFEST, Client, Registry

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
PATH = "/v2/app/manifests"


def index_of(*digests: Digest, size: int = 1, **extra: object) -> bytes:
    entries = [{"mediaType": OCI_MANIFEST, "digest": str(digest), "size": size} for digest in digests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **extra}).encode()


class TestPushAndPull:
    def test_give_the_very_bytes_back_whatever_accept_says(self, registry: Registry) -> None:
        content = b"\n  " + registry.image().replace(b"{", b"{ ", 1) + b"\n"
        digest = Digest.of(content)
        pushed = registry.put_manifest(content, f"{PATH}/1")
        assert (pushed.status, pushed.headers["location"]) == (201, f"{PATH}/{digest}")
        assert pushed.headers["docker-content-digest"] == str(digest)
        for path in (f"{PATH}/1", f"{PATH}/{digest}"):
            answer = registry.ask("GET", path, headers={"Accept": "application/json"})
            assert (answer.status, answer.body) == (200, content)
            assert answer.headers["content-type"] == OCI_MANIFEST
            assert answer.headers["docker-content-digest"] == str(digest)

    def test_head_has_the_same_headers_and_no_body(self, registry: Registry) -> None:
        registry.push_image()
        head, whole = registry.ask("HEAD", f"{PATH}/1"), registry.ask("GET", f"{PATH}/1")
        assert (head.status, head.body) == (200, b"")
        assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}

    def test_take_the_media_type_from_the_body_when_the_request_has_none(self, registry: Registry) -> None:
        answer = registry.ask("PUT", f"{PATH}/1", registry.image())
        assert answer.status == 201
        assert registry.ask("HEAD", f"{PATH}/1").headers["content-type"] == OCI_MANIFEST

    def test_keep_dockers_type_without_parameters(self, registry: Registry) -> None:
        content = registry.image(mediaType=DOCKER_MANIFEST)
        assert registry.put_manifest(content, f"{PATH}/1", f"{DOCKER_MANIFEST}; charset=utf-8").status == 201
        assert registry.ask("HEAD", f"{PATH}/1").headers["content-type"] == DOCKER_MANIFEST

    def test_under_sha512_are_another_object_than_their_twin(self, registry: Registry) -> None:
        content = registry.image()
        digest = Digest.of(content, "sha512")
        assert registry.put_manifest(content, f"{PATH}/{digest}").headers["docker-content-digest"] == str(digest)
        assert registry.ask("GET", f"{PATH}/{digest}").body == content
        assert registry.ask("GET", f"{PATH}/{Digest.of(content)}").code == "MANIFEST_UNKNOWN"

    def test_of_what_the_client_has_is_304(self, registry: Registry) -> None:
        digest = registry.push_image()
        answer = registry.ask("GET", f"{PATH}/1", headers={"If-None-Match": f'"{digest}"'})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", f'"{digest}"')

    def test_let_only_digests_be_cached(self, registry: Registry) -> None:
        digest = registry.push_image()
        assert registry.ask("HEAD", f"{PATH}/1").headers["cache-control"] == "no-cache"
        assert "immutable" in registry.ask("HEAD", f"{PATH}/{digest}").headers["cache-control"]

    def test_move_a_tag_for_the_next_reader_at_once(self, registry: Registry) -> None:
        for layer in (b"one", b"two", b"one"):
            digest = registry.push_image(layer=layer)
            assert registry.ask("HEAD", f"{PATH}/1").headers["docker-content-digest"] == str(digest)

    def test_are_seen_by_another_server_with_the_same_root(self, run_registry: Callable[..., Registry]) -> None:
        one, other = run_registry(), run_registry()
        for layer in (b"one", b"two"):
            digest = one.push_image(layer=layer)
            assert other.ask("HEAD", f"{PATH}/1").headers["docker-content-digest"] == str(digest)
        other.ask("DELETE", f"{PATH}/1")
        assert one.ask("HEAD", f"{PATH}/1").status == 404

    @pytest.mark.parametrize("tag", ["never", ".INVALID_MANIFEST_NAME"])
    def test_of_a_tag_that_is_not_there_are_404_though_none_could_be_named_so(
        self, registry: Registry, tag: str
    ) -> None:
        assert registry.ask("HEAD", f"{PATH}/{tag}").status == 404
        assert registry.ask("GET", f"{PATH}/{tag}").code == "MANIFEST_UNKNOWN"


class TestSeveralTags:
    def test_come_with_one_push_by_digest(self, registry: Registry) -> None:
        content = registry.image()
        tags = [f"v{number}" for number in range(12)]
        path = f"{PATH}/{Digest.of(content)}?" + "&".join(f"tag={tag}" for tag in tags)
        answer = registry.put_manifest(content, path)
        assert answer.status == 201
        assert answer.headers["oci-tag"].split(", ") == tags
        assert sorted(tags) == registry.store.tags("app")

    def test_come_all_or_not_at_all(self, registry: Registry) -> None:
        content = registry.image()
        answer = registry.put_manifest(content, f"{PATH}/{Digest.of(content)}?tag=good&tag=-bad")
        assert (answer.status, answer.code) == (400, "TAG_INVALID")
        assert registry.ask("HEAD", f"{PATH}/good").status == 404


class TestConditionalPush:
    """Two who move one tag must not overwrite each other unseen."""

    def push(self, registry: Registry, layer: bytes, **condition: str) -> int:
        headers = {name.replace("_", "-"): value for name, value in condition.items()}
        return registry.put_manifest(registry.image(layer=layer), f"{PATH}/1", headers=headers).status

    def test_moves_the_tag_only_from_where_it_was_seen(self, registry: Registry) -> None:
        seen = registry.push_image(layer=b"seen")
        assert self.push(registry, b"mine", If_Match=f'"{seen}"') == 201
        assert self.push(registry, b"late", If_Match=f'"{seen}"') == 412

    def test_makes_the_tag_only_if_it_is_new(self, registry: Registry) -> None:
        assert self.push(registry, b"first", If_None_Match="*") == 201
        assert self.push(registry, b"second", If_None_Match="*") == 412

    def test_answers_with_the_tag_to_go_on_from(self, registry: Registry) -> None:
        answer = registry.put_manifest(registry.image(layer=b"a"), f"{PATH}/1")
        assert answer.headers["etag"] == f'"{answer.headers["docker-content-digest"]}"'
        assert self.push(registry, b"b", If_Match=answer.headers["etag"]) == 201

    @pytest.mark.parametrize(("condition", "status"), [({"If_Match": "*"}, 412), ({"If_Match": ""}, 400)])
    def test_that_does_not_hold_or_can_not_be_read_is_refused(
        self, registry: Registry, condition: dict[str, str], status: int
    ) -> None:
        assert self.push(registry, b"x", **condition) == status
        assert registry.ask("HEAD", f"{PATH}/1").status == 404

    def test_of_several_tags_moves_all_or_none(self, registry: Registry) -> None:
        seen = registry.push_image(tag="1", layer=b"seen")
        registry.push_image(tag="2", layer=b"other")
        content = registry.image(layer=b"mine")
        path = f"{PATH}/{Digest.of(content)}?tag=1&tag=2"
        assert registry.put_manifest(content, path, headers={"If-Match": f'"{seen}"'}).status == 412
        assert registry.ask("HEAD", f"{PATH}/1").headers["docker-content-digest"] == str(seen)

    @pytest.mark.parametrize("by_tag", [True, False])
    def test_has_its_twin_in_delete(self, registry: Registry, by_tag: bool) -> None:
        digest = registry.push_image()
        at = f"{PATH}/{1 if by_tag else digest}"
        refused = registry.ask("DELETE", at, headers={"If-Match": f'"{Digest.of(b"other")}"'})
        assert (refused.status, registry.ask("HEAD", at).status) == (412, 200)
        assert registry.ask("DELETE", at, headers={"If-None-Match": "*"}).status == 412
        assert registry.ask("DELETE", at, headers={"If-Match": f'"{digest}"'}).status == 202
        assert registry.ask("HEAD", at).status == 404

    def test_loses_to_nobody_when_many_add_to_one_tag_at_once(self, registry: Registry) -> None:
        """As signers that keep a list under a tag: each reads, adds itself, and writes only if nobody was faster."""
        path = f"{PATH}/sha256-{'a' * 64}.sig"
        registry.put_manifest(registry.image(signers=[]), path)

        def sign(name: int) -> None:
            client = Client(registry.port)
            status = 412
            while status == 412:
                seen = client.ask("GET", path)
                content = json.dumps({**seen.json, "signers": [*seen.json["signers"], name]}).encode()
                status = client.put_manifest(content, path, headers={"If-Match": seen.headers["etag"]}).status
            client.agent.close()
            assert status == 201

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(sign, range(8)))
        assert sorted(registry.ask("GET", path).json["signers"]) == list(range(8))

    def test_that_does_not_hold_for_a_read_is_412(self, registry: Registry) -> None:
        digest = registry.push_image()
        assert registry.ask("GET", f"{PATH}/1", headers={"If-Match": f'"{Digest.of(b"x")}"'}).status == 412
        assert registry.ask("GET", f"{PATH}/1", headers={"If-Match": f'"{digest}"'}).status == 200


class TestNamedByTheRegistryThatIsMeant:
    """`?ns=`, as a client does that uses us as its mirror."""

    def test_is_served_from_what_was_pulled_from_there(self, registry: Registry) -> None:
        digest = registry.push_image("quay.io/team/app")
        answer = registry.ask("GET", "/v2/team/app/manifests/1?ns=quay.io")
        assert (answer.status, answer.headers["docker-content-digest"]) == (200, str(digest))
        assert answer.headers["oci-namespace"] == "quay.io"
        layer = answer.json["layers"][0]["digest"]
        assert registry.ask("GET", f"/v2/team/app/blobs/{layer}?ns=quay.io").body == b"layer"
        assert registry.ask("GET", f"/v2/team/app/blobs/{layer}").status == 404

    def test_that_nothing_is_here_of_is_asked_by_the_path_alone(self, registry: Registry) -> None:
        registry.push_image("team/app")
        answer = registry.ask("GET", "/v2/team/app/manifests/1?ns=quay.io")
        assert answer.status == 200
        assert "oci-namespace" not in answer.headers

    def test_moves_no_push(self, registry: Registry) -> None:
        registry.push_image("quay.io/team/app")
        assert registry.put_manifest(registry.image("team/app"), "/v2/team/app/manifests/2?ns=quay.io").status == 201
        assert registry.ask("GET", "/v2/quay.io/team/app/tags/list").json["tags"] == ["1"]

    def test_that_is_no_registry_is_refused(self, registry: Registry) -> None:
        assert registry.ask("GET", "/v2/app/manifests/1?ns=..").code == "NAME_INVALID"


class TestRefusedManifest:
    def refused(self, client: Client, content: bytes, media_type: str = OCI_MANIFEST, at: str = "1") -> tuple[int, str]:
        answer = client.put_manifest(content, f"{PATH}/{at}", media_type)
        return answer.status, answer.code

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"schemaVersion":1}', b"[" * 100_000])
    def test_because_it_is_none(self, registry: Registry, content: bytes) -> None:
        assert self.refused(registry, content) == (400, "MANIFEST_INVALID")

    def test_because_it_is_an_image_and_an_index_at_once(self, registry: Registry) -> None:
        """CVE-2021-41190"""
        assert self.refused(registry, registry.image(manifests=[])) == (400, "MANIFEST_INVALID")

    def test_because_body_and_header_name_different_types(self, registry: Registry) -> None:
        assert self.refused(registry, registry.image(), DOCKER_MANIFEST) == (400, "MANIFEST_INVALID")

    def test_because_its_digest_is_another(self, registry: Registry) -> None:
        content = registry.image()
        assert self.refused(registry, content, at=str(Digest.of(b"other"))) == (400, "DIGEST_INVALID")
        assert registry.ask("GET", f"{PATH}/{Digest.of(content)}").status == 404

    def test_because_a_size_lies(self, registry: Registry) -> None:
        parsed = json.loads(registry.image())
        parsed["layers"][0]["size"] += 1
        assert self.refused(registry, json.dumps(parsed).encode()) == (400, "SIZE_INVALID")

    def test_because_a_layer_is_not_in_this_repository(self, registry: Registry) -> None:
        content = registry.image("other")
        answer = registry.put_manifest(content, f"{PATH}/1")
        assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
        named = {error["detail"]["digest"] for error in answer.json["errors"]}
        assert named == {json.loads(content)["config"]["digest"], str(Digest.of(b"layer"))}, "each that is missing"
        assert registry.ask("GET", f"{PATH}/1").status == 404

    def test_because_an_image_of_the_index_is_not_there(
        self, registry: Registry, run_registry: Callable[..., Registry]
    ) -> None:
        content = index_of(Digest.of(b"elsewhere"))
        assert self.refused(registry, content, OCI_INDEX) == (404, "MANIFEST_BLOB_UNKNOWN")
        sparse = run_registry(Settings(sparse_indexes=True))
        assert sparse.put_manifest(content, f"{PATH}/1", OCI_INDEX).status == 201

    @pytest.mark.parametrize("tag", ["-x", ".x", "a" * 129, "a b", "ä", "a%0a", "a%00", "a+b"])
    def test_because_of_its_tag(self, registry: Registry, tag: str) -> None:
        answer = registry.put_manifest(registry.image(), f"{PATH}/{tag.replace(' ', '%20').replace('ä', '%C3%A4')}")
        assert answer.status == 400
        assert answer.code in ("TAG_INVALID", "NAME_INVALID")

    def test_because_it_is_too_large_announced_or_not(self, registry: Registry) -> None:
        large = b" " * (4 * 1024 * 1024 + 1)
        assert self.refused(registry, large) == (413, "MANIFEST_INVALID")
        registry.agent.close()
        answer = registry.ask("PUT", f"{PATH}/1", (large[at : at + 65536] for at in range(0, len(large), 65536)),
                              {"Content-Type": OCI_MANIFEST}, encode_chunked=True)  # fmt: skip
        assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")

    def test_never_because_it_is_just_as_large_as_the_specification_demands(self, registry: Registry) -> None:
        content = registry.image()
        content += b" " * (4 * 1024 * 1024 - len(content))
        assert registry.put_manifest(content, f"{PATH}/1").status == 201
        assert registry.ask("GET", f"{PATH}/1").body == content


class TestSubject:
    def test_need_not_be_there_and_is_confirmed(self, registry: Registry) -> None:
        subject = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"later")), "size": 5}
        answer = registry.put_manifest(registry.image(subject=subject), f"{PATH}/sig")
        assert (answer.status, answer.headers["oci-subject"]) == (201, subject["digest"])


class TestDelete:
    def test_of_a_tag_leaves_the_manifest_and_its_other_tags(self, registry: Registry) -> None:
        digest = registry.push_image(tag="1")
        registry.push_image(tag="2")
        assert registry.ask("DELETE", f"{PATH}/1").status == 202
        assert registry.ask("GET", f"{PATH}/1").code == "MANIFEST_UNKNOWN"
        assert registry.ask("HEAD", f"{PATH}/2").status == registry.ask("HEAD", f"{PATH}/{digest}").status == 200
        assert registry.ask("GET", "/v2/app/tags/list").json["tags"] == ["2"]

    def test_of_a_digest_takes_its_tags_along(self, registry: Registry) -> None:
        digest = registry.push_image(tag="1")
        assert registry.ask("DELETE", f"{PATH}/{digest}").status == 202
        assert [registry.ask("HEAD", f"{PATH}/{at}").status for at in ("1", digest)] == [404, 404]

    @pytest.mark.parametrize("at", ["never", ".never", str(Digest.of(b"never"))])
    def test_of_what_is_not_there_is_404(self, registry: Registry, at: str) -> None:
        assert registry.ask("DELETE", f"{PATH}/{at}").code == "MANIFEST_UNKNOWN"
