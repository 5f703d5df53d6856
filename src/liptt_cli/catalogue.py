"""The menu bound to the kitchen: which class serves which record of options, one literal table a family.

The only file that imports every primitive.
"""

from collections.abc import Callable
from typing import Any

from liptt_cli.algebra.codecs.base import Codec, WeightCodec
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.codecs.dense import DenseCodec
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.codecs.grid_start import Search
from liptt_cli.algebra.codecs.refit import Refit
from liptt_cli.algebra.codecs.residual import ResidualCodec
from liptt_cli.algebra.codecs.sparse import SparseCodec
from liptt_cli.algebra.codecs.turned import TurnedCodec
from liptt_cli.algebra.codecs.zero import ZeroCodec
from liptt_cli.algebra.codecs.zones import Choice, ZonesCodec
from liptt_cli.algebra.compose import Term
from liptt_cli.algebra.factors.base import Factor
from liptt_cli.algebra.factors.identity import IdentityFactor
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.masks.base import Mask, Trial
from liptt_cli.algebra.masks.block_bits import BlockBits
from liptt_cli.algebra.masks.magnitude_split import MagnitudeSplit
from liptt_cli.algebra.masks.n_of_m import NOfM
from liptt_cli.algebra.masks.salient_columns import SalientColumns
from liptt_cli.algebra.masks.top_columns import TopColumns
from liptt_cli.algebra.masks.top_share import TopShare
from liptt_cli.algebra.objectives.base import Objective
from liptt_cli.algebra.objectives.hidden_cosine import HiddenCosine
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.label_nats import LabelNats
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.algebra.solvers.admm import AdmmSolver
from liptt_cli.algebra.solvers.base import Encoder, Solver
from liptt_cli.algebra.solvers.column_sweep import ColumnSweepSolver
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.algebra.solvers.procrustes import ProcrustesSolver
from liptt_cli.algebra.transforms.base import Transform
from liptt_cli.algebra.transforms.haar import HaarTransform
from liptt_cli.algebra.transforms.hadamard import HadamardTransform
from liptt_cli.algebra.transforms.permutation import PermutationTransform
from liptt_cli.algebra.transforms.scale import ScaleTransform
from liptt_cli.menu import binarize, decompose, masks, solvers, transforms, tuning, weight_codecs

FACTORS: dict[type, Callable[[Any], Factor]] = {
    decompose.Identity: lambda options: IdentityFactor(),
    decompose.TensorTrain: lambda options: TensorTrainFactor(options.start),
}

CODECS: dict[type, Callable[[Any], Codec | WeightCodec]] = {
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
    weight_codecs.GridCodec: lambda options: GridCodec(
        options.alphabet,
        options.planes,
        options.by_row,
        "column" in options.scale,
        options.shift,
        options.columns_a_scale,
        options.fit,
        Search(options.search_norm, options.search_range[0], options.search_range[1], options.search_steps),
        tuple(Refit(each.iterations, each.metric, each.codes) for each in options.refit),
    ),
    weight_codecs.ZonesCodec: lambda options: ZonesCodec(
        _choice(options), tuple(map(weight_codec_of, options.in_order))
    ),
    weight_codecs.ResidualCodec: lambda options: ResidualCodec(
        tuple(map(weight_codec_of, options.parts)), _choice_of_columns(options.mask), options.fill_columns
    ),
    weight_codecs.TurnedCodec: lambda options: TurnedCodec(
        haar_of(options.transform).turn,
        weight_codec_of(options.inner),
        options.transform.block,
        options.band_columns if options.turns_inputs else None,
    ),
}

TRANSFORMS: dict[type, Callable[[Any], Transform]] = {
    transforms.Scale: lambda options: ScaleTransform(options.exponent, options.weight_exponent),
    transforms.Hadamard: lambda options: HadamardTransform(options.side, options.block, options.signs),
    transforms.Haar: lambda options: haar_of(options),
    transforms.Permutation: lambda options: PermutationTransform(options.by, options.group_columns),
}

MASKS: dict[type, Callable[[Any], Mask]] = {
    masks.TopShare: lambda options: TopShare(options.share, options.by_row),
    masks.TopColumns: lambda options: TopColumns(options.share, options.norm),
    masks.SalientColumns: lambda options: SalientColumns(options.most, options.norm),
    masks.MagnitudeSplit: lambda options: MagnitudeSplit(
        options.grid, options.low, options.high, options.ratio, options.of, options.judge == "row_error"
    ),
    masks.NOfM: lambda options: NOfM(options.keep, options.of),
    masks.BlockBits: lambda options: BlockBits(options.columns),
}

