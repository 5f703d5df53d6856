"""Listening at the blocks of the tiny models, the home-made one included."""

import torch
from transformers import AutoModelForCausalLM

from liptt_cli.layers.hidden import heard_blocks, recorded_hidden, without_cache

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


def test_a_block_runs_alone_as_the_model_called_it(tiny_models):
    model = AutoModelForCausalLM.from_pretrained(tiny_models).eval()
    path = PATHS.get(tiny_models.name, "model.layers")
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad(), heard_blocks(model, path) as heard:
        model(input_ids=ids, **without_cache(model))
        first = dict(heard.hidden)
        for b in (1, 0, 1):
            torch.testing.assert_close(heard.run(b, first[b - 1]), first[b], rtol=0, atol=0)
        assert not torch.equal(heard.run(0, 2 * first[-1]), first[0])
        assert all(heard.hidden[b] is first[b] for b in first), "a block that runs alone is not listened to"
