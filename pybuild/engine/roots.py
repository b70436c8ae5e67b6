"""Where state lies: the root that survives reboots, and the run directory that does not."""

import hashlib
import os
from pathlib import Path

SYSTEM_ROOT = Path("/var/lib/pybuild")


def default_root() -> Path:
    """PYBUILD_ROOT, else the system's root for root and $XDG_DATA_HOME/pybuild for everybody else."""
    if given := os.environ.get("PYBUILD_ROOT"):
        return Path(given)
    if os.geteuid() == 0:
        return SYSTEM_ROOT
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "pybuild"


def runtime_dir(root: Path) -> Path:
    """The directory of sockets and pid files for the state root `root`; made by whoever needs it, mode 0700.

    One root has one run directory, so two roots never meet; sockets have short paths (sun_path holds 108 bytes).
    """
    base = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/run-{os.geteuid()}")
    return base / "pybuild" / hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:8]
