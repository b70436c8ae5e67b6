"""Fetching an image: resolve, choose the platform, fetch what is missing, and only then give it its tag.

Promises: nothing is tagged unless all of it arrived and was verified; a failure leaves at most content that the next
          collection removes; memory is bounded whatever the registry sends.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx

from registry.client.credentials import CredentialFiles, Credentials
from registry.client.distribution import Endpoint, FetchedManifest, RegistryClient
from registry.client.parallel import run_all
from registry.client.progress import Progress, Silent
from registry.client.settings import ClientSettings
from registry.client.transport import Broken
from registry.errors import BlobUnknown, ManifestInvalid, ManifestUnknown, RegistryError, SizeInvalid, TransferError
from registry.model import Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference
from registry.model.manifest import check_content
from registry.model.media_types import IMAGE_CONFIGS, INDEX_TYPES
from registry.model.platform import best_match, native, preference
from registry.storage import ContentStore, Ingest, Lease

MAX_CONFIG = 4 * 1024 * 1024  # bytes
MAX_MANIFESTS = 1000  # in one index, all levels together
MAX_DEPTH = 4  # of indexes in indexes
_LEASE = 24 * 3600  # seconds; a slow line must not lose what it fetched first
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


@dataclass
class Plan:
    """What makes up an image: its manifests, children before the indexes that list them, and their blobs."""

    manifests: list[FetchedManifest] = field(default_factory=list)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)

    def add(self, found: FetchedManifest) -> None:
        if isinstance(found.parsed, Manifest):
            for descriptor in found.parsed.children:
                known = self.blobs.setdefault(descriptor.digest, descriptor)
                if known.size != descriptor.size:
                    raise SizeInvalid(
                        f"{descriptor.digest} is said to have {known.size} and {descriptor.size} bytes",
                        hint="the image is broken; push it again",
                    )
        self.manifests.append(found)


def pull_image(
    store: ContentStore,
    reference: Reference,
    *,
    platform: Platform | None = None,
    all_platforms: bool = False,
    progress: Progress | None = None,
    settings: ClientSettings | None = None,
    credentials: CredentialFiles | Credentials | None = None,
) -> Digest:
    """Fetch `reference` into the store, from its mirrors first; see `registry.client.pull`."""
    reference, settings = reference.tagged, settings or ClientSettings.load(store.root)
    mirrors = [Endpoint.mirror(text, reference.domain) for text in settings.of(reference.domain).mirrors]
    failures: list[str] = []
    for endpoint in (*mirrors, Endpoint(reference.domain)):
        with RegistryClient(endpoint, settings, credentials=credentials, path=reference.path) as client:
            wanted = None if all_platforms else (platform or native())
            transfer = _Pull(client, store, reference, wanted, progress or Silent(), strict=platform is not None)
            try:
                return transfer.run()
            except RegistryError as error:
                if endpoint.mirror_of is None:
                    raise _with_mirrors(error, failures) from None
                failures.append(f"mirror {endpoint.domain}: {error}")
    raise AssertionError("the registry itself comes last, and returns or raises")


def _with_mirrors(error: RegistryError, failures: Sequence[str]) -> RegistryError:
    if failures:
        error.hint = "; ".join([*filter(None, [error.hint]), *failures])
    return error


class _Pull:
    def __init__(
        self,
        client: RegistryClient,
        store: ContentStore,
        reference: Reference,
        platform: Platform | None,  # None: all
        progress: Progress,
        *,
        strict: bool,
    ) -> None:
        self._client = client
        self._store = store
        self._reference = reference
        self._repository = reference.repository
        self._path = reference.path
        self._platform = platform
        self._strict = strict  # the platform was asked for, so another one won't do
        self._progress = progress

    def run(self) -> Digest:
        # A digest beside a tag decides what comes, and then the tag names nothing here: it may have moved since.
        pinned = self._reference.digest
        tag = None if pinned else self._reference.tag
        top = self._top(pinned or self._reference.tag or "latest")
        plan = Plan()
        for found in self._chosen(top):
            plan.add(found)
        with self._store.lease(_LEASE) as lease:
            self._fetch_blobs(plan, lease)
            for found in plan.manifests:
                self._check_image(found)
            for found in plan.manifests:
                self._store.put_manifest(
                    self._repository,
                    found.content,
                    found.media_type,
                    tags=[tag] if tag and found is plan.manifests[-1] else [],
                    expected=found.digest,
                    sparse=True,
                    adopt=True,
                )
        for text in self._client.warnings:
            self._progress.update("", f"Warning from {self._client.endpoint.domain}: {text}")
        return top.digest

    # -- manifests --------------------------------------------------------------------------------------------------

    def _top(self, wanted: str | Digest) -> FetchedManifest:
        """The manifest that the reference names; not sent again when we have it already."""
        if isinstance(wanted, str) and (told := self._client.head_manifest(self._path, wanted)):
            wanted = told
        return self._manifest(wanted)

    def _manifest(self, wanted: str | Digest) -> FetchedManifest:
        if isinstance(wanted, Digest):
            with contextlib.suppress(RegistryError):
                known = self._store.manifest(self._repository, wanted)
                return FetchedManifest.read(wanted, known.media_type, known.content)
        return self._client.manifest(self._path, wanted)

    def _child(self, descriptor: Descriptor) -> FetchedManifest:
        found = self._manifest(descriptor.digest)
        check_content(descriptor, found.content)
        if found.media_type != descriptor.media_type:
            raise ManifestInvalid(
                f"{descriptor.digest} is a {found.media_type}, its index says {descriptor.media_type[:100]!r}",
                hint="the image is broken; push it again",
            )
        return found

    def _chosen(self, top: FetchedManifest) -> list[FetchedManifest]:
        """`top` and those below it that are wanted, children first."""
        if isinstance(top.parsed, Manifest):
            return [top]
        if self._platform is None:
            return self._all(top)
        return [*self._best(top.parsed, self._platform, 0), top]

    def _all(self, top: FetchedManifest) -> list[FetchedManifest]:
        ordered: dict[Digest, FetchedManifest] = {}

        def visit(found: FetchedManifest, depth: int) -> None:
            if depth > MAX_DEPTH or len(ordered) > MAX_MANIFESTS:
                raise ManifestInvalid(f"{self._reference} has too many manifests", hint="this is no image")
            if isinstance(found.parsed, Index):
                for child in found.parsed.manifests:
                    if child.digest not in ordered:
                        visit(self._child(child), depth + 1)
            ordered[found.digest] = found

        visit(top, 0)
        return list(ordered.values())

    def _best(self, index: Index, platform: Platform, depth: int) -> list[FetchedManifest]:
        """The one image for a platform, and the indexes between it and the top, children first."""
        if depth > MAX_DEPTH:
            raise ManifestInvalid(f"{self._reference}: indexes nested too deeply", hint="this is no image")
        offered = index.manifests
        place = best_match(platform, [entry.platform for entry in offered])
        if place is None and len(offered) == 1 and offered[0].platform is None:
            place = 0
        if place is None:
            nested = [entry for entry in offered if entry.media_type in INDEX_TYPES and entry.platform is None]
            for entry in nested[:MAX_DEPTH]:
                with contextlib.suppress(ManifestUnknown):
                    return self._descend(entry, platform, depth)
            known = sorted(
                {str(entry.platform) for entry in offered if entry.platform and entry.platform.os != "unknown"}
            )
            raise ManifestUnknown(
                f"no image for {platform} in {self._reference}",
                hint=f"it has {', '.join(known)[:300]}; choose with --platform" if known else "it lists no platforms",
            )
        return self._descend(offered[place], platform, depth)

    def _descend(self, entry: Descriptor, platform: Platform, depth: int) -> list[FetchedManifest]:
        found = self._child(entry)
        if isinstance(found.parsed, Index):
            return [*self._best(found.parsed, platform, depth + 1), found]
        return [found]

    def _check_image(self, found: FetchedManifest) -> None:
        """What a config says must fit its manifest (and the platform that was asked for)."""
        parsed = found.parsed
        if not isinstance(parsed, Manifest) or parsed.config.media_type not in IMAGE_CONFIGS:
            return
        config = ImageConfig.parse(self._store.read(parsed.config.digest, MAX_CONFIG))
        if len(config.rootfs.diff_ids) != len(parsed.layers) and parsed.layers:
            raise ManifestInvalid(
                f"{self._reference} has {len(parsed.layers)} layers, its config names {len(config.rootfs.diff_ids)}",
                hint="the image is broken; build and push it again",
            )
        if self._strict and self._platform and preference(self._platform, config.platform) is None:
            raise ManifestUnknown(
                f"{self._reference} is for {config.platform}, not for {self._platform}",
                hint="leave --platform out, or push an image for it",
            )

    # -- blobs ------------------------------------------------------------------------------------------------------

    def _fetch_blobs(self, plan: Plan, lease: Lease) -> None:
        for descriptor in plan.blobs.values():
            if descriptor.media_type in IMAGE_CONFIGS and descriptor.size > MAX_CONFIG:
                raise SizeInvalid(f"a config of {descriptor.size} bytes", hint="this is no image")
        missing = [descriptor for descriptor in plan.blobs.values() if not self._take_present(descriptor, lease)]
        run_all(
            [partial(self._fetch, descriptor, lease) for descriptor in missing],
            self._client.settings.parallel,
            self._client.transport.stop,
        )

    def _take_present(self, descriptor: Descriptor, lease: Lease) -> bool:
        """Use the blob that some repository of this store has already."""
        digest = descriptor.digest
        if not self._store.has(digest):
            self._progress.update(digest.short, "Waiting", 0, descriptor.size)
            return False
        if (size := self._store.size(digest)) != descriptor.size:
            raise SizeInvalid(f"{digest} has {size} bytes, its manifest says {descriptor.size}", hint="do not trust it")
        try:
            lease.hold(digest)
        except BlobUnknown:
            return False  # collected since we looked
        self._progress.update(digest.short, "Already exists")
        return True

    def _fetch(self, descriptor: Descriptor, lease: Lease) -> None:
        digest = descriptor.digest
        with self._store.ingest(digest.algorithm, lease) as blob:
            self._receive(descriptor, blob)
            blob.commit(digest, descriptor.size)
        self._progress.update(digest.short, "Pull complete", descriptor.size, descriptor.size)

    def _receive(self, descriptor: Descriptor, blob: Ingest) -> None:
        """Take the bytes; after a broken connection go on where they stopped, as long as there is progress."""
        settings, failures, wait = self._client.settings, 0, self._client.settings.backoff
        while True:
            before = blob.size
            try:
                with self._source(descriptor, blob.size) as response:
                    self._take(response, descriptor, blob)
                if blob.size == descriptor.size:
                    return
                raise Broken(f"blob {descriptor.digest.short} ends after {blob.size} of {descriptor.size} bytes")
            except Broken as error:
                failures, wait = (1, settings.backoff) if blob.size > before else (failures + 1, wait * 2)
                if failures >= settings.tries or not error.worth_retrying:
                    raise
                self._progress.update(descriptor.digest.short, "Retrying", blob.size, descriptor.size)
                self._client.transport.pause(min(wait, settings.longest_wait), error.headers)

    @contextlib.contextmanager
    def _source(self, descriptor: Descriptor, offset: int) -> Iterator[httpx.Response]:
        """An answer that holds the blob: the registry's, or for a foreign layer that of one of its URLs."""
        with self._client.blob(self._path, descriptor, offset) as response:
            if response.status_code in {200, 206}:
                yield response
                return
            status, headers = response.status_code, response.headers
        for url in descriptor.urls[:8]:
            with self._client.foreign(url, offset) as response:
                if response.status_code in {200, 206}:
                    yield response
                    return
        if status >= 500 or status == 429:
            raise Broken(
                f"{self._client.endpoint.domain} answers {status} for blob {descriptor.digest.short}", headers=headers
            )
        raise TransferError(
            f"{self._client.endpoint.domain} answers {status} for blob {descriptor.digest} of {self._reference}",
            hint="the registry lost a part of this image; push it again",
        )

    def _take(self, response: httpx.Response, descriptor: Descriptor, blob: Ingest) -> None:
        skip = self._to_skip(response, descriptor, blob.size)
        short, size = descriptor.digest.short, descriptor.size
        for piece in self._client.transport.pieces(response):
            if skip:
                skip, piece = max(0, skip - len(piece)), piece[skip:]
            if blob.size + len(piece) > size:
                raise SizeInvalid(
                    f"{self._client.endpoint.domain} sends more than the {size} bytes of blob {short}",
                    hint="the registry is broken or lies; do not trust it",
                )
            blob.write(piece)
            self._progress.update(short, "Downloading", blob.size, size)

    def _to_skip(self, response: httpx.Response, descriptor: Descriptor, offset: int) -> int:
        """How many of the coming bytes we have already. Raises when the answer can't be the blob's bytes."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise TransferError(f"blob {descriptor.digest.short} comes compressed once more", hint="a proxy's fault?")
        if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != offset:
                raise TransferError(
                    f"{self._client.endpoint.domain} answers another range than bytes {offset}- was asked for",
                    hint="the registry can't resume transfers; pull again",
                )
            return 0
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and int(length[:19]) != descriptor.size:
            raise SizeInvalid(
                f"blob {descriptor.digest.short} has {length[:19]} bytes at {self._client.endpoint.domain}, "
                f"its manifest says {descriptor.size}",
                hint="the image is broken or the registry lies; do not trust it",
            )
        return offset
