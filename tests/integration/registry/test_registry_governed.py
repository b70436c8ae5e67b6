"""What an operator decides, as clients meet it: quotas, read-only, immutable tags, the way back, upkeep."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.model import Digest
from registry.server.state import Settings
from registry.storage import ContentStore, TagRule
from tests.integration.registry.support import Answered, Registry

PATIENCE = 60.0  # seconds


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.02)


class TestReadOnly:
    @pytest.mark.parametrize("frozen", ["*", "team"])
    def test_refuses_every_change_and_serves_every_read_at_once(self, registry: Registry, frozen: str) -> None:
        digest = registry.push_image("team/app")
        location = registry.start("team/app")
        registry.store.namespaces.set_read_only(frozen, True)
        for method, path in (
            ("POST", "/v2/team/app/blobs/uploads/"),
            ("PATCH", location),
            ("PUT", f"{location}?digest={digest}"),
            ("PUT", "/v2/team/app/manifests/2"),
            ("DELETE", "/v2/team/app/manifests/1"),
            ("DELETE", f"/v2/team/app/blobs/{Digest.of(b'layer')}"),
        ):
            answer = registry.ask(method, path, b"x" if method != "DELETE" else None)
            assert (answer.status, answer.code) == (405, "UNSUPPORTED"), path
        assert registry.ask("GET", "/v2/team/app/manifests/1").status == 200
        assert registry.ask("POST", "/v2/other/app/blobs/uploads/").status == (405 if frozen == "*" else 202)
        registry.store.namespaces.set_read_only(frozen, False)
        assert registry.ask("POST", "/v2/team/app/blobs/uploads/").status == 202


class TestQuota:
    def push(self, registry: Registry, content: bytes) -> Answered:
        digest = Digest.of(content)
        return registry.ask("POST", f"/v2/team/app/blobs/uploads/?digest={digest}", content)

    def test_refuses_what_is_too_much_gives_it_up_and_goes_on(self, registry: Registry) -> None:
        registry.store.namespaces.set_quota("team", 2000)
        refused = self.push(registry, b"x" * 3000)
        assert (refused.status, refused.code) == (403, "DENIED")
        assert "2000 bytes" in refused.json["errors"][0]["message"]
        assert list((registry.store.root / "uploads").iterdir()) == []
        assert self.push(registry, b"x" * 1000).status == 201

    def test_that_is_nearly_used_warns_who_pushes(self, registry: Registry) -> None:
        registry.push_image("team/app")
        assert "warning" not in registry.put_manifest(registry.image("team/app"), "/v2/team/app/manifests/1").headers
        registry.store.namespaces.set_quota("team", registry.store.namespaces.of("team/app").used + 10)
        warned = registry.put_manifest(registry.image("team/app"), "/v2/team/app/manifests/2")
        assert warned.headers["warning"].startswith('299 - "')


def test_an_immutable_tag_is_denied_by_every_way_to_move_it(registry: Registry) -> None:
    digest = registry.push_image(tag="v1")
    registry.store.tag_rules.add(TagRule("immutable", "*", "v*"))
    other = registry.image(layer=b"other")
    for answer in (
        registry.put_manifest(other, "/v2/app/manifests/v1"),
        registry.put_manifest(other, f"/v2/app/manifests/{Digest.of(other)}?tag=new&tag=v1"),
        registry.ask("DELETE", "/v2/app/manifests/v1"),
        registry.ask("DELETE", f"/v2/app/manifests/{digest}"),
    ):
        assert (answer.status, answer.code) == (403, "DENIED")
    assert registry.ask("GET", "/v2/app/tags/list").json["tags"] == ["v1"]
    assert registry.ask("HEAD", "/v2/app/manifests/v1").headers["docker-content-digest"] == str(digest)


def test_a_deleted_image_comes_back_to_the_next_reader(registry: Registry) -> None:
    digest = registry.push_image()
    assert registry.ask("DELETE", f"/v2/app/manifests/{digest}").status == 202
    registry.store.collect(grace_seconds=0, untagged_seconds=0)
    assert registry.ask("GET", "/v2/app/manifests/1").status == 404
    registry.store.history.restore("app", "1")
    assert registry.ask("GET", "/v2/app/manifests/1").headers["docker-content-digest"] == str(digest)
    assert registry.ask("GET", f"/v2/app/blobs/{Digest.of(b'layer')}").body == b"layer"


class TestUpkeep:
    def test_collects_by_itself(self, run_registry: Callable[..., Registry]) -> None:
        registry = run_registry(Settings(grace=1, collect_every=0.05))
        registry.push_image(tag="old")
        registry.push_image(tag="new", layer=b"other")
        registry.store.tag_rules.add(TagRule("retain", "*", "*", keep_last=1))
        wait_until(lambda: registry.ask("GET", "/v2/app/tags/list").json["tags"] == ["new"])

    def test_writes_down_pulls_at_the_latest_when_it_stops(
        self, root: Path, run_registry: Callable[..., Registry]
    ) -> None:
        registry = run_registry()
        registry.push_image(tag="pulled", layer=b"a")
        registry.push_image(tag="looked-at", layer=b"b")
        registry.ask("GET", "/v2/app/manifests/pulled")
        registry.ask("HEAD", "/v2/app/manifests/looked-at")
        registry.stop()
        with ContentStore.open(root) as store:
            store.tag_rules.add(TagRule("retain", "*", "*", keep_pulled=3600))
            assert [found.tag for found in store.retention.run(dry_run=True)] == ["looked-at"]
