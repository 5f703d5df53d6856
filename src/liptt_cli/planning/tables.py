"""The token embedding and the output head: what they are stored as, and what that takes. Torch-free.

    a code of 8 or 4 bits an entry, and a float16 scale for each row and group of columns

They are no linears of a block: what they take stands beside the bits per weight of those, and counts in the whole file.
A head that is tied to the embedding is no table of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from liptt_cli.errors import ModelError
from liptt_cli.forms.base import Form, blob_bytes
from liptt_cli.menu.run import Tables
from liptt_cli.planning.weight_price import weight_form


@dataclass(frozen=True)
class TableShape:
    """One table: its full module name, the shape (vocabulary, width) of its weight, and its bytes in the source."""

    name: str
    shape: tuple[int, int]
    dense_bytes: int


def table_forms(options: Tables, tables: Sequence[TableShape]) -> dict[str, Form]:
    """Return the form of each table, {} if they stay as they are.

    Raises:
        ModelError: if they shall be rounded and there are none.
    """
    codec = options.codec
    if codec is None:
        return {}
    if not tables:
        raise ModelError(
            f"tables.bits: {options.bits}, but no matrix outside of the blocks has as many rows as config.json's "
            "vocab_size; set it to null"
        )
    return {table.name: weight_form(table.shape, codec) for table in tables}


def saved_bytes(options: Tables, tables: Sequence[TableShape]) -> int:
    """Return by how much smaller the rounded tables are than those of the source; 0 if they stay as they are."""
    forms = table_forms(options, tables)
    return sum(table.dense_bytes - blob_bytes(forms[table.name]) for table in tables if table.name in forms)
