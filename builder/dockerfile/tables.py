"""The LALR tables of grammar.lark, made once and kept in grammar.tables, because making them takes 100 times as long.

`python -m builder.dockerfile.tables` writes them anew after a change of the grammar or of lark.
"""

import hashlib
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lark import Lark

_ROOM = Path(__file__).parent


@cache
def parser() -> "Lark":
    """The parser of one instruction; start symbols `instruction` and `backtick`."""
    import lark

    kept, _, tables = (_ROOM / "grammar.tables").read_bytes().partition(b"\n")
    if kept.split()[0].decode() != lark.__version__:
        # Another lark may number things in another way; its own tables cost some 20 ms.
        return compiled()
    return lark.Lark.load(io.BytesIO(tables))


def compiled() -> "Lark":
    """The parser, made from the grammar now."""
    from lark import Lark

    return Lark(
        _grammar(), parser="lalr", lexer="contextual", start=["instruction", "backtick"], maybe_placeholders=False
    )


def head() -> bytes:
    """First line of the tables: the lark and the grammar they were made from."""
    import lark

    return f"{lark.__version__} {hashlib.sha256(_grammar().encode()).hexdigest()}".encode()


def _grammar() -> str:
    return (_ROOM / "grammar.lark").read_text(encoding="utf-8")


def write() -> None:
    """Make the tables anew; pickled dictionaries, as lark writes them."""
    tables = io.BytesIO()
    compiled().save(tables)
    (_ROOM / "grammar.tables").write_bytes(head() + b"\n" + tables.getvalue())


if __name__ == "__main__":
    write()
