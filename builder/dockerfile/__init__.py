"""Text → logical lines → lark → typed instructions; expansion; ignore files.

The grammar, and lark with it, is loaded by the first parse: a build that parses nothing does not pay for it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.dockerfile.instructions import Dockerfile, Instruction, Position


def parse_dockerfile(text: str | bytes, file: str = "Dockerfile") -> "Dockerfile":
    """Read a Dockerfile. Raises DockerfileError: message, line, column, the line with a caret, and a hint."""
    from builder.dockerfile import parser

    return parser.parse_dockerfile(text, file)


def parse_trigger(text: str, at: "Position") -> "Instruction":
    """Read an ONBUILD trigger out of the config of a base image, as if it stood at `at`. Raises DockerfileError."""
    from builder.dockerfile import parser

    return parser.parse_trigger(text, at)
