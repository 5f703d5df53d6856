"""The targets: what each makes of linears, what it refuses without leave, and options of another target."""

import pytest

from drawn import chain_form, sign_form
from liptt_cli.errors import ConfigError
from liptt_cli.exports.targets import TARGETS, Wishes, carried_by, refuse_wishes

SIGNS = sign_form(8, 256, by_column=False)
MIXED = {"a.self_attn.q_proj": SIGNS, "a.self_attn.k_proj": chain_form((8, 256), (4,)), "a.mlp.down_proj": SIGNS}


@pytest.mark.parametrize("name", ["compressed-tensors", "gguf"])
def test_lost_codes_are_refused_with_what_would_do_unless_allowed(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        carried_by(name, MIXED, Wishes())
    said = str(refused.value)
    assert f"{name} cannot hold the compressed linears exactly" in said
    assert "1 of 3 linears, such as a.self_attn.k_proj: a chain, not one matrix of signs" in said
    assert "--allow-densify" in said and "--config methods/sign-onestep" in said
    allowed = carried_by(name, MIXED, Wishes(allow_densify=True))
    assert allowed["a.self_attn.k_proj"].kind == "densified" and allowed["a.mlp.down_proj"].kind == "exact"
    assert (allowed["a.self_attn.q_proj"].kind == "exact") == (name == "gguf")


@pytest.mark.parametrize("name", ["liptt", "hf"])
def test_our_own_and_a_plain_model_need_no_leave(name: str) -> None:
    kinds = {each.kind for each in carried_by(name, MIXED, Wishes(dtype="bfloat16")).values()}
    assert kinds == ({"exact"} if name == "liptt" else {"densified"})


def test_each_target_has_a_folder_of_its_own() -> None:
    folders = [target.folder for target in TARGETS.values()]
    assert folders == ["model", "model-hf", "model-compressed-tensors", "model-gguf"]


@pytest.mark.parametrize(
    ("name", "wishes", "words"),
    [
        ("hf", Wishes(type="Q4_0"), "--type: only GGUF has types, not hf"),
        ("liptt", Wishes(tables="Q8_0"), "--type: only GGUF has types"),
        ("gguf", Wishes(dtype="float16"), "--dtype: only a plain model has a dtype of its own, not gguf"),
    ],
)
def test_an_option_of_another_target_is_refused(name: str, wishes: Wishes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        refuse_wishes(name, wishes)


def test_a_target_s_own_options_pass() -> None:
    refuse_wishes("gguf", Wishes(type="Q4_0", tables="Q8_0"))
    refuse_wishes("hf", Wishes(dtype="float16"))
    refuse_wishes("compressed-tensors", Wishes(allow_densify=True))
