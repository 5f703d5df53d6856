"""The methods of the benchmark: a recipe each, its share of the common training, and the rates that its trials search.

Every trained method sees the same text, 307,200 training tokens (a token that trains one block of B counts 1/B) and
the same search: its recipe's rates times each factor, tried as a whole run at one budget, judged on documents held
out of the calibration text, never on evaluation text. The best factor serves all of the method's rows on that model.
Methods without training are run as their papers have them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_FACTORS = (0.5, 1.0)  # end to end; twice the rates were far too much
_BLOCK_FACTORS = (1.0, 2.0)  # block by block; half the rates were too little
_ONE_STEP = tuple(f"finetune.learning_rate.{group}" for group in ("codes", "scales", "norms"))


def _steps(at: str, steps: int) -> tuple[str, ...]:
    return (f"{at}.epochs=null", f"{at}.steps={steps}")


@dataclass(frozen=True)
class Method:
    """A configuration, what gives it the common number of training tokens, and the rates that its trials multiply.

    Where a card's rates are for many times these tokens, `setting` names those that the search starts from: for the
    same group of parameters the same as ours. `claimed` are the bits of the paper's own count where `setting` changes
    what the head of the recipe says of them.
    """

    config: str
    setting: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    factors: tuple[float, ...] = _FACTORS
    claimed: float | None = None


def _trained(recipe: str, *groups: str) -> Method:
    """Return a recipe that is trained end to end, once, as ours is; `groups` train, if not codes, scales and norms."""
    rates = tuple(f"finetune.learning_rate.{group}" for group in groups) or _ONE_STEP
    return Method(f"methods/{recipe}", setting=("finetune.steps=300",), rates=rates)


def _rounded(recipe: str, alphabet: str) -> Method:
    return Method(f"methods/{recipe}", (f"binarize.codec.alphabet={alphabet}",), claimed=float(alphabet[-1]))


METHODS: Mapping[str, Method] = {
    "sign": Method("methods/sign"),
    **{f"rtn-{bits}bit": _rounded("rtn", f"int{bits}") for bits in (4, 3, 2)},
    **{f"gptq-{bits}bit": _rounded("gptq", f"uint{bits}") for bits in (4, 3, 2)},
    **{
        recipe: Method(f"methods/{recipe}")
        for recipe in (
            "slim-llm",
            "pb-llm",
            "billm",
            "billm-code",
            "arb-llm-plain",
            "arb-llm-x",
            "arb-llm-rc",
            "arb-llm",
            "hbllm",
            "hbllm-col",
            "stbllm",
            "pt2-llm",
        )
    },
    "stbllm-6of8": Method("methods/stbllm", ("binarize.codec.mask.keep=6",), claimed=0.8),
    **{
        recipe: _trained(recipe) for recipe in ("sign-onestep", "onebit", "binarymos", "sherry", "db-llm", "ternaryllm")
    },
    "lr-qat": _trained("lr-qat", "codes", "scales"),
    "bitnet": _trained("bitnet", "codes", "norms"),
    "tt-svd-sign": Method("methods/tt-svd-sign"),
    "dbf": Method(
        "methods/dbf",
        setting=(  # a block's rest 25 steps of 8 windows, twice; then 200 of 4
            *_steps("binarize.rest", 25),
            "binarize.rest.learning_rate.weights=3e-4",
            *_steps("finetune", 200),
            "finetune.batch_windows=4",
            "finetune.latent.flip_every=10",
            "finetune.latent.flip_share=5e-4",
            "finetune.learning_rate.scales=3e-3",
        ),
        rates=("binarize.rest.learning_rate.weights", "finetune.learning_rate.scales"),
        factors=(2.0, 4.0),
    ),
    "nanoquant": Method(
        "methods/nanoquant",
        setting=(  # seven times 14 steps of 4 windows and 57 of one in each block; then 100 of 4
            *_steps("binarize.rest", 14),
            "binarize.rest.learning_rate.weights=3e-4",
            *_steps("binarize.codes", 57),
            "binarize.codes.latent.unit=true",
            "binarize.codes.learning_rate.codes=0.03",
            "binarize.codes.learning_rate.scales=3e-3",
            *_steps("finetune", 100),
            "finetune.batch_windows=4",
            "finetune.learning_rate.scales=3e-3",
        ),
        rates=(
            "binarize.rest.learning_rate.weights",
            "binarize.codes.learning_rate.codes",
            "binarize.codes.learning_rate.scales",
            "finetune.learning_rate.scales",
        ),
        factors=(2.0, 4.0),
    ),
    "littlebit": Method(
        "methods/littlebit",
        setting=(  # raw latents are of size 0.08 here, so this is our rate in their units
            *_steps("finetune", 300),
            "finetune.learning_rate.codes=2.4e-3",
            "finetune.learning_rate.scales=3e-3",
            "finetune.learning_rate.norms=3e-4",
        ),
        rates=_ONE_STEP,
        factors=(1.0, 2.0),
    ),
    "liptt-multistep": Method(
        "methods/liptt-multistep",
        setting=("decompose.heal.steps=100", "finetune.steps=200"),
        rates=("decompose.heal.learning_rate.weights", *_ONE_STEP),
    ),
    "liptt-ptq": Method(
        "methods/liptt-ptq",
        setting=(  # half the recipe's own rates, which were found so
            "binarize.codes.learning_rate.codes=0.02",
            "binarize.codes.learning_rate.scales=3e-3",
            "binarize.codes.learning_rate.norms=3e-4",
        ),
        rates=tuple(f"binarize.codes.learning_rate.{group}" for group in ("codes", "scales", "norms")),
        factors=_BLOCK_FACTORS,
    ),
    "liptt-onestep": _trained("liptt-onestep"),
    "dense-tuned": Method(
        str(ROOT / "benchmarks" / "dense-tuned.yaml"),
        setting=("finetune.steps=300",),
        rates=("finetune.learning_rate.weights", "finetune.learning_rate.norms"),
    ),
}
WITH_DIAL = ("tt-svd-sign", "dbf", "nanoquant", "littlebit", "liptt-multistep", "liptt-ptq", "liptt-onestep")
WITHOUT_DIAL = tuple(method for method in METHODS if method not in WITH_DIAL)
BASELINES = ("sign", "tt-svd-sign")
RIVALS = ("dbf", "nanoquant", "littlebit", "liptt-multistep")
OURS = ("liptt-ptq", "liptt-onestep")
