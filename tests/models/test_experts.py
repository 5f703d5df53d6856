"""Unfolded experts compute what the fused ones do, are linears like all others, and train when no token comes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.integrations import use_experts_implementation

from liptt_cli.errors import ConfigError
from liptt_cli.models.blocks import select
from liptt_cli.models.experts import Experts, is_fused, unfold
from liptt_cli.models.hub import Source, empty_model, load_model
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.planning.experts import MIXTRAL
from tiny_models import MIXTURES, tiny_config

MakeTinyModel = Callable[..., Path]
IDS = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(5))
WIDTH, INNER, COUNT = 6, 4, 3


@pytest.fixture(scope="module", params=MIXTURES)
def mixture(
    request: pytest.FixtureRequest, make_tiny_model: MakeTinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Source:
    """A tiny mixture on disk."""
    directory = make_tiny_model(request.param, tmp_path_factory.mktemp("mixtures") / request.param)
    return Source(directory, request.param, None)


class Fused(nn.Module):
    """Fused experts as transformers keeps them; their own forward is never called here."""

    def __init__(self, config: object = None) -> None:
        """Make random tensors."""
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.gate_up_proj = nn.Parameter(torch.randn(COUNT, 2 * INNER, WIDTH, generator=generator))
        self.down_proj = nn.Parameter(torch.randn(COUNT, WIDTH, INNER, generator=generator))
        self.act_fn = nn.SiLU()


Known = use_experts_implementation(type("Known", (Fused,), {"forward": lambda *_: None, "__init__": Fused.__init__}))


def unfolded() -> Experts:
    """Return three small experts, unfolded."""
    model = nn.Sequential(Known(None))
    assert unfold(model) == ("0",)
    experts = model[0]
    assert isinstance(experts, Experts)
    return experts


@torch.no_grad()
def test_logits_are_those_of_the_fused_model_in_both_of_its_ways(mixture: Source) -> None:
    """The loop over experts and the grouped product; equal to float rounding."""
    stock = AutoModelForCausalLM.from_pretrained(mixture.path, dtype=torch.float32)
    ours = load_model(mixture, dtype=torch.float32)
    assert not any(is_fused(module) for module in ours.modules())
    found = ours(input_ids=IDS).logits
    for way in ("eager", "grouped_mm"):
        stock.set_experts_implementation(way)
        torch.testing.assert_close(found, stock(input_ids=IDS).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_streamed_logits_are_the_whole_models(mixture: Source) -> None:
    """Read from the disk's names, an expert a matrix, bit for bit as fused by transformers and unfolded again."""
    model = StreamedModel(mixture, dtype=torch.float32)
    hidden, arguments = model.calls(IDS)
    for number in range(model.structure.blocks):
        with model.block(number) as block:
            hidden = model.run_block(block, hidden, arguments[number])
    expected = load_model(mixture, dtype=torch.float32)(input_ids=IDS).logits
    assert torch.equal(model.logits(IDS, hidden), expected)


def test_experts_are_sites_that_share_inputs_and_the_router_is_none(mixture: Source) -> None:
    """Gate and up of an expert share; all of them come before the first down; experts without a token are there."""
    with torch.no_grad():  # whoever asks first
        structure = StreamedModel(mixture, dtype=torch.float32).structure
    count = {"mixtral": 4, "qwen3_moe": 6}[mixture.name]
    roles = [[site.role for site in group] for group in structure.groups(1)]
    assert roles[2:] == [["gate", "up"]] * count + [["down"]] * count
    leaf = {"mixtral": "w2", "qwen3_moe": "down_proj"}[mixture.name]
    downs = [site.name for site in structure.sites if site.block == 1 and site.role == "down"]
    assert downs == [f"model.layers.1.mlp.experts.{number}.{leaf}" for number in range(count)]
    assert [name for name, _ in structure.left_out] == ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate"]
    assert 0.98 < structure.coverage.share < 1
    with pytest.raises(ConfigError, match=r"layers\.0\.mlp\.gate is a router or no linear, and always stays"):
        select(structure, ["*.mlp.gate"], [])


