"""Listening at the blocks of the tiny models, the home-made one included."""

import torch
from transformers import AutoModelForCausalLM

from liptt_cli.layers.hidden import recorded_hidden

PATHS = {"opt": "model.decoder.layers", "trellis": "trunk.cells"}


def test_the_input_of_block_0_and_all_outputs_are_recorded(tiny_models):
    model = AutoModelForCausalLM.from_pretrained(tiny_models)
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad(), recorded_hidden(model, PATHS.get(tiny_models.name, "model.layers")) as hidden:
        model(input_ids=ids)
        assert sorted(hidden) == [-1, 0, 1]
        assert {tuple(state.shape) for state in hidden.values()} == {(2, 6, 32)}
        first = dict(hidden)
        model(input_ids=ids.flip(1))
        assert not torch.equal(first[1], hidden[1])
    model(input_ids=ids)
    assert not hidden[1].requires_grad


def test_states_chain_from_block_to_block(tiny_llama):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with torch.no_grad(), recorded_hidden(model, "model.layers") as hidden:
        logits = model(input_ids=torch.arange(6)[None]).logits
    with torch.no_grad():
        assert torch.equal(model.lm_head(model.model.norm(hidden[1])), logits)
        assert torch.equal(hidden[-1], model.model.embed_tokens(torch.arange(6)[None]))
