"""The rounding of embedding and head: nearest levels, the same whatever the pieces, and an error that is theirs."""

import pytest
import torch

from liptt_cli.algebra.codecs.base import WeightCodec
from liptt_cli.catalogue import codec_of
from liptt_cli.menu.run import Tables
from liptt_cli.stages import tables


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("group_columns", [8, None])
def test_a_table_is_rounded_some_rows_at_a_time(
    bits: int, group_columns: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Tables.model_validate({"bits": bits, "group_columns": group_columns}).codec
    assert options is not None
    codec = codec_of(options)
    assert isinstance(codec, WeightCodec)
    table = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    table[3] = 0
    whole, error = tables._rounded(table, codec)
    monkeypatch.setattr(tables, "_ENTRIES_AT_ONCE", 7 * 20)
    pieces, of_pieces = tables._rounded(table, codec)
    assert torch.equal(whole.dense(), pieces.dense()) and whole.form == pieces.form
    assert (
        error
        == pytest.approx(of_pieces)
        == pytest.approx(float((table - whole.dense()).square().sum() / table.square().sum()))
    )
    assert torch.all(whole.dense()[3] == 0)
    assert error < {8: 1e-4, 4: 2e-2}[bits]
