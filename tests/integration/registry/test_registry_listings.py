"""Lists (distribution-spec "Listing Tags", "Listing Referrers"; Docker's catalog)."""

import json
import re

import pytest

from registry.model import Digest
from tests.integration.registry.support import OCI_INDEX, OCI_MANIFEST, Registry

TAGS = "/v2/app/tags/list"


def next_page(link: str) -> str:
    match = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert match
    return match[1]


class TestTags:
    @pytest.fixture
    def tagged(self, registry: Registry) -> Registry:
        content = registry.image()
        path = f"/v2/app/manifests/{Digest.of(content)}?"
        registry.put_manifest(content, path + "&".join(f"tag={tag}" for tag in ("b", "a", "B", "_", "a.1", "0", "a-1")))
        return registry

    def test_come_in_the_order_of_their_bytes(self, tagged: Registry) -> None:
        answer = tagged.ask("GET", TAGS)
        assert answer.json == {"name": "app", "tags": ["0", "B", "_", "a", "a-1", "a.1", "b"]}
        assert "link" not in answer.headers

    def test_come_in_pages_that_are_linked_to_the_end(self, tagged: Registry) -> None:
        pages, path = [], f"{TAGS}?n=3"
        while path:
            answer = tagged.ask("GET", path)
            pages.append(answer.json["tags"])
            path = next_page(answer.headers["link"]) if "link" in answer.headers else ""
        assert pages == [["0", "B", "_"], ["a", "a-1", "a.1"], ["b"]]

    def test_end_without_a_link_when_the_page_is_just_full(self, tagged: Registry) -> None:
        assert "link" not in tagged.ask("GET", f"{TAGS}?n=7").headers

    def test_start_after_last_with_and_without_n_and_though_it_does_not_exist(self, tagged: Registry) -> None:
        assert tagged.ask("GET", f"{TAGS}?last=a").json["tags"] == ["a-1", "a.1", "b"]
        assert tagged.ask("GET", f"{TAGS}?last=a&n=1").json["tags"] == ["a-1"]
        assert tagged.ask("GET", f"{TAGS}?last=a.zzz").json["tags"] == ["b"]
        assert tagged.ask("GET", f"{TAGS}?last=zzz").json["tags"] == []

    def test_of_a_page_of_none_is_an_empty_list_without_a_link(self, tagged: Registry) -> None:
        answer = tagged.ask("GET", f"{TAGS}?n=0")
        assert answer.json["tags"] == []
        assert "link" not in answer.headers

    @pytest.mark.parametrize("n", ["-1", "abc", "99999999999999999999"])
    def test_of_a_page_of_nonsense_are_refused(self, tagged: Registry, n: str) -> None:
        assert tagged.ask("GET", f"{TAGS}?n={n}").code == "PAGINATION_NUMBER_INVALID"

    def test_of_a_repository_that_does_not_exist_are_404(self, registry: Registry) -> None:
        assert registry.ask("GET", TAGS).code == "NAME_UNKNOWN"


class TestCatalog:
    def test_lists_what_can_be_asked_for_and_not_what_was_built_for_elsewhere(self, registry: Registry) -> None:
        for repo in ("zoo", "app", "team/app"):
            registry.push_image(repo)
        digest = Digest.parse(registry.ask("HEAD", "/v2/app/manifests/1").headers["docker-content-digest"])
        found = registry.store.manifest("app", digest)
        registry.store.put_manifest("localhost:5000/app", found.content, found.media_type, tags=["1"], adopt=True)
        assert registry.ask("GET", "/v2/_catalog").json == {"repositories": ["app", "team/app", "zoo"]}

    def test_comes_in_pages(self, registry: Registry) -> None:
        for repo in ("a", "b", "c"):
            registry.push_image(repo)
        first = registry.ask("GET", "/v2/_catalog?n=2")
        assert first.json == {"repositories": ["a", "b"]}
        second = registry.ask("GET", next_page(first.headers["link"]))
        assert second.json == {"repositories": ["c"]}
        assert "link" not in second.headers

    def test_allocates_nothing_for_a_huge_page(self, registry: Registry) -> None:
        """CVE-2023-2253"""
        assert registry.ask("GET", f"/v2/_catalog?n={2**31}").json == {"repositories": []}
        assert registry.ask("GET", "/v2/_catalog?n=0").json == {"repositories": []}
        assert registry.ask("GET", "/v2/_catalog?n=-1").status == 400


