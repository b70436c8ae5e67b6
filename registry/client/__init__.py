"""The client's side of distribution: pull, push, log in. Works on any OCI or Docker registry.

Gives:    pull(), push(), log_in(), log_out(), each done when it returns; RegistryClient for single questions.
Promises: every byte is verified; credentials stay with their registry; a failure leaves the store as it was.
Not here: archives and layouts on disk (registry/layouts); how progress looks (pybuild/cli).

Importing this is cheap: all else comes along when it is used, the HTTP library with the first transfer.
"""

import importlib
from typing import TYPE_CHECKING, Any

from registry.client.progress import Progress, Silent

if TYPE_CHECKING:
    from registry.client.credentials import CredentialFiles, Credentials, CredentialsError
    from registry.client.distribution import RegistryClient
    from registry.client.settings import ClientSettings, RegistrySettings
    from registry.model import Digest, Platform, Reference
    from registry.storage import ContentStore

__all__ = [
    "ClientSettings",
    "CredentialFiles",
    "Credentials",
    "CredentialsError",
    "Progress",
    "RegistryClient",
    "RegistrySettings",
    "Silent",
    "log_in",
    "log_out",
    "pull",
    "push",
]


def pull(
    store: "ContentStore",
    reference: "Reference",
    *,
    platform: "Platform | None" = None,
    all_platforms: bool = False,
    progress: Progress | None = None,
    settings: "ClientSettings | None" = None,
    credentials: "CredentialFiles | Credentials | None" = None,
) -> "Digest":
    """Fetch an image into the store and tag it there.

    Args:
        store: where it goes, under `reference.repository`.
        reference: what to fetch; without tag and digest `latest`. With a digest nothing is tagged.
        platform: which image of an index; None is this machine's. An index is kept too, as it came.
        all_platforms: every image of an index.
        progress: told what happens, from several threads.
        settings: None reads registries.toml.
        credentials: None looks where docker and podman keep them.

    Returns:
        The digest of the manifest or index that `reference` names.

    Raises:
        ManifestUnknown, Unauthorized, Denied, TransferError, DigestInvalid, SizeInvalid, ManifestInvalid, StoreError.
    """
    from registry.client.pulling import pull_image

    return pull_image(
        store,
        reference,
        platform=platform,
        all_platforms=all_platforms,
        progress=progress,
        settings=settings,
        credentials=credentials,
    )


def push(
    store: "ContentStore",
    reference: "Reference",
    *,
    source: "Reference | None" = None,
    progress: Progress | None = None,
    settings: "ClientSettings | None" = None,
    credentials: "CredentialFiles | Credentials | None" = None,
) -> "Digest":
    """Send an image of the store to the registry that `reference` names.

    Args:
        store: where it comes from.
        reference: where it goes.
        source: its name in the store, if that is another.
        progress: as for `pull`.
        settings: as for `pull`.
        credentials: as for `pull`.

    Returns:
        The digest of what was published, byte for byte that of the store.

    Raises:
        ManifestUnknown: no such image in the store.
        Unauthorized, Denied, TransferError: the registry does not take it.
    """
    from registry.client.pushing import push_image

    return push_image(store, reference, source=source, progress=progress, settings=settings, credentials=credentials)


def log_in(domain: str, credentials: "Credentials", settings: "ClientSettings | None" = None) -> str:
    """Check credentials with a registry, then keep them; says where. Raises Unauthorized, TransferError."""
    from registry.client.credentials import CredentialFiles
    from registry.client.distribution import RegistryClient

    with RegistryClient(domain, settings, credentials=credentials) as client:
        client.check_login()
    return CredentialFiles().store(domain, credentials)


def log_out(domain: str) -> bool:
    """Forget the credentials for a registry; False when there were none."""
    from registry.client.credentials import CredentialFiles

    return CredentialFiles().erase(domain)


_HOMES = {
    "ClientSettings": "settings",
    "CredentialFiles": "credentials",
    "Credentials": "credentials",
    "CredentialsError": "credentials",
    "RegistryClient": "distribution",
    "RegistrySettings": "settings",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute may be anything
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"registry.client.{_HOMES[name]}"), name)
