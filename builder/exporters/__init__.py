"""What becomes of a build's result: an image in the store, in a registry or an archive, or just its files.

Gives:    Output (one `-o`) and Exporter.
Takes:    an assembled image and the tree of its files.
Promises: a file appears under its name when it is whole; an unknown type or option is refused before anything is built.
"""

from builder.exporters.export import Exporter
from builder.exporters.outputs import Output

__all__ = ["Exporter", "Output"]
