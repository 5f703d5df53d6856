"""The state of a training goes into one whole file and comes back to the bit."""

import pytest
import torch
from torch import nn

from liptt_cli.errors import IntegrityError, OtherRunError
from liptt_cli.layers.checkpoint import restore, save


def make(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    groups = [{"params": [module[1].weight], "lr": 0.1, "name": "weights"}, {"params": [module[1].bias], "lr": 0.2}]
    return module, torch.optim.AdamW(groups)


def step(module, optimizer, seed):
    optimizer.zero_grad()
    module(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    optimizer.step()


def test_parameters_and_moments_come_back(tmp_path):
    module, optimizer = make(0)
    frozen = module[0].weight.clone()
    step(module, optimizer, 1)
    save(tmp_path / "new" / "state.pt", module, optimizer, notes={"training": "a", "losses": [0.5]}, write=True)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["state.pt"]
    step(module, optimizer, 2)
    other, its_optimizer = make(0)
    notes = restore(tmp_path / "new" / "state.pt", other, its_optimizer, training="a")
    assert notes == {"training": "a", "losses": [0.5]}
    step(other, its_optimizer, 2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(module.parameters(), other.parameters(), strict=True))
    assert torch.equal(other[0].weight, frozen)
    assert [group["lr"] for group in its_optimizer.param_groups] == [0.1, 0.2]


def test_only_the_writer_writes(tmp_path):
    save(tmp_path / "state.pt", *make(0), notes={"training": "a"}, write=False)
    assert not list(tmp_path.iterdir())


def test_the_state_of_another_training_is_refused(tmp_path):
    save(tmp_path / "state.pt", *make(0), notes={"training": "a"}, write=True)
    with pytest.raises(OtherRunError, match="of another training"):
        restore(tmp_path / "state.pt", *make(0), training="b")


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "state.pt"
    save(path, *make(0), notes={"training": "a"}, write=True)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(IntegrityError, match="not a readable checkpoint"):
        restore(path, *make(0), training="a")
