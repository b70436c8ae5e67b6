"""Images as files: the docker-archive form (`docker save`) and the OCI image layout, tar or folder, both ways.

Gives:    write_docker_archive(), write_oci_layout(), load_archive().
Promises: writing is deterministic; loading believes nothing it has not checked, keeps memory bounded, and gives names
          to nothing unless all of the archive is good.
Not here: how content travels between registries (registry/client).
"""

from registry.layouts.errors import ArchiveError
from registry.layouts.load import UNNAMED, load_archive
from registry.layouts.write import write_docker_archive, write_oci_layout

__all__ = ["UNNAMED", "ArchiveError", "load_archive", "write_docker_archive", "write_oci_layout"]
