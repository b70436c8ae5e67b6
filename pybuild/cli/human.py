"""Sizes, ages and tables as people read them, in docker's words. Pure."""

from collections.abc import Sequence

from pybuild.cli.plain import plain
from pybuild.engine.times import ago, duration, parse_time

__all__ = ["ago", "duration", "parse_time", "size", "table"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_GAP = 3  # spaces between columns


def size(count: float) -> str:
    """Bytes in powers of 1000, three digits: `1.23MB`."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.3g}{_UNITS[unit]}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest entry, without spaces at the ends of lines, nor what could drive a terminal."""
    rows = [[plain(entry, keep="") for entry in row] for row in rows]
    widths = [max(map(len, column)) + _GAP for column in zip(*rows, strict=True)]
    return "".join(
        "".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )
