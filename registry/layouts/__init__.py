"""Images as files: the docker-archive form (`docker save`) and the OCI image layout, tar or folder, both ways.

Gives:    write_docker_archive(), write_oci_layout(), load_archive().
Promises: writing is deterministic; loading believes nothing it has not checked, keeps memory bounded, and gives names
          to nothing unless all of the archive is good.
Not here: how content travels between registries (registry/client).

Importing this is cheap: the rest comes along when it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from registry.errors import ArchiveError

if TYPE_CHECKING:
    from registry.layouts.load import load_archive, load_from_layout
    from registry.layouts.write import write_docker_archive, write_oci_layout

__all__ = ["UNNAMED", "ArchiveError", "load_archive", "load_from_layout", "write_docker_archive", "write_oci_layout"]

UNNAMED = "localhost/unnamed"  # the repository of images that have no name
_HOMES = {
    "load_archive": "load",
    "load_from_layout": "load",
    "write_docker_archive": "write",
    "write_oci_layout": "write",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute may be anything
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"registry.layouts.{_HOMES[name]}"), name)
