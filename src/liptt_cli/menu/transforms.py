"""Options of transforms: the coordinates in which a weight is encoded, chosen before anything is."""

from typing import Annotated, Literal

from pydantic import Field

from liptt_cli.menu.base import Count, NotNegative, Options

BLOCK_COLUMNS = 128

Side = Annotated[Literal["in", "out", "both"], Field(description="the channels that are turned")]


class Scale(Options):
    """A number for each input channel, so that weights of large activations are rounded finely."""

    kind: Literal["scale"]
    exponent: Annotated[NotNegative, Field(description="of the activations' root mean square")] = 0.5
    weight_exponent: Annotated[
        NotNegative, Field(description="of the weights' mean magnitude, which is divided by; SmoothQuant: 1 - exponent")
    ] = 0.0


class Hadamard(Options):
    """Random signs and a Walsh-Hadamard transform: no channel stands out."""

    kind: Literal["hadamard"]
    side: Side = "in"
    block: Annotated[
        Annotated[int, Field(ge=2)] | None,
        Field(description="channels of a run, a power of two; null: the largest that divides them"),
    ] = None
    signs: Annotated[bool, Field(description="a random sign for each channel before, which is stored")] = True


class Haar(Options):
    """The Haar wavelet: neighbours become their sum and their difference."""

    kind: Literal["haar"]
    side: Side = "in"
    block: Annotated[int, Field(ge=2, description="channels of a run; the last one may be shorter")] = BLOCK_COLUMNS
    levels: Annotated[Count, Field(description="how often the sums are split again")] = 1


class Permutation(Options):
    """The columns in another order."""

    kind: Literal["permutation"]
    by: Annotated[
        Literal["similarity", "activation"],
        Field(description="alike columns together (PT2-LLM's reordering), or the largest inputs first"),
    ] = "similarity"
    group_columns: Annotated[Count, Field(description="columns of a group of alike ones")] = BLOCK_COLUMNS


Transform = Annotated[Scale | Hadamard | Haar | Permutation, Field(discriminator="kind")]
