"""Logits as a fingerprint: identity on one machine, a tolerance on another, a refusal beyond it."""

import json

import pytest
import torch

from liptt_cli.errors import IntegrityError
from liptt_cli.stages.fingerprint import compare, fingerprint, fingerprint_tokens


def made() -> torch.Tensor:
    return torch.randn(2, 16, 50, generator=torch.Generator().manual_seed(0))


def test_the_tokens_are_fixed_and_inside_the_vocabulary() -> None:
    tokens = fingerprint_tokens(50)
    assert torch.equal(tokens, fingerprint_tokens(50))
    assert tokens.shape == (2, 16) and tokens.min() >= 0 and tokens.max() < 50


def test_the_same_logits_are_no_distance_away_even_through_json() -> None:
    stored = json.loads(json.dumps(fingerprint(fingerprint_tokens(50), made())))
    assert compare(stored, made()) == 0.0
    assert torch.equal(torch.tensor(stored["token_ids"]), fingerprint_tokens(50))


def test_rounding_is_told_and_more_is_refused() -> None:
    stored = fingerprint(fingerprint_tokens(50), made())
    assert 0 < compare(stored, made() + 1e-5) < 2e-5
    with pytest.raises(IntegrityError, match=r"off by 1, at most 0\.0"):
        compare(stored, made() + 1)
    with pytest.raises(IntegrityError, match="off by nan"):
        compare(stored, made() * float("nan"))


def test_logits_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(IntegrityError):
        compare(fingerprint(fingerprint_tokens(50), made()), made()[..., :1][:1, :1])
