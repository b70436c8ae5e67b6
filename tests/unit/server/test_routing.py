"""distribution-spec "Endpoints": which path means what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import NameInvalid, RegistryError
from registry.server.problems import PathUnknown
from registry.server.routing import Endpoint, Route, find_route

DIGEST = f"sha256:{'a' * 64}"


class TestOrdinaryPaths:
    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/v2/", Route(Endpoint.BASE)),
            ("/v2", Route(Endpoint.BASE)),
            ("/v2/_catalog", Route(Endpoint.CATALOG)),
            ("/v2/_oci/ext/discover", Route(Endpoint.EXTENSIONS)),
            ("/v2/app/_oci/ext/discover", Route(Endpoint.EXTENSIONS, "app")),
            ("/v2/app/tags/list", Route(Endpoint.TAGS, "app")),
            ("/v2/team/app/manifests/1.0", Route(Endpoint.MANIFEST, "team/app", "1.0")),
            (f"/v2/app/manifests/{DIGEST}", Route(Endpoint.MANIFEST, "app", DIGEST)),
            (f"/v2/app/referrers/{DIGEST}", Route(Endpoint.REFERRERS, "app", DIGEST)),
            (f"/v2/app/blobs/{DIGEST}", Route(Endpoint.BLOB, "app", DIGEST)),
            ("/v2/app/blobs/uploads/", Route(Endpoint.UPLOADS, "app")),
            ("/v2/app/blobs/uploads", Route(Endpoint.UPLOADS, "app")),
            ("/v2/app/blobs/uploads/some-id", Route(Endpoint.UPLOAD, "app", "some-id")),
        ],
    )
    def test_means(self, path: str, route: Route) -> None:
        assert find_route(path) == route

    @pytest.mark.parametrize("path", ["/", "/v1/", "/v2/app", "/v2/app/", "/v2/app/tags", "/v2/app/tags/list/", "/v2x"])
    def test_everything_else_is_no_path(self, path: str) -> None:
        with pytest.raises(PathUnknown):
            find_route(path)


class TestRepositoriesNamedLikeEndpoints:
    """`x/blobs/y`, `x/manifests` and `x/tags` are legal names."""

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            (f"/v2/x/blobs/y/blobs/{DIGEST}", Route(Endpoint.BLOB, "x/blobs/y", DIGEST)),
            ("/v2/x/blobs/uploads/manifests/list", Route(Endpoint.MANIFEST, "x/blobs/uploads", "list")),
            ("/v2/x/manifests/manifests/latest", Route(Endpoint.MANIFEST, "x/manifests", "latest")),
            ("/v2/x/manifests/tags/list", Route(Endpoint.TAGS, "x/manifests")),
            ("/v2/x/tags/manifests/list", Route(Endpoint.MANIFEST, "x/tags", "list")),
            ("/v2/x/tags/list/tags/list", Route(Endpoint.TAGS, "x/tags/list")),
            ("/v2/blobs/uploads/blobs/uploads/", Route(Endpoint.UPLOADS, "blobs/uploads")),
            (f"/v2/manifests/referrers/{DIGEST}", Route(Endpoint.REFERRERS, "manifests", DIGEST)),
        ],
    )
    def test_are_read_from_the_right_end(self, path: str, route: Route) -> None:
        assert find_route(path) == route


class TestHostileNames:
    @pytest.mark.parametrize(
        "name",
        ["..", "a/..", "../a", "a/../b", "a//b", "/a", "UPPER", "a%2fb", "a%2Fb", "a%00", "a%5cb", "a\0", "a b", "a\n",
         "é", "e%CC%81", "%ff", "a%252fb", "a/.", "-a", "a-", "a" * 256, "", "_catalog", "a:b"],
    )  # fmt: skip
    def test_are_refused_before_anything_else(self, name: str) -> None:
        with pytest.raises(NameInvalid):
            find_route(f"/v2/{name}/tags/list")

    def test_percent_encoding_of_a_harmless_character_is_undone(self) -> None:
        assert find_route(f"/v2/app/blobs/sha256%3A{'a' * 64}").argument == DIGEST

    @given(st.text(max_size=60))
    def test_any_text_is_a_route_with_a_legal_name_or_an_error_of_ours(self, text: str) -> None:
        try:
            route = find_route(f"/v2/{text}/manifests/latest")
        except RegistryError:
            return
        assert ".." not in route.name.split("/")
        assert route.name == route.name.lower()
