"""From options and a shape to the exact form, and the ladder of forms that the dial chooses from."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from liptt_cli.forms.around import AroundForm, bare_of_scales
from liptt_cli.forms.base import Form, blob_bytes
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.zones import share_count, sparse_form
from liptt_cli.menu.binarize import WEIGHT_CODECS, Around, BinaryCodec, Codec, FloatCodec, SparseCodec, Term, TopColumns
from liptt_cli.menu.decompose import Identity, Modes, TensorTrain
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.turn_price import turned_form
from liptt_cli.planning.weight_price import weight_form
from liptt_cli.tensors.modes import bond_caps, chain_modes

_RANK_STEP = 8
_SMALL_RANKS = (1, 2, 4)
_OVERCOMPLETE = 2


@dataclass(frozen=True)
class Ladder:
    """All forms that a recipe can give one shape, ascending in bytes; a recipe without a dial has one."""

    shape: tuple[int, int]
    forms: tuple[Form, ...]

    @cached_property
    def bytes(self) -> tuple[int, ...]:
        """Return the blob bytes of each form."""
        return tuple(blob_bytes(form) for form in self.forms)

    @cached_property
    def bits(self) -> tuple[float, ...]:
        """Return the bits per weight of each form."""
        rows, columns = self.shape
        return tuple(8 * count / (rows * columns) for count in self.bytes)

    def best(self, bits: float) -> int:
        """Return the number of the largest form of at most `bits` a weight, or 0, the smallest."""
        return max(0, bisect_right(self.bits, bits) - 1)


def ladder(config: RunConfig, shape: tuple[int, int]) -> Ladder:
    """Return the forms for a weight of `shape`; several terms whose rank is auto have the same one.

    Raises:
        ShapeError: if a dimension does not factor into the modes asked for, or divide as a transform needs.
    """
    terms = list(config.terms.values())
    by_bytes: dict[int, Form] = {}  # of equal bytes the last one stays: padding gives its higher rank for nothing
    for rank in _ranks(terms, shape):
        parts = tuple(_part(shape, term, rank=rank) for term in terms)
        whole = turned_form(parts[0] if len(parts) == 1 else SumForm(parts), config.binarize.transforms)
        form = _with_around(whole, config.binarize.around)
        by_bytes[blob_bytes(form)] = form
    return Ladder(shape, tuple(by_bytes.values()))


def _with_around(form: Form, around: Around) -> Form:
    if not around.there:
        return form
    experts = around.routed.experts if around.routed else 0
    inner = bare_of_scales(form) if experts else form
    return AroundForm(inner, around.output_norm, experts, around.input_bits)


def _part(shape: tuple[int, int], term: Term, *, rank: int) -> Form:
    factor, codec = term.factor, term.codec
    if isinstance(factor, Identity):
        return _single(shape, codec)
    if not isinstance(codec, BinaryCodec | FloatCodec):
        raise ValueError(f"a {codec.kind} codec fills no chain")
    return _chain(shape, factor, codec, rank=rank if factor.rank == "auto" else factor.rank)


def _single(shape: tuple[int, int], codec: Codec) -> Form:
    rows, columns = shape
    if isinstance(codec, FloatCodec):
        return DenseForm(shape, codec.dtype)
    if isinstance(codec, SparseCodec):
        part = DenseForm(shape, codec.values.dtype)
        count = share_count(codec.mask.share, columns)
        return sparse_form(shape, whole_columns=isinstance(codec.mask, TopColumns), count=count, part=part)
    if isinstance(codec, WEIGHT_CODECS):
        return weight_form(shape, codec)
    if codec.columns_a_scale is not None:
        return GridForm(shape, scale=EnvelopeForm(rows, min(codec.columns_a_scale, columns)))
    both = "axes" in codec.scale
    by_row, by_column = both or "row" in codec.scale, both or "column" in codec.scale
    return GridForm(shape, scale=EnvelopeForm(rows if by_row else 1, columns, by_column, codec.rank))


def _ranks(terms: Sequence[Term], shape: tuple[int, int]) -> list[int]:
    """Return the ranks to choose from: multiples of 8, since rows of codes are padded to bytes."""
    asking = [term.factor for term in terms if isinstance(term.factor, TensorTrain) and term.factor.rank == "auto"]
    if not asking:
        return [1]  # every term names its own
    most = max(cap for factor in asking for cap in _caps(factor, shape))
    return [r for r in _SMALL_RANKS if r <= most] + list(range(_RANK_STEP, most + 1, _RANK_STEP))


def _caps(factor: TensorTrain, shape: tuple[int, int]) -> tuple[int, ...]:
    """Return what each bond may grow to.

    Float cores gain nothing beyond the exact rank. Sign cores do, where there is one bond: twice it
    is allowed. With more bonds, over-complete outer ones cost more at the middle than they bring.
    """
    exact = bond_caps(*_modes(factor, shape))
    return tuple(_OVERCOMPLETE * cap for cap in exact) if factor.start == "random" and len(exact) == 1 else exact


def _modes(factor: TensorTrain, shape: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    named = (factor.modes.out, factor.modes.into) if isinstance(factor.modes, Modes) else None
    return chain_modes(shape, factor.layout, cores=factor.cores, modes=named)


def _chain(shape: tuple[int, int], factor: TensorTrain, codec: BinaryCodec | FloatCodec, *, rank: int) -> ChainForm:
    out_modes, in_modes = _modes(factor, shape)
    ranks = tuple(min(rank, cap) for cap in _caps(factor, shape))
    bonds = (1, *ranks, 1)
    cores = tuple(_core((bonds[k] * out_modes[k], in_modes[k] * bonds[k + 1]), codec) for k in range(factor.cores))
    bare = ChainForm(shape, out_modes, in_modes, ranks, cores, (False,) * (len(cores) + 1))
    if isinstance(codec, FloatCodec):
        return bare
    free = bare.free_scales  # those that envelopes take over
    inner = [factor.bond_scales and codec.rank == 1] * len(ranks)
    return replace(bare, scales=(not free[0], *inner, not free[-1]))


def _core(shape: tuple[int, int], codec: BinaryCodec | FloatCodec) -> GridForm | DenseForm:
    if isinstance(codec, FloatCodec):
        return DenseForm(shape, codec.dtype)
    return GridForm(shape, scale=EnvelopeForm(*shape, cols=True, rank=codec.rank) if codec.rank > 1 else None)
