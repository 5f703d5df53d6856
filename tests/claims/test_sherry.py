"""Sherry (arXiv:2601.07892): three signs in each four weights stand between plain signs and trits, bits and error."""

from drawn import llm_like, plan_of, seeded
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import codec_of, factor_of, solver_of
from liptt_cli.config import load_config
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.planning.price import ladder

SHAPE = (96, 256)
SIGNS = "binarize.codec={kind: grid, alphabet: sign, scale: [group], group_columns: 128}"
TRITS = "binarize.codec={kind: grid, alphabet: trit, scale: [group], group_columns: 128, fit: twn}"


def encoded(*words):
    config = load_config("methods/sherry", overrides=list(words)).config
    (form,) = ladder(config, SHAPE).forms
    pieces = factor_of(config.decompose.factor), codec_of(config.binarize.codec), solver_of(config.binarize.solver)
    return compress(llm_like(*SHAPE), plan=plan_of(form, *pieces), metric=Metric(), generator=seeded())


def test_three_of_four_are_between_signs_and_trits():
    signs, three, trits = encoded(SIGNS), encoded(), encoded(TRITS)
    assert [bits_per_weight(each.value.form) for each in (signs, three)] == [1.125, 1.375]
    assert bits_per_weight(trits.value.form) > 1.7
    assert signs.plain_error > three.plain_error > trits.plain_error


def test_one_of_each_four_is_zero_in_the_file():
    dense = encoded().value.dense().reshape(SHAPE[0], -1, 4)
    assert bool(((dense == 0).sum(2) == 1).all())
