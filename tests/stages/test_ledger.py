"""The Lipschitz ledger in the report of a run."""

from math import prod
from pathlib import Path

import pytest
import torch

from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages.assemble import dense_model
from running import evaluated


def test_gains_stand_before_and_after_the_fine_tune(tiny_llama: Path):
    lipschitz = evaluated(tiny_llama, "liptt-onestep").run.facts("evaluate")["lipschitz"]
    for rows in lipschitz.values():
        assert [row["block"] for row in rows] == [0, 1]
        assert all(row["ratio"] == pytest.approx(row["student_gain"] / row["teacher_gain"]) for row in rows)
    before, after = lipschitz["before"], lipschitz["after"]
    assert [row["teacher_gain"] for row in before] == [row["teacher_gain"] for row in after]
    assert [row["error_out"] for row in before] != [row["error_out"] for row in after]


def test_without_a_fine_tune_both_are_one(tiny_llama: Path):
    lipschitz = evaluated(tiny_llama, "sign").run.facts("evaluate")["lipschitz"]
    assert [row["ratio"] for row in lipschitz["before"]] == [row["ratio"] for row in lipschitz["after"]]


def test_errors_chain_from_block_to_block(tiny_llama: Path):
    first, second = evaluated(tiny_llama, "sign").run.facts("evaluate")["lipschitz"]["after"]
    assert first["error_in"] == 0 and first["amplification"] is None
    assert first["error_out"] == pytest.approx(first["own_error"], rel=1e-6)
    assert second["error_in"] == pytest.approx(first["error_out"], rel=1e-6)
    assert second["amplification"] > 0 and second["teacher_amplification"] > 0


def test_the_bounds_are_quotients_of_spectral_norms(tiny_llama: Path):
    job = evaluated(tiny_llama, "liptt-onestep")
    overlay, dense = Overlay.read(job.result_files()), dense_model(job)
    for row in job.run.facts("evaluate")["lipschitz"]["after"]:
        quotients = [
            (torch.linalg.matrix_norm(weight, ord=2) / torch.linalg.matrix_norm(theirs, ord=2)).item()
            for weight, theirs in (
                (overlay.value(site.name).dense(torch.float32), dense.get_submodule(site.name).weight)
                for site in job.structure.sites
                if site.block == row["block"]
            )
        ]
        assert row["spectral_largest"] == pytest.approx(max(quotients), rel=0.01)
        assert row["spectral_product"] == pytest.approx(prod(quotients), rel=0.05)