class TestReferrers:
    def refer(self, registry: Registry, subject: Digest, number: int, **extra: object) -> Digest:
        pointer = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 1}
        return registry.push_image(tag=f"r{number}", layer=str(number).encode(), subject=pointer, **extra)

    def test_are_listed_with_type_and_annotations_though_their_subject_comes_later(self, registry: Registry) -> None:
        content = registry.image()
        subject = Digest.of(content)
        signature = self.refer(registry, subject, 1, artifactType="application/x.sig", annotations={"by": "me"})
        plain = self.refer(registry, subject, 2)
        registry.put_manifest(content, "/v2/app/manifests/1")
        answer = registry.ask("GET", f"/v2/app/referrers/{subject}")
        assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
        assert (answer.json["schemaVersion"], answer.json["mediaType"]) == (2, OCI_INDEX)
        first, second = answer.json["manifests"]
        assert (first["digest"], first["artifactType"], first["annotations"]) == (
            str(signature), "application/x.sig", {"by": "me"}
        )  # fmt: skip
        assert (second["digest"], second["artifactType"]) == (str(plain), "application/vnd.oci.image.config.v1+json")
        assert second["size"] == len(registry.ask("GET", f"/v2/app/manifests/{plain}").body)

    def test_are_filtered_here_and_the_answer_says_so(self, registry: Registry) -> None:
        subject = Digest.of(b"subject")
        wanted = self.refer(registry, subject, 1, artifactType="application/x.sig+json")
        self.refer(registry, subject, 2, artifactType="application/x.sbom")
        answer = registry.ask("GET", f"/v2/app/referrers/{subject}?artifactType=application%2Fx.sig%2Bjson")
        assert [entry["digest"] for entry in answer.json["manifests"]] == [str(wanted)]
        assert answer.headers["oci-filters-applied"] == "artifactType"
        assert "oci-filters-applied" not in registry.ask("GET", f"/v2/app/referrers/{subject}").headers

    def test_come_in_pages_that_keep_the_filter(self, registry: Registry) -> None:
        subject = Digest.of(b"subject")
        pushed = [str(self.refer(registry, subject, number, artifactType="a/b+c")) for number in range(105)]
        path, found, pages = f"/v2/app/referrers/{subject}?artifactType=a%2Fb%2Bc", [], 0
        while path:
            answer = registry.ask("GET", path)
            assert answer.headers["oci-filters-applied"] == "artifactType"
            found += [entry["digest"] for entry in answer.json["manifests"]]
            path = next_page(answer.headers["link"]) if "link" in answer.headers else ""
            pages += 1
        assert (found, pages) == (pushed, 2)

    def test_leave_the_list_when_they_are_deleted(self, registry: Registry) -> None:
        subject = Digest.of(b"subject")
        digest = self.refer(registry, subject, 1)
        registry.ask("DELETE", f"/v2/app/manifests/{digest}")
        assert registry.ask("GET", f"/v2/app/referrers/{subject}").json["manifests"] == []

    def test_that_an_older_client_lists_under_a_tag_are_listed_once(self, registry: Registry) -> None:
        """The fallback tag schema: the client keeps an index of the referrers under sha256-<hex>."""
        subject = Digest.of(b"subject")
        digest = self.refer(registry, subject, 1)
        there = registry.ask("GET", f"/v2/app/referrers/{subject}").json
        body = json.dumps(there).encode()
        assert registry.put_manifest(body, f"/v2/app/manifests/sha256-{subject.encoded}", OCI_INDEX).status == 201
        listed = registry.ask("GET", f"/v2/app/referrers/{subject}").json["manifests"]
        assert [entry["digest"] for entry in listed] == [str(digest)]

    def test_of_what_nobody_knows_are_none_because_oras_asks_so_whether_we_list_them(self, registry: Registry) -> None:
        answer = registry.ask("GET", f"/v2/never/referrers/sha256:{'0' * 64}")
        assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
        assert answer.json["manifests"] == []

    @pytest.mark.parametrize("digest", ["sha256:x", "tag", f"sha256:{'A' * 64}", "sha256:..", "md5:0"])
    def test_of_a_malformed_digest_are_refused(self, registry: Registry, digest: str) -> None:
        answer = registry.ask("GET", f"/v2/app/referrers/{digest}")
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")

    def test_never_go_on_from_a_made_up_page(self, registry: Registry) -> None:
        answer = registry.ask("GET", f"/v2/app/referrers/sha256:{'0' * 64}?after=-1")
        assert answer.code == "PAGINATION_NUMBER_INVALID"


def test_extensions_are_discoverable(registry: Registry) -> None:
    for path in ("/v2/_oci/ext/discover", "/v2/app/_oci/ext/discover"):
        (only,) = registry.ask("GET", path).json["extensions"]
        assert only["endpoints"] == ["_oci/ext/discover"]


@pytest.mark.parametrize("path", [TAGS, "/v2/_catalog", f"/v2/app/referrers/{Digest.of(b'x')}"])
def test_lists_that_the_client_has_are_not_sent_again(registry: Registry, path: str) -> None:
    registry.push_image(tag="1")
    seen = registry.ask("GET", path).headers["etag"]
    again = registry.ask("GET", path, headers={"If-None-Match": seen})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", seen)
    registry.push_image("other")
    registry.push_image(tag="2", subject={"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"x")), "size": 1})
    assert registry.ask("GET", path, headers={"If-None-Match": seen}).status == 200
