"""Which rights containers need; asked before anything is begun, a shared supervisor above all."""

import os

from runner.errors import MissingPrivilege
from runner.kernel import capabilities

NOT_ROOT = "containers need root: run as root, or with sudo"
# Namespaces and mounts, the user, the bounding set, device nodes.
_NEEDED = capabilities.mask(("SYS_ADMIN", "SETUID", "SETGID", "SETPCAP", "MKNOD"))


def check_privileges() -> None:
    """Raises MissingPrivilege, which names what this process has not got."""
    effective, _, _ = capabilities.own()
    if os.geteuid() != 0:
        raise MissingPrivilege("containers need root: namespaces and mounts take CAP_SYS_ADMIN", hint=NOT_ROOT)
    if missing := capabilities.names(_NEEDED & ~effective):
        raise MissingPrivilege(
            f"containers need {', '.join(missing)}, which this process has not got",
            hint="inside another container, give that one --privileged",
        )
