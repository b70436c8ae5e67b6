"""The LALR tables of grammar.lark, made once and kept in grammar.tables, because making them takes 100 times as long.

`python -m builder.dockerfile.tables` writes them anew after a change of the grammar or of lark.
"""

import io
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lark import Lark

_ROOM = files("builder.dockerfile")


@cache
def parser() -> "Lark":
    """The parser of one instruction; start symbols `instruction` and `backtick`."""
    from lark import Lark

    with _ROOM.joinpath("grammar.tables").open("rb") as tables:
        return Lark.load(tables)


def make() -> bytes:
    """Compile the grammar."""
    from lark import Lark

    lark = Lark(
        _ROOM.joinpath("grammar.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="contextual",
        start=["instruction", "backtick"],
        maybe_placeholders=False,
    )
    tables = io.BytesIO()
    lark.save(tables)
    return tables.getvalue()


if __name__ == "__main__":
    from pathlib import Path

    Path(str(_ROOM.joinpath("grammar.tables"))).write_bytes(make())
