"""Sending an image: what the registry lacks, blobs before manifests, children before the index; the same bytes."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from registry.client.credentials import CredentialFiles, Credentials
from registry.client.distribution import RefusedUpload, RegistryClient, Session
from registry.client.parallel import run_all
from registry.client.progress import Progress, Silent
from registry.client.settings import ClientSettings
from registry.client.transport import Broken
from registry.errors import ManifestUnknown, NameInvalid, RegistryError, TransferError
from registry.model import Descriptor, Digest, Index, Reference, parse_manifest
from registry.model.media_types import is_distributable
from registry.storage import ContentStore, StoredManifest

_PIECE = 256 * 1024  # bytes read and sent at a time
_SMALLEST_CHUNK = 1024 * 1024
_ONLY_CHUNKS = frozenset({405, 411, 413, 501})  # "not so", "not so much": a registry or a proxy that wants pieces
_TRY_AGAIN = frozenset({404, 408, 416, 429, 500, 502, 503, 504})


@dataclass
class Plan:
    """What to send: blobs, then manifests, children before the indexes that list them."""

    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    manifests: dict[Digest, StoredManifest] = field(default_factory=dict)
    absent: list[Descriptor] = field(default_factory=list)  # listed by an index, but not in the store


def gather(store: ContentStore, repository: str, top: StoredManifest) -> Plan:
    """Walk from a manifest to all that it needs."""
    plan = Plan()

    def visit(found: StoredManifest) -> None:
        parsed = parse_manifest(found.content, found.media_type)
        if isinstance(parsed, Index):
            for child in parsed.manifests:
                if child.digest in plan.manifests:
                    continue
                try:
                    visit(store.manifest(repository, child.digest))
                except ManifestUnknown:
                    plan.absent.append(child)
        else:
            for descriptor in parsed.children:
                if is_distributable(descriptor.media_type):
                    plan.blobs.setdefault(descriptor.digest, descriptor)
        plan.manifests[found.digest] = found

    visit(top)
    return plan


def push_image(
    store: ContentStore,
    reference: Reference,
    *,
    source: Reference | None = None,
    progress: Progress | None = None,
    settings: ClientSettings | None = None,
    credentials: CredentialFiles | Credentials | None = None,
) -> Digest:
    """Send an image of the store to the registry that `reference` names; see `registry.client.push`."""
    reference, settings = reference.tagged, settings or ClientSettings.load(store.root)
    local = (source or reference).tagged
    wanted: str | Digest = local.digest or local.tag or "latest"
    try:
        top = store.manifest(local.repository, wanted)
    except RegistryError as error:
        raise ManifestUnknown(f"no image {local} here", hint=error.hint or "see `pybuild images`") from None
    if reference.digest and reference.digest != top.digest:
        raise NameInvalid(f"{local} is {top.digest}, not {reference.digest}", hint="push it by a tag")
    with RegistryClient(reference.domain, settings, credentials=credentials, path=reference.path) as client:
        return _Push(client, store, reference, local.repository, progress or Silent()).run(top)


class _Push:
    def __init__(
        self,
        client: RegistryClient,
        store: ContentStore,
        reference: Reference,
        repository: str,
        progress: Progress,
    ) -> None:
        self._client = client
        self._store = store
        self._reference = reference
        self._path = reference.path
        self._repository = repository
        self._progress = progress
        self._others = self._repositories_there()

    def run(self, top: StoredManifest) -> Digest:
        self._client.connect()
        plan = gather(self._store, self._repository, top)
        if plan.absent and not all(self._client.has_manifest(self._path, entry.digest) for entry in plan.absent):
            top, plan = self._only_present(top, plan)
        for descriptor in plan.blobs.values():
            self._progress.update(descriptor.digest.short, "Preparing", 0, descriptor.size)
        run_all(
            [partial(self._send, descriptor) for descriptor in plan.blobs.values()],
            self._client.settings.parallel,
            self._client.transport.stop,
        )
        for found in plan.manifests.values():
            wanted = self._reference.tag if found.digest == top.digest else None
            self._client.put_manifest(self._path, wanted or found.digest, found.content, found.media_type, found.digest)
        for text in self._client.warnings:
            self._progress.update("", f"Warning from {self._client.endpoint.domain}: {text}")
        return top.digest

    def _only_present(self, top: StoredManifest, plan: Plan) -> tuple[StoredManifest, Plan]:
        """Of an index that was pulled for one platform, send the image for that platform, as docker does."""
        images = [found for digest, found in plan.manifests.items() if digest != top.digest]
        images = [found for found in images if not isinstance(parse_manifest(found.content, found.media_type), Index)]
        if len(images) != 1:
            raise TransferError(
                f"{len(plan.absent)} of the images that {self._reference} lists are not here",
                hint="pull it with --all-platforms, then push",
            )
        self._progress.update("", "Only one of its platforms is here; pushing that image alone")
        return images[0], gather(self._store, self._repository, images[0])

    # -- blobs ------------------------------------------------------------------------------------------------------

    def _send(self, descriptor: Descriptor) -> None:
        short = descriptor.digest.short
        if self._client.has_blob(self._path, descriptor.digest):
            self._progress.update(short, "Layer already exists")
            return
        origin = next((name for name in self._others if self._knows(name, descriptor.digest)), None)
        session = self._client.start_upload(self._path, descriptor.digest if origin else None, origin)
        if session is None:
            self._progress.update(short, f"Mounted from {origin}")
            return
        self._upload(session, descriptor)
        self._progress.update(short, "Pushed", descriptor.size, descriptor.size)

    def _repositories_there(self) -> dict[str, str]:
        """The other repositories of the same registry that this store knows, by their path there."""
        found = {}
        for name in self._store.repositories():
            try:
                reference = Reference.parse(name)
            except RegistryError:
                continue
            if reference.domain == self._reference.domain and reference.path != self._path:
                found[reference.path] = name
        return found

    def _knows(self, path: str, digest: Digest) -> bool:
        return self._store.repo_has(self._others[path], digest)

    def _upload(self, session: Session, descriptor: Descriptor) -> None:
        """In one request if the registry takes it; else in pieces. Goes on where a broken one stopped."""
        settings, digest, size = self._client.settings, descriptor.digest, descriptor.size
        chunk: int | None = None
        failures, wait = 0, settings.backoff
        while True:
            try:
                rest = size - session.offset
                if chunk is not None and rest > chunk:
                    session = self._client.patch_blob(
                        self._path, session, self._body(descriptor, session, chunk), chunk
                    )
                    failures = 0
                    continue
                self._client.put_blob(self._path, session, digest, self._body(descriptor, session, rest), rest)
                return
            except (Broken, RefusedUpload) as error:
                status = error.answer.status if isinstance(error, RefusedUpload) else 0
                failures += 1
                if failures >= settings.tries or (status and status not in _TRY_AGAIN | _ONLY_CHUNKS):
                    raise
                if status in _ONLY_CHUNKS:
                    chunk = self._smaller(chunk, session, error)
                headers = error.answer.headers if isinstance(error, RefusedUpload) else None
            self._progress.update(digest.short, "Retrying", session.offset, size)
            self._client.transport.pause(min(wait, settings.longest_wait), headers)
            wait *= 2
            before = session.offset
            known = self._client.upload_status(self._path, session)
            if known is None and self._client.has_blob(self._path, digest):
                return  # it was done, only the answer was lost
            if known is None or known.offset > size:
                known = self._client.start_upload(self._path)
                assert known is not None  # only a mount can make an upload needless
            session = known
            if session.offset > before:
                failures, wait = 0, settings.backoff

    def _smaller(self, chunk: int | None, session: Session, error: TransferError) -> int:
        smaller = self._client.settings.chunk if chunk is None else chunk // 4
        if smaller < _SMALLEST_CHUNK and chunk is not None:
            raise error
        return max(smaller, session.chunk_minimum)

    def _body(self, descriptor: Descriptor, session: Session, length: int) -> Callable[[], Iterator[bytes]]:
        offset, short = session.offset, descriptor.digest.short

        def pieces() -> Iterator[bytes]:
            with self._store.open_blob(descriptor.digest) as file:
                file.seek(offset)
                left = length
                for count in itertools.count(1):
                    piece = file.read(min(_PIECE, left))
                    if not piece:
                        return
                    left -= len(piece)
                    yield piece
                    if count % 4 == 0 or not left:
                        self._progress.update(short, "Pushing", offset + length - left, descriptor.size)

        return pieces
