"""The lines of a Dockerfile around a step that failed. Pure."""

from builder.dockerfile.instructions import Position

_AROUND = 2  # lines before and after


def excerpt(text: str, at: Position) -> str:
    """A few lines with their numbers; those of the instruction have `>>>`."""
    lines = text.splitlines()
    last = max(at.end_line, at.line)
    first_shown, last_shown = max(at.line - _AROUND, 1), min(last + _AROUND, len(lines))
    shown = [
        f"{number:>4} | {'>>>' if at.line <= number <= last else '   '} {lines[number - 1]}".rstrip()
        for number in range(first_shown, last_shown + 1)
    ]
    rule = "-" * 20
    return "\n".join([f"{at.file}:{at.line}", rule, *shown, rule])
