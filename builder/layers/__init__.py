"""Layers: a snapshot's changes to a deterministic archive in the content store, and archives back into snapshots.

Gives:    write_layer(), apply_layer(), unpack_image(), and Compression for how layers are packed.
Takes:    snapshots that nobody writes to meanwhile, and archives from anybody.
Promises: equal trees give equal bytes on any number of cores; no archive reaches outside its snapshot, and none fills
          memory or disk beyond its limits.
Not here: when a layer is made, and what it is cached under (builder/solver); mounting (runner/).
"""

from builder.layers.apply import apply_layer
from builder.layers.compression import Compression
from builder.layers.diff import Layer, write_layer, write_tree, write_trees
from builder.layers.unpack import unpack_image
from registry.archive.unpacking import Limits

__all__ = [
    "Compression",
    "Layer",
    "Limits",
    "apply_layer",
    "unpack_image",
    "write_layer",
    "write_tree",
    "write_trees",
]
