"""The forms of codecs that encode a weight itself; where the data decide what is stored, the largest that can be."""

from liptt_cli.forms.alphabets import ALPHABETS
from liptt_cli.forms.base import TRITS_A_BYTE, Form
from liptt_cli.forms.leaves import EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.zones import ZonePart, ZonesForm, share_count
from liptt_cli.menu.binarize import Codec
from liptt_cli.menu.masks import BlockBits, MagnitudeSplit, NOfM, SalientColumns, TopColumns, TopShare
from liptt_cli.menu.weight_codecs import GridCodec, ResidualCodec, TurnedCodec, WeightOptions, ZeroCodec, ZonesCodec
from liptt_cli.planning.turn_price import turned_form


def weight_form(shape: tuple[int, int], codec: Codec) -> Form:
    """Return what such a codec makes of a weight, exactly or at most.

    Raises:
        ValueError: if the codec is of another kind.
    """
    if isinstance(codec, GridCodec):
        return _grid(shape, codec)
    if isinstance(codec, ZonesCodec):
        return _zones(shape, codec)
    if isinstance(codec, TurnedCodec):
        return turned_form(weight_form(shape, codec.inner), [codec.transform])
    if isinstance(codec, ResidualCodec):
        later = [_in_columns(shape, part, codec) for part in codec.parts[1:]]
        return SumForm((weight_form(shape, codec.parts[0]), *later))
    raise ValueError(f"codec {codec.kind} does not encode a weight itself")


def _grid(shape: tuple[int, int], codec: GridCodec) -> GridForm:
    rows = shape[0] if codec.by_row else 1
    group = min(codec.columns_a_scale or shape[1], shape[1])
    scale = EnvelopeForm(rows, group, "column" in codec.scale)
    return GridForm(shape, codec.alphabet, codec.planes, scale, EnvelopeForm(rows, group) if codec.shift else None)


def _zones(shape: tuple[int, int], codec: ZonesCodec, inside: int | None = None) -> ZonesForm:
    """Return zones of a whole weight, or of so many entries of it; columns are told by a label each, the longer way."""
    mask, (_, columns) = codec.mask, shape
    sizes = _sizes(shape, codec, inside)
    pairs = zip(codec.in_order, sizes, strict=True)
    parts = tuple(_zone(shape, part, size) for part, size in pairs)
    nested = None if inside is None else sizes
    if isinstance(mask, NOfM) and columns % mask.of == 0:
        return ZonesForm(shape, "pattern", (mask.keep,), parts, mask.of, nested)
    if isinstance(mask, TopShare | MagnitudeSplit | NOfM):
        return ZonesForm(shape, "entry", sizes[1:], parts, 1, nested)
    labelled = ZonesForm(shape, "group", (), parts, mask.columns if isinstance(mask, BlockBits) else 1, sizes)
    if not isinstance(mask, TopColumns):
        return labelled
    named = ZonesForm(shape, "column", (share_count(mask.share, columns),), parts, 1, nested)
    return min(named, labelled, key=lambda form: form.labels().bytes)


def _zone(shape: tuple[int, int], codec: GridCodec | ZeroCodec | ZonesCodec, entries: int) -> ZonePart:
    if isinstance(codec, GridCodec):
        return _grid(shape, codec)
    return _zones(shape, codec, entries) if isinstance(codec, ZonesCodec) else ZeroForm(shape)


def _in_columns(shape: tuple[int, int], part: GridCodec | ZonesCodec | TurnedCodec, codec: ResidualCodec) -> Form:
    """Return what a later part of a residual is: zero outside of the columns that a mask chooses."""
    if codec.mask is None:
        return weight_form(shape, part)
    if isinstance(part, TurnedCodec):
        return turned_form(_in_columns(shape, part.inner, codec), [part.transform])
    rows, columns = shape
    if isinstance(codec.mask, TopColumns):
        top = rows * share_count(codec.mask.share, columns)
    else:
        width = min(_group_columns(codec) or columns, columns)
        top = rows * min(codec.mask.most, width - 1) * -(-columns // width)
    return ZonesForm(shape, "group", (), (ZeroForm(shape), _zone(shape, part, top)), 1, (rows * columns - top, top))


def _sizes(shape: tuple[int, int], codec: ZonesCodec, inside: int | None) -> tuple[int, ...]:
    """Return how many entries each zone has; where the data decide, such that they take the most bits."""
    mask, (rows, columns) = codec.mask, shape
    whole = rows * columns if inside is None else inside
    bits = [_bits_an_entry(part) for part in codec.in_order]
    if isinstance(mask, MagnitudeSplit):
        return tuple(whole if zone == bits.index(max(bits)) else 0 for zone in range(len(bits)))
    if isinstance(mask, BlockBits):
        moved = rows * mask.columns * max(0, (columns // mask.columns - 1) // 2) * (bits[0] + bits[2] > 2 * bits[1])
        return moved, whole - 2 * moved, moved
    if isinstance(mask, NOfM):
        top = rows * (columns // mask.of * mask.keep - (-mask.keep * (columns % mask.of) // mask.of))
    elif isinstance(mask, TopShare):
        top = rows * share_count(mask.share, columns) if mask.by_row else share_count(mask.share, whole)
    elif isinstance(mask, SalientColumns):
        width = min(_group_columns(codec) or columns, columns)
        top = rows * min(mask.most, width - 1) * -(-columns // width) * (bits[1] >= bits[0])
    else:
        top = rows * share_count(mask.share, columns)
    return whole - min(top, whole), min(top, whole)


def _bits_an_entry(codec: GridCodec | ZeroCodec | ZonesCodec) -> float:
    """Return the code bits of an entry, its label inside of the zone included."""
    if isinstance(codec, GridCodec):
        return codec.planes * (8 / TRITS_A_BYTE if codec.alphabet == "trit" else float(ALPHABETS[codec.alphabet].bits))
    if isinstance(codec, ZeroCodec):
        return 0.0
    labels = (len(codec.mask.zones) - 1).bit_length() if isinstance(codec.mask, TopShare | MagnitudeSplit) else 0
    return labels + max(map(_bits_an_entry, codec.in_order))


def _group_columns(codec: WeightOptions) -> int | None:
    """Return the columns of a group of the narrowest part."""
    if isinstance(codec, GridCodec):
        return codec.columns_a_scale
    if isinstance(codec, TurnedCodec):
        return codec.transform.block if codec.turns_inputs else _group_columns(codec.inner)
    parts = () if isinstance(codec, ZeroCodec) else codec.in_order if isinstance(codec, ZonesCodec) else codec.parts
    return min((group for part in parts if (group := _group_columns(part)) is not None), default=None)
