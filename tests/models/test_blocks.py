"""Blocks, sites and shared inputs, found in modules that no library knows."""

import json

import pytest
import torch
from torch import Tensor, nn

from liptt_cli.errors import ConfigError, ModelError
from liptt_cli.models.blocks import (
    Structure,
    describe,
    find_block_list,
    select,
    shared_inputs,
)

WIDTH = 6


class Attention(nn.Module):
    """Three linears on one input, one behind; the order of definition is not the order of calls."""

    def __init__(self) -> None:
        """Make the linears."""
        super().__init__()
        self.o_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj, self.q_proj, self.k_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the three."""
        return self.o_proj(self.q_proj(x) * self.k_proj(x) + self.v_proj(x))


class Block(nn.Module):
    """Attention, a gated pair, and an expert that is never chosen."""

    def __init__(self) -> None:
        """Make the parts."""
        super().__init__()
        self.mixer = nn.Linear(2 * WIDTH, WIDTH)
        self.gate_proj = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.up_proj = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.attention = Attention()
        self.idle = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Run all but `idle`."""
        x = x + self.attention(self.norm(x))
        return x + self.mixer(self.gate_proj(x) * self.up_proj(x))


def model_of(blocks: int) -> nn.Module:
    """Return a model with a list of blocks and a list of large bare heads."""
    model = nn.Module()
    model.heads = nn.ModuleList([nn.Linear(WIDTH, 100) for _ in range(3)])
    model.tower = nn.Module()
    model.tower.steps = nn.ModuleList([Block() for _ in range(blocks)])
    return model


def run(_number: int, block: nn.Module) -> Tensor:
    """Call a block on a tiny input."""
    result: Tensor = block(torch.zeros(1, 2, WIDTH))
    return result


@pytest.fixture
def structure() -> Structure:
    """The structure of a model with two blocks."""
    return describe(model_of(2), run)


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_list_of_blocks_is_found_among_others(blocks: int) -> None:
    """Bare heads hold more parameters, but they are no blocks."""
    path, found = find_block_list(model_of(blocks))
    assert path == "tower.steps"
    assert len(found) == blocks


def test_of_nested_lists_the_one_that_holds_more_is_taken() -> None:
    """Blocks with lists inside stay blocks; a wrapper of one item around the blocks does not become one."""
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Module() for _ in range(3)])
    for layer in model.layers:
        layer.experts = nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, WIDTH)) for _ in range(8)])
    assert find_block_list(model)[0] == "layers"
    wrapper = nn.ModuleList([model])
    assert find_block_list(nn.Sequential(wrapper))[0] == "0.0.layers"


def test_of_equal_lists_the_first_is_taken() -> None:
    """Two lists of the same size: the order of definition decides."""
    model = nn.Module()
    model.encoder = nn.ModuleList([Block(), Block()])
    model.decoder = nn.ModuleList([Block(), Block()])
    assert find_block_list(model)[0] == "encoder"


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.ModuleList([nn.ReLU()]), nn.ModuleList([nn.Linear(2, 2)])])
def test_a_model_without_blocks_is_refused(model: nn.Module) -> None:
    """The message says what was looked for."""
    with pytest.raises(ModelError, match=r"looked for an nn\.ModuleList whose items contain nn\.Linear"):
        find_block_list(model)


def test_shared_inputs_are_numbered_in_call_order() -> None:
    """Query, key and value share; gate and up share; what never ran comes last, alone."""
    block = Block()
    groups = shared_inputs(block, lambda module: run(0, module))
    assert groups == {
        "attention.q_proj": 0,
        "attention.k_proj": 0,
        "attention.v_proj": 0,
        "attention.o_proj": 1,
        "gate_proj": 2,
        "up_proj": 2,
        "mixer": 3,
        "idle": 4,
    }
    assert not any(module._forward_pre_hooks for module in block.modules())


def test_equal_values_in_other_tensors_do_not_share() -> None:
    """Identity counts, not equality: two zero tensors are two inputs."""
    block = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False))
    assert shared_inputs(block, lambda module: module(torch.zeros(1, WIDTH))) == {"0": 0, "1": 1}


