"""Copy-on-write snapshots: the only room that knows how a root filesystem lies on disk.

Gives:    Snapshots: prepare(), commit(), view(), remove(), sweep(); each safe to call from several processes at once.
Takes:    keys of active snapshots and names (chain IDs) of committed ones; never a Dockerfile, a tag or a container.
Promises: a crash at any line leaves each committed snapshot whole or absent, never half.
Not here: what a layer archive contains (builder/layers); who mounts what (runner/).
"""

from builder.snapshots.snapshots import Snapshot, Snapshots, Stored

__all__ = ["Snapshot", "Snapshots", "Stored"]
