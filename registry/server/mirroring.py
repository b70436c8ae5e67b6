"""`?ns=`: a client that uses us as a mirror names the registry it means (distribution-spec "Registry Proxying"). Pure.

What this machine has of that registry lies in repositories that begin with its domain, as `pybuild pull` names them.
"""

from registry.model import Reference
from registry.model.reference import DEFAULT_DOMAIN, LEGACY_DOMAIN


def repository_of(source: str, name: str) -> str:
    """Where content of the registry `source` (host, maybe with a port) lies here. Raises NameInvalid."""
    domain = DEFAULT_DOMAIN if source == LEGACY_DOMAIN else source
    path = f"library/{name}" if domain == DEFAULT_DOMAIN and "/" not in name else name
    return Reference(domain, path).repository