def test_hooks_are_removed_when_the_run_fails() -> None:
    """A failing run leaves the block as it was."""
    block = Block()
    with pytest.raises(RuntimeError):
        shared_inputs(block, lambda module: module(torch.zeros(1, WIDTH + 1)))
    assert not any(module._forward_pre_hooks for module in block.modules())


def test_sites_carry_name_role_shape_and_bias(structure: Structure) -> None:
    """Names are whole paths; a leaf that is not known is its own role."""
    assert structure.block_path == "tower.steps"
    assert structure.blocks == 2
    assert len(structure.sites) == 16
    roles = [site.role for site in structure.sites if site.block == 1]
    assert sorted(roles[:3]) == ["key", "query", "value"]
    assert roles[3:] == ["output", "gate", "up", "mixer", "idle"]
    mixer = next(site for site in structure.sites if site.name == "tower.steps.1.mixer")
    assert (mixer.shape, mixer.bias, mixer.group) == ((WIDTH, 2 * WIDTH), True, 3)
    assert [len(group) for group in structure.groups(0)] == [3, 1, 2, 1, 1]


def test_coverage_counts_matrices_only(structure: Structure) -> None:
    """Norms and biases do not count; a matrix that no linear holds does."""
    assert structure.left_out == () and structure.coverage.share == 1
    model = model_of(2)
    model.tower.steps[1].table = nn.Parameter(torch.zeros(WIDTH, 10 * WIDTH))
    coverage = describe(model, run).coverage
    assert coverage.left_out == (("tower.steps.1.table", 10 * WIDTH * WIDTH),)
    assert coverage.share == pytest.approx(22 / 32) and coverage.is_low
    assert "68.8%" in coverage.told() and "tower.steps.*.table (31.25%)" in coverage.told()


def test_a_block_of_another_layout_is_run_too() -> None:
    """Every distinct layout is looked at once, equal ones are not repeated."""
    model = model_of(3)
    model.tower.steps[1].gate_proj = nn.Linear(WIDTH, 2 * WIDTH)
    del model.tower.steps[1].idle
    ran: list[int] = []

    def counted(number: int, block: nn.Module) -> Tensor:
        ran.append(number)
        return run(number, block)

    structure = describe(model, counted)
    assert ran == [0, 1]
    assert [len(structure.groups(number)) for number in range(3)] == [5, 4, 5]


def test_json_gives_the_structure_back(structure: Structure) -> None:
    """Through text and back."""
    assert Structure.from_json(json.loads(json.dumps(structure.to_json()))) == structure


def test_select_keeps_what_the_globs_say(structure: Structure) -> None:
    """Groups keep their numbers; coverage follows."""
    chosen = select(structure, ["*.attention.*", "*.mixer"], ["*.steps.0.*", "*.k_proj"])
    assert {site.name.removeprefix("tower.steps.1.") for site in chosen.sites} == {
        "attention.q_proj",
        "attention.v_proj",
        "attention.o_proj",
        "mixer",
    }
    assert [[site.group for site in group] for group in chosen.groups(1)] == [[0, 0], [1], [3]]
    assert chosen.groups(0) == ()
    assert chosen.coverage.compressed == 5 * WIDTH * WIDTH
    assert len(chosen.left_out) == 12 and chosen.coverage.share == pytest.approx(5 / 22)


def test_globs_without_a_match_are_all_refused_at_once(structure: Structure) -> None:
    """Both lists are looked through before anything is said."""
    with pytest.raises(ConfigError) as refusal:
        select(structure, ["*", "*.quarry"], ["lm_head"])
    assert [fault.key for fault in refusal.value.faults] == ["load.include", "load.skip"]
    assert "*.quarry" in str(refusal.value)


def test_skipping_everything_is_refused(structure: Structure) -> None:
    """A run without a single site would compress nothing."""
    with pytest.raises(ConfigError, match="nothing is left"):
        select(structure, ["*"], ["*"])
