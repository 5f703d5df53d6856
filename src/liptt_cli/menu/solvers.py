"""Options of the solvers: how the codes of a core, or of a weight itself, are found."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from liptt_cli.menu.base import Count, NotNegative, Options


class Direct(Options):
    """Encode each core on its own."""

    kind: Literal["direct"] = "direct"


class Procrustes(Options):
    """Rotate the bond of two cores so that their signs fit, then encode each (Joint-ITQ, arXiv:2603.00042)."""

    kind: Literal["procrustes"]
    iterations: Annotated[Count, Field(description="rounds of signs and rotation")] = 50


class Admm(Options):
    """Alternating direction method of multipliers, core by core (arXiv:2505.11076, arXiv:2602.06694)."""

    kind: Literal["admm"]
    iterations: Count = 80
    rho: Annotated[Literal["linear", "cubic"], Field(description="how the penalty grows from 0 to 1")] = "linear"
    ridge: Annotated[NotNegative, Field(description="share of the mean eigenvalue added to each solve")] = 0.03
    inner: Annotated[Count, Field(description="solves of a core in each sweep, from the second on at rho 1")] = 1
    tolerance: Annotated[
        NotNegative | None,
        Field(description="end where a tenth of the iterations takes at most this share off the error; null: never"),
    ] = None
    cg_steps: Annotated[
        int, Field(ge=0, description="of each solve where the metric is no product over the modes; 0: fit a product")
    ] = 4


class ColumnSweep(Options):
    """Column by column, each error pushed to the columns still to come (GPTQ, arXiv:2210.17323)."""

    kind: Literal["column_sweep"]
    sweep_columns: Annotated[Count, Field(description="columns whose errors go on to those behind them together")] = 128
    within: Annotated[
        bool,
        Field(description="errors also go to the later columns of the same block; false: a block is rounded whole"),
    ] = True
    order: Annotated[
        Literal["natural", "activation"],
        Field(description="of the columns; activation: largest inputs first, groups fitted before the sweep"),
    ] = "natural"
    damping: Annotated[
        NotNegative, Field(description="share of the mean diagonal, beside calibration.damping; grows where needed")
    ] = 0.0
    joint_errors: Annotated[
        bool,
        Field(description="within: false, push what is exact for a whole block; papers push as for single columns"),
    ] = False

    @model_validator(mode="after")
    def _one_by_one(self) -> Self:
        if self.order == "activation" and not self.within:
            raise ValueError("order: activation goes column by column; set within: true")
        return self


Solver = Annotated[Direct | Admm | Procrustes | ColumnSweep, Field(discriminator="kind")]