SOLVERS: dict[type, Callable[[Any], Solver | Encoder]] = {
    solvers.Direct: lambda options: DirectSolver(),
    solvers.Procrustes: lambda options: ProcrustesSolver(options.iterations),
    solvers.Admm: lambda options: AdmmSolver(**options.model_dump(exclude={"kind"})),
    solvers.ColumnSweep: lambda options: ColumnSweepSolver(**options.model_dump(exclude={"kind"})),
}

OBJECTIVES: dict[type, Callable[[Any], Objective]] = {
    tuning.LabelNats: lambda options: LabelNats(options.weight),
    tuning.TeacherNats: lambda options: TeacherNats(options.weight, options.temperature, options.entropy_power),
    tuning.HiddenSquare: lambda options: HiddenSquare(options.weight, options.normalise, options.weights),
    tuning.HiddenCosine: lambda options: HiddenCosine(options.weight, options.form, options.first, options.drop_last),
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


def codec_of(options: binarize.Codec) -> Codec | WeightCodec:
    """Return the codec of a `binarize.codec` record."""
    return CODECS[type(options)](options)


def weight_codec_of(options: weight_codecs.WeightOptions) -> WeightCodec:
    """Return the codec of a weight itself, or of a zone of it.

    Raises:
        ValueError: if it is one of a chain's cores.
    """
    if isinstance(options, weight_codecs.ZeroCodec):
        return ZeroCodec()
    codec = CODECS[type(options)](options)
    if not isinstance(codec, WeightCodec):
        raise ValueError(f"codec {options.kind} does not encode a weight itself")
    return codec


def mask_of(options: masks.MaskOptions) -> Mask:
    """Return the mask of a `mask` record."""
    return MASKS[type(options)](options)


def _choice(options: weight_codecs.ZonesCodec) -> Choice:
    """Return how zones are chosen; a mask that searches nothing has one candidate, which is not judged."""
    mask = options.mask
    planes = mask.trial_planes if isinstance(mask, masks.SalientColumns) else {}
    trials = [_trial(part, planes.get(name)) for name, part in zip(mask.zones, options.in_order, strict=True)]
    stand_ins = [_plain(part) for part in options.in_order] if mask.judge == "output_kl" else []
    how = (mask.score, mask.scope, mask.judge, tuple(trials), mask.judged_on == "scores", tuple(stand_ins))
    return Choice(mask_of(mask), *how)


def _plain(part: weight_codecs.ZonePart) -> WeightCodec:
    """Return a part's codec without what it searches or refines."""
    if isinstance(part, weight_codecs.GridCodec):
        rule = "minmax" if part.fit == "search" else part.fit
        part = part.model_copy(update={"fit": rule, "refit": []})
    return weight_codec_of(part)


def _choice_of_columns(mask: masks.SalientColumns | masks.TopColumns | None) -> Choice | None:
    """Return how the columns of a residual are chosen: two planes of signs against one, each with a mean."""
    if mask is None:
        return None
    planes = {"rest": 1, "salient": 2} | (mask.trial_planes if isinstance(mask, masks.SalientColumns) else {})
    trials = tuple(Trial(planes[name], shift=True) for name in ("rest", "salient"))
    return Choice(mask_of(mask), mask.score, mask.scope, mask.judge, trials, mask.judged_on == "scores")


def _trial(part: weight_codecs.ZonePart, planes: int | None) -> Trial:
    """Return what stands in for a part while zones are judged; for zones within zones, one of theirs."""
    if isinstance(part, weight_codecs.ZonesCodec):
        return _trial(part.in_order[-1], planes)
    if isinstance(part, weight_codecs.ZeroCodec):
        return Trial(planes=0)
    return Trial(part.planes if planes is None else planes, part.shift)


def transform_of(options: transforms.Transform) -> Transform:
    """Return the transform of a record in `binarize.transforms`."""
    return TRANSFORMS[type(options)](options)


def haar_of(options: transforms.Haar) -> HaarTransform:
    """Return the wavelet of a record."""
    return HaarTransform(options.side, options.block, options.levels)


def solver_of(options: solvers.Solver) -> Solver | Encoder:
    """Return the solver of a `binarize.solver` record."""
    return SOLVERS[type(options)](options)


def term_of(options: binarize.Term) -> Term:
    """Return the pieces of a term."""
    return Term(factor_of(options.factor), codec_of(options.codec), solver_of(options.solver))


def objective_of(options: tuning.Objective) -> Objective:
    """Return the objective of a record in a tuning's `objectives`."""
    return OBJECTIVES[type(options)](options)
