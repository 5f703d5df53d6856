"""The logits of a packed model on fixed tokens, kept in its manifest: proof that it still computes what was exported.

The hash shows identity on the machine (and thread count) that made it; another one may round otherwise, so a spread of
values with a tolerance stands beside it.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.errors import IntegrityError
from liptt_cli.kernels.dispatch import exact
from liptt_cli.models.hub import Source, load_model

SEED = 0
WINDOWS, WINDOW_TOKENS = 2, 16
VALUES = 64
TOLERANCE_SHARE = 1e-3


def verify_logits(source: Source, expected: Mapping[str, Any], *, trust_remote_code: bool = False) -> float:
    """Load a model in float32 and return how far its logits are from a fingerprint: 0.0 if they are identical.

    Raises:
        IntegrityError: if they are farther off than its tolerance.
    """
    model = load_model(source, dtype=torch.float32, trust_remote_code=trust_remote_code)
    return compare(expected, logits_of(model, torch.tensor(expected["token_ids"])))


def fingerprint_tokens(vocabulary: int) -> Int[Tensor, "windows tokens"]:
    """Return the fixed tokens for a vocabulary."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(0, vocabulary, (WINDOWS, WINDOW_TOKENS), generator=generator)


def logits_of(model: nn.Module, tokens: Int[Tensor, "windows tokens"]) -> Float[Tensor, "windows tokens vocabulary"]:
    """Return a causal model's logits in float32, on the CPU, by the torch meaning of its linears."""
    with torch.no_grad(), exact():
        logits: Tensor = model(tokens.to(next(model.parameters()).device)).logits
    return logits.float().cpu()


def fingerprint(
    tokens: Int[Tensor, "windows tokens"], logits: Float[Tensor, "windows tokens vocabulary"]
) -> dict[str, Any]:
    """Return the fingerprint as JSON: tokens, hash of the logits, some values, and how far these may be off."""
    flat = logits.flatten()
    return {
        "token_ids": tokens.tolist(),
        "logits_sha256": _hash(logits),
        "values": flat[_places(flat)].tolist(),
        "tolerance": TOLERANCE_SHARE * flat.abs().max().item(),
        "dtype": "float32",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def compare(expected: Mapping[str, Any], logits: Float[Tensor, "windows tokens vocabulary"]) -> float:
    """Return how far logits are from a fingerprint: 0.0 if they are identical.

    Raises:
        IntegrityError: if they are farther off than its tolerance.
    """
    if _hash(logits) == expected["logits_sha256"]:
        return 0.0
    flat = logits.flatten()
    values = torch.tensor(expected["values"])
    places = _places(flat)
    difference = (flat[places] - values).abs().max().item() if len(places) == len(values) else float("nan")
    if not difference <= expected["tolerance"]:
        raise IntegrityError(
            f"the logits are not those of the export: off by {difference:.3g}, at most {expected['tolerance']:.3g} is "
            "rounding. The files are as they were written, so the installed torch or transformers computes otherwise; "
            f"the export used torch {expected['torch']}"
        )
    return difference


def _places(flat: Tensor) -> Tensor:
    return torch.linspace(0, flat.numel() - 1, min(VALUES, flat.numel())).long()


def _hash(logits: Tensor) -> str:
    return hashlib.sha256(logits.float().contiguous().numpy().tobytes()).hexdigest()
