"""Embedding and head in the plan: their forms, what they save, and the refusal where there are none."""

from typing import Any

import pytest
from pydantic import ValidationError

from liptt_cli.errors import BudgetError, ModelError
from liptt_cli.forms.base import blob_bytes
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.menu.run import RunConfig, Tables
from liptt_cli.planning.formulas import shape_from_config
from liptt_cli.planning.plan import Plan, chosen_sites, structure
from liptt_cli.planning.tables import TableShape, saved_bytes, table_forms

TABLE = TableShape("model.embed_tokens", (1000, 192), 2 * 1000 * 192)
TREE: dict[str, Any] = {
    "method": "mine",
    "decompose": {"factor": {"kind": "tensor_train", "start": "random"}},
    "binarize": {"codec": {"kind": "binary", "scale": ["axes"]}},
}
MODEL = shape_from_config(
    {
        **{"model_type": "llama", "vocab_size": 300, "hidden_size": 96, "intermediate_size": 160, "dtype": "bfloat16"},
        **{"num_attention_heads": 4, "num_hidden_layers": 2},
    }
)


def plan(**more: Any) -> Plan:
    config = RunConfig.model_validate(TREE | more)
    return structure(config, MODEL, chosen_sites(config, MODEL))


@pytest.mark.parametrize(
    ("bits", "group", "stored", "groups"), [(8, 128, 192, 2), (4, 128, 96, 2), (8, None, 192, 1), (4, 500, 96, 1)]
)
def test_a_row_is_its_codes_and_a_scale_a_group(bits: int, group: int | None, stored: int, groups: int):
    options = Tables.model_validate({"bits": bits, "group_columns": group})
    form = GridForm((1000, 192), "int8" if bits == 8 else "int4", 1, EnvelopeForm(1000, min(group or 192, 192)))
    assert table_forms(options, [TABLE]) == {TABLE.name: form}
    assert blob_bytes(form) == 1000 * (stored + 2 * groups)
    assert saved_bytes(options, [TABLE]) == 1000 * (2 * 192 - stored - 2 * groups)


def test_nothing_happens_unless_asked_for():
    assert table_forms(Tables(), [TABLE]) == {} and saved_bytes(Tables(), [TABLE]) == 0
    assert plan(bits_per_weight=0.8).tables == {}


@pytest.mark.parametrize("bits", [3, 16, "8", 8.5])
def test_other_bits_are_refused_by_name(bits: object):
    with pytest.raises(ValidationError, match="4") as caught:
        Tables.model_validate({"bits": bits})
    assert caught.value.errors()[0]["loc"] == ("bits",)


def test_a_model_without_known_tables_is_refused_before_anything_runs():
    with pytest.raises(ModelError, match="tables.bits: 8"):
        table_forms(Tables(bits=8), [])


def test_the_bits_of_the_linears_stay_and_the_whole_file_shrinks():
    dense, rounded = plan(bits_per_weight=0.8), plan(bits_per_weight=0.8, tables={"bits": 8})
    assert rounded.forms == dense.forms and rounded.bits_per_weight == dense.bits_per_weight
    assert set(rounded.tables) == {"model.embed_tokens", "lm_head"}
    assert dense.tensor_bytes - rounded.tensor_bytes == 2 * 300 * (2 * 96 - 96 - 2)
    assert dense.table_bytes - rounded.table_bytes == dense.tensor_bytes - rounded.tensor_bytes


def test_a_target_size_counts_them():
    reached = plan(target_size=80_000, tables={"bits": 4})
    assert reached.tensor_bytes <= 80_000
    with pytest.raises(BudgetError, match="target_size"):
        plan(target_size=80_000)
