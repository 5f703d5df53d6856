"""The menu bound to the kitchen: which class serves which record of options, one literal table a family.

The only file that imports every primitive.
"""

from collections.abc import Callable
from typing import Any

from liptt_cli.algebra.codecs.base import Codec
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.codecs.dense import DenseCodec
from liptt_cli.algebra.codecs.sparse import SparseCodec
from liptt_cli.algebra.compose import Term
from liptt_cli.algebra.factors.base import Factor
from liptt_cli.algebra.factors.identity import IdentityFactor
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.objectives.base import Objective
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.label_nats import LabelNats
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.algebra.solvers.admm import AdmmSolver
from liptt_cli.algebra.solvers.base import Solver
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.algebra.solvers.procrustes import ProcrustesSolver
from liptt_cli.menu import binarize, decompose, tuning

FACTORS: dict[type, Callable[[Any], Factor]] = {
    decompose.Identity: lambda options: IdentityFactor(),
    decompose.TensorTrain: lambda options: TensorTrainFactor(options.start),
}

CODECS: dict[type, Callable[[Any], Codec]] = {
    binarize.FloatCodec: lambda options: DenseCodec(options.dtype),
    binarize.BinaryCodec: lambda options: BinaryCodec(
        tuple(options.scale), options.iterations, options.rank, options.columns_a_scale
    ),
    binarize.SparseCodec: lambda options: SparseCodec(
        options.mask.share,
        isinstance(options.mask, binarize.TopColumns),
        options.mask.score,
        options.values.dtype,
    ),
}

SOLVERS: dict[type, Callable[[Any], Solver]] = {
    binarize.Direct: lambda options: DirectSolver(),
    binarize.Procrustes: lambda options: ProcrustesSolver(options.iterations),
    binarize.Admm: lambda options: AdmmSolver(**options.model_dump(exclude={"kind"})),
}

OBJECTIVES: dict[type, Callable[[Any], Objective]] = {
    tuning.LabelNats: lambda options: LabelNats(options.weight),
    tuning.TeacherNats: lambda options: TeacherNats(options.weight, options.temperature),
    tuning.HiddenSquare: lambda options: HiddenSquare(options.weight, options.normalise, options.weights),
    tuning.Lipschitz: lambda options: Lipschitz(
        options.weight,
        options.power_steps,
        options.positions,
        options.estimator,
        options.sided,
        options.blocks_each_step,
    ),
}


def factor_of(options: decompose.Identity | decompose.TensorTrain) -> Factor:
    """Return the factor of a `decompose.factor` record; modes and ranks are in the form."""
    return FACTORS[type(options)](options)


def codec_of(options: binarize.FloatCodec | binarize.BinaryCodec | binarize.SparseCodec) -> Codec:
    """Return the codec of a `binarize.codec` record."""
    return CODECS[type(options)](options)


def solver_of(options: binarize.Direct | binarize.Admm | binarize.Procrustes) -> Solver:
    """Return the solver of a `binarize.solver` record."""
    return SOLVERS[type(options)](options)


def term_of(options: binarize.Term) -> Term:
    """Return the pieces of a term."""
    return Term(factor_of(options.factor), codec_of(options.codec), solver_of(options.solver))


def objective_of(options: tuning.Objective) -> Objective:
    """Return the objective of a record in a tuning's `objectives`."""
    return OBJECTIVES[type(options)](options)
