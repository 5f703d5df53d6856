"""An export that could not be exact is refused by the configuration, by the linears, or by the missing package."""

import importlib.util
from typing import Any

import pytest

from liptt_cli.errors import ConfigError, MissingExtra
from liptt_cli.exports.preflight import refuse_forms, refuse_kind, require_package, wishes_of
from liptt_cli.exports.targets import Wishes
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.menu.run import RunConfig

GROUP = {"kind": "binary", "scale": ["group"]}


def config(codec: dict[str, Any], *, factor: dict[str, Any] | None = None, **export: Any) -> RunConfig:
    tree: dict[str, Any] = {"method": "mine", "binarize": {"codec": codec}, "export": export, "bits_per_weight": 1.0}
    return RunConfig.model_validate(tree | ({"decompose": {"factor": factor}} if factor else {}))


@pytest.mark.parametrize("to", ["gguf", "compressed-tensors"])
@pytest.mark.parametrize(
    ("codec", "factor", "words"),
    [
        ({"kind": "binary"}, None, "exactly: a scale for each column"),
        ({"kind": "binary", "scale": ["axes"]}, {"kind": "tensor_train"}, "exactly: a chain"),
        ({"kind": "float"}, None, ""),
        (
            {"kind": "binary", "scale": ["axes"]},
            {"kind": "tensor_train", "layout": "mpo", "modes": {"out": [7, 3], "into": [5, 11]}, "rank": 2},
            "exactly: a chain",
        ),
    ],
)
def test_a_recipe_whose_weights_no_model_makes_exact_is_refused(
    to: str, codec: dict[str, Any], factor: dict[str, Any] | None, words: str
) -> None:
    wanted = config(codec, factor=factor, to=["liptt", to])
    if not words and to == "gguf":
        refuse_kind(wanted)  # plain numbers are exact there
        return
    with pytest.raises(ConfigError, match=words or "plain numbers, not signs") as refused:
        refuse_kind(wanted)
    assert [fault.key for fault in refused.value.faults] == ["export.to"]
    refuse_kind(config(codec, factor=factor, to=["liptt", to], allow_densify=True))


@pytest.mark.parametrize("codec", [GROUP, {**GROUP, "group_columns": 32}, {"kind": "binary", "scale": ["row"]}])
def test_signs_under_scales_of_rows_or_groups_pass(codec: dict[str, Any]) -> None:
    refuse_kind(config(codec, to=["gguf", "compressed-tensors"]))


def test_a_shape_that_does_not_suit_the_recipe_is_left_to_the_model() -> None:
    modes = {"kind": "tensor_train", "modes": {"out": [7, 3], "into": [5, 11]}, "rank": 2}  # split has modes of 1
    refuse_kind(config({"kind": "binary", "scale": ["axes"]}, factor=modes, to=["gguf"]))


def test_the_model_s_own_linears_are_told() -> None:
    wanted = config({**GROUP, "group_columns": 100}, to=["compressed-tensors"])
    with pytest.raises(ConfigError, match="such as x: groups of 100 columns do not end where rows of 256 do"):
        refuse_forms(wanted, {"x": GridForm((8, 256), scale=EnvelopeForm(8, 100))})


def test_each_target_has_the_wishes_that_are_its_own() -> None:
    said = config(GROUP, to=["hf", "gguf"], dtype="float16", gguf_type="Q4_0", gguf_tables="Q8_0", allow_densify=True)
    assert wishes_of(said, "gguf") == Wishes("Q4_0", "Q8_0", None, allow_densify=True)
    assert wishes_of(said, "hf") == Wishes(None, "F16", "float16", allow_densify=True)
    assert wishes_of(said, "compressed-tensors") == Wishes(allow_densify=True)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("gguf", "compressed-tensors"):
        with pytest.raises(MissingExtra, match=rf"pip install 'liptt\[{name}\]'"):
            require_package(name)
    require_package("hf")


@pytest.mark.parametrize("to", ["hf", "gguf", "compressed-tensors"])
def test_linears_that_are_more_than_a_matrix_are_refused_before_anything_is_compressed(to: str) -> None:
    around = {"codec": {"kind": "binary"}, "around": {"output_norm": True}}
    tree = {"method": "mine", "binarize": around, "export": {"to": ["liptt", to], "allow_densify": True}}
    with pytest.raises(ConfigError, match=f"linears have a norm of the output around the weight, which {to}"):
        refuse_kind(RunConfig.model_validate(tree))