def test_a_skeleton_unfolds_on_meta(mixture: Source) -> None:
    """Nothing becomes real, names and shapes are those of the disk's tensors."""
    model = empty_model(mixture, dtype=torch.float32)
    unfold(model, ["model.layers.0.mlp.experts.0.w1.weight"])
    assert all(parameter.is_meta and not parameter.requires_grad for parameter in model.parameters())
    config = tiny_config(mixture.name)
    inner = getattr(config, "moe_intermediate_size", config.intermediate_size)
    shapes = [tuple(model.get_parameter(f"model.layers.0.mlp.experts.3.{leaf}.weight").shape) for leaf in MIXTRAL]
    assert shapes == [(inner, 32), (inner, 32), (32, inner)]


def test_the_sum_is_that_over_chosen_experts() -> None:
    """By the formula of the module's docstring, token by token; the matrices are views, not copies."""
    fused, x = Known(None), torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(fused)
    unfold(model)
    chosen = torch.tensor([[0, 2], [2, 0], [0, 2], [2, 0], [0, 2]])
    weights = torch.rand(5, 2, generator=torch.Generator().manual_seed(2))
    expected = torch.zeros(5, WIDTH)
    for token in range(5):
        for place in range(2):
            gate, up = (fused.gate_up_proj[chosen[token, place]] @ x[token]).chunk(2)
            inner = nn.functional.silu(gate) * up
            expected[token] += weights[token, place] * (fused.down_proj[chosen[token, place]] @ inner)
    torch.testing.assert_close(model[0](x, chosen, weights), expected)
    own = model[0].get_parameter("2.up_proj.weight")
    assert own.data_ptr() == fused.gate_up_proj[2, INNER:].data_ptr() and own.requires_grad


def test_an_idle_expert_is_called_only_while_it_trains() -> None:
    """With gradients every parameter gets one, zeros where no token came; without, or frozen, it is left alone."""
    experts, called = unfolded(), set[str]()
    x, chosen = torch.randn(4, WIDTH), torch.tensor([[0], [2], [2], [0]])
    for name, module in experts.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_, name=name: called.add(name.partition(".")[0]))

    def run() -> Tensor:
        called.clear()
        result: Tensor = experts(x, chosen, torch.ones(4, 1))
        return result

    run().sum().backward()
    assert called == {"0", "1", "2"}
    gradients = {name: parameter.grad for name, parameter in experts.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert {name[0] for name, gradient in gradients.items() if gradient.any()} == {"0", "2"}
    with torch.no_grad():
        run()
    assert called == {"0", "2"}
    experts.requires_grad_(False)
    run()
    assert called == {"0", "2"}


def _own_gate(self: nn.Module, x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize(
    "change",
    [
        {"is_transposed": True},
        {"is_concatenated": False},
        {"has_bias": True},
        {"has_gate": False},
        {"has_post_expert_norm": True},
        {"gate_up_proj_bias": nn.Parameter(torch.zeros(COUNT, 2 * INNER))},
        {"down_proj": nn.Parameter(torch.zeros(WIDTH, INNER))},
    ],
)
def test_experts_of_another_layout_stay_as_they_are(change: dict[str, object]) -> None:
    """They are left out, which the coverage shows, and never computed wrongly."""
    fused = Known(None)
    assert is_fused(fused)
    for name, value in change.items():
        setattr(fused, name, value)
    assert not is_fused(fused) and unfold(nn.Sequential(fused)) == ()


def test_experts_with_a_gate_of_their_own_stay_as_they_are() -> None:
    """A family that clamps, say, defines what stands between; so does a module that is no one's."""
    assert not is_fused(type("Clamped", (Known,), {"_apply_gate": _own_gate})(None))
    assert not is_fused(Fused())
