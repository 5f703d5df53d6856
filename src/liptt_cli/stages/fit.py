"""How one linear is fitted under a configuration: its form, and the pieces that fill it."""

from liptt_cli.algebra.compose import LinearPlan
from liptt_cli.catalogue import codec_of, factor_of, solver_of, term_of, transform_of
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import Form
from liptt_cli.menu.run import RunConfig


def linear_plan(config: RunConfig, form: Form) -> LinearPlan:
    """Return what is done to a weight that takes this form."""
    binarize = config.binarize
    return LinearPlan(
        form=form.fitted if isinstance(form, AroundForm) else form,
        factor=factor_of(config.decompose.factor),
        codec=codec_of(binarize.codec),
        solver=solver_of(binarize.solver),
        refit=binarize.refit,
        scale_repair=binarize.scale_repair,
        residual=tuple(term_of(term) for term in binarize.residual),
        rounds=binarize.rounds,
        unit_sources=config.unit_sources,
        transforms=tuple(transform_of(transform) for transform in binarize.transforms),
    )
