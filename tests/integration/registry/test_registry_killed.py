"""`kill -9` of a server at each fault point of a push: nothing is half there, and the client goes on."""

import http.client
import signal
from collections.abc import Callable

import pytest

from registry.model import Digest
from registry.storage import ScrubReport
from tests.integration.registry.support import Client, Registry, Served

POINTS = (
    "upload-row", "upload-written", "blob-synced", "blob-named", "blob-name-synced", "blob-row", "blob-committed",
    "upload-finished", "manifest-row", "manifest-refs", "manifest-tags", "manifest-committed",
)  # fmt: skip
LAYER = b"layer" * 1000


def push(client: Client) -> Digest:
    """In chunks, as docker and regctl do; what is there already is not sent."""
    content = client.image("app", LAYER)
    location = client.start()
    client.ask("PATCH", location, b"never ended", {"Content-Range": "0-10"})
    assert client.put_manifest(content, "/v2/app/manifests/1").status == 201
    return Digest.of(content)


@pytest.mark.parametrize("point", POINTS)
def test_loses_nothing(
    point: str,
    serve_program: Callable[..., Served],
    run_registry: Callable[..., Registry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as dying:
        dying.setenv("PYBUILD_CRASH_AT", point)
        first = serve_program("--quiet")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        push(first)
    assert first.process.wait(60) == -signal.SIGKILL

    second = run_registry()
    seen = second.ask("GET", "/v2/app/manifests/1")
    assert seen.status in ((200, 404) if point == "manifest-committed" else (404,))
    for path in second.store.root.glob("blobs/*/*/*"):
        assert Digest.of(path.read_bytes()).encoded == path.name, "half a blob"
    digest = push(second)
    assert second.ask("GET", "/v2/app/manifests/1").headers["docker-content-digest"] == str(digest)
    assert second.ask("GET", f"/v2/app/blobs/{Digest.of(LAYER)}").body == LAYER
    report = ScrubReport()
    for _ in second.store.scrubber.steps(report):
        pass
    assert report.damages == []
