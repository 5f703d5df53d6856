"""The table of cells: the rows that the issue asks for are there, and what each needs comes before it."""

from cells import CORE, DENSE, VARIANTS, all_cells, find_cells, needs, trials
from methods import METHODS, WITHOUT_DIAL

KEYS = [cell.key for cell in all_cells()]


def test_the_asked_rows_are_there():
    asked = {f"{method}-{bits}" for method in ("liptt-ptq", "liptt-onestep") for bits in ("1.0", "0.55", "0.3", "sign")}
    asked |= {DENSE, "sign", "tt-svd-sign-1.0", "tt-svd-sign-sign", "dense-tuned", "liptt-onestep-1.0-no-lipschitz"}
    dials = [method for method in METHODS if trials("reference", method) and method not in WITHOUT_DIAL]
    asked |= {f"{method}-{bits}" for method in dials for bits in (2.0, 1.0, 0.55, 0.3)} | {"sign-onestep"}
    assert asked <= {cell.name for cell in all_cells() if cell.group == "reference"}
    stories = {
        cell.calibration for cell in all_cells() if cell.group == "stories260K" and cell.method == "liptt-onestep"
    }
    assert stories == {"tinystories", "self"}


def test_keys_are_distinct_and_needs_come_before():
    assert len(set(KEYS)) == len(KEYS)
    for number, cell in enumerate(all_cells()):
        assert set(needs(cell)) <= set(KEYS[:number])


def test_every_tuned_method_has_the_same_number_of_trials():
    trained = [method for method, how in METHODS.items() if how.rates]
    assert len({len(trials("reference", method)) for method in trained}) == 1
    assert "dense-tuned" in trained and set(VARIANTS) >= {"no-lipschitz"}
    assert trials("reference", "sign") == ()
    assert not any(cell.trial is not None and needs(cell) for cell in all_cells())


def test_a_glob_brings_what_its_cells_need():
    names = [cell.name for cell in find_cells("reference--liptt-onestep-0.3")]
    assert names[0] == DENSE
    assert names[-1] == "liptt-onestep-0.3"
    assert len(names) == 2 + len(METHODS["liptt-onestep"].factors)
    assert [cell.name for cell in find_cells("reference--sign")] == [DENSE, "sign"]
    assert find_cells("no-such-cell") == ()
    ordered = [
        cell.name for cell in find_cells("reference--liptt-ptq-0.3", "reference--sign", "reference--liptt-ptq-2.0")
    ]
    assert ordered[-3:] == ["liptt-ptq-0.3", "sign", "liptt-ptq-2.0"]


def test_the_core_is_ours_beside_the_naive_baselines():
    methods = {cell.method for cell in find_cells(*CORE)}
    assert methods == {DENSE, "dense-tuned", "sign", "tt-svd-sign", "liptt-ptq", "liptt-onestep"}
    assert len(find_cells(*CORE)) < 40
