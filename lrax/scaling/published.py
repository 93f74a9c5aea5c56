"""The published rules of transfer, as one table of exponents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# The kinds of parameters that rules tell apart.
HIDDEN = "hidden"  # matrices in the residual blocks
VECTOR = "vector"  # biases and normalisation in the residual blocks
QK_NORM = "qk_norm"  # the normalisation of queries and keys
INPUT = "input"  # embeddings
OUTPUT = "output"  # the matrix of the output layer
FINAL = "final"  # the last normalisation, and the bias of the output layer
ALL = ""  # every parameter: what `hyperparams` holds

TIMES = "times"  # x * factor
GAP = "gap"  # 1 - factor * (1 - x)
HALF_LIFE = "half_life"  # x ** factor


class Row(NamedTuple):
    """How one hyperparameter depends on the setting: the exponents of the four ratios."""

    name: str
    kind: str = ALL
    width: float = 0.0
    depth: float = 0.0
    batch: float = 0.0
    tokens: float = 0.0
    form: str = TIMES


class Rules(NamedTuple):
    """What one source says.

    Attributes:
      rows: The rows for each optimizer. A row without exponents says that the source keeps the
        hyperparameter.
      axes: The fields of a `Setting` that the source covers.
      tested: The largest ratio of a field for which a source shows that the rules hold. A field is
        missing if no such ratio is known.
      source: Where the exponents are from.
      valid: Where they hold.
      needs: A condition that is easily missed, as a sentence: each transfer warns of it.
    """

    rows: Mapping[str, tuple[Row, ...]]
    axes: tuple[str, ...]
    tested: Mapping[str, float]
    source: str
    valid: str
    needs: str = ""


# The package `mup` 1.0.0. `mup.py` has the same rules, also for two widths that grow differently.
_MUP_WEIGHTS = (Row("init", HIDDEN, width=-0.5), Row("forward", OUTPUT, width=-1))
_MUP_ADAM = (Row("lr"), Row("lr", HIDDEN, width=-1), *_MUP_WEIGHTS)
_MUP_SGD = (
    Row("lr"),
    *(Row("lr", kind, width=1) for kind in (VECTOR, INPUT, OUTPUT, FINAL)),
    Row("weight_decay"),
    *(Row("weight_decay", kind, width=-1) for kind in (VECTOR, INPUT, OUTPUT, FINAL)),
    *_MUP_WEIGHTS,
)

# CompleteP with alpha = 1, as in `depth.py`.
_COMPLETEP = (
    Row("lr"),
    Row("lr", HIDDEN, width=-1),
    Row("eps"),
    *(Row("eps", kind, width=-1, depth=-1) for kind in (HIDDEN, VECTOR)),
    *(Row("eps", kind, width=-1) for kind in (INPUT, OUTPUT, FINAL)),
    *_MUP_WEIGHTS,
    Row("residual", HIDDEN, depth=-1),
)
_HIDDEN_DECAY = (Row("weight_decay"), Row("weight_decay", HIDDEN, width=1))

# Complete(d)P, table 1, with alpha = 1. Batch and tokens enter only as kappa = batch / tokens, by
# Adam's square-root rule. The output layer has no forward factor: its rate and initialisation have
# the factor instead. The epsilon of the embeddings is that of CompleteP; that of the output layer
# is not.
_COMPLETED = (
    Row("lr", batch=0.5, tokens=-0.5),
    *(Row("lr", kind, width=-1) for kind in (HIDDEN, OUTPUT)),
    Row("b1", batch=1, tokens=-1, form=GAP),
    Row("b2", batch=1, tokens=-1, form=GAP),
    Row("eps", batch=-0.5, tokens=0.5),
    *(Row("eps", kind, width=-1, depth=-1) for kind in (HIDDEN, VECTOR)),
    Row("eps", QK_NORM, depth=-1),
    Row("eps", INPUT, width=-1),
    Row("warmup", batch=-1, tokens=1),
    Row("init", HIDDEN, width=-0.5),
    Row("init", OUTPUT, width=-1),
    Row("residual", HIDDEN, depth=-1),
)
_COMPLETED_DECAY = (
    Row("weight_decay", batch=0.5, tokens=-0.5),
    *(Row("weight_decay", kind, width=1) for kind in (HIDDEN, OUTPUT)),
)

_SDE = (
    Row("lr", batch=0.5),
    Row("b1", batch=1, form=GAP),
    Row("b2", batch=1, form=GAP),
    Row("eps", batch=-0.5),
    Row("warmup", batch=-1),
)
_HALF_LIFE = (Row("b1"), Row("b2", batch=1, form=HALF_LIFE))


class Power(NamedTuple):
    """A published power of the tokens by which the best rate grows: a line of `horizon`'s table."""

    exponent: float
    optimizer: str
    condition: str
    source: str
    fixed_batch: bool = True  # else the batch of the source grew with the tokens


POWERS: dict[str, Power] = {
    "completed": Power(
        -0.5, "AdamW", "b1, b2, eps, decay follow too", "Complete(d)P, arXiv 2512.22382"
    ),
    "scion": Power(-0.56, "Scion", "the batch is fixed; times batch^0.62", "arXiv 2510.03871"),
    "bjorck": Power(-0.32, "AdamW", "batch and model are fixed", "Bjorck et al., arXiv 2409.19913"),
    "hyperp": Power(-0.32, "Muon on a hyperball", "times batch^0.5", "HyperP, arXiv 2603.28743"),
    "marin": Power(
        -0.3, "Adam on a hyperball", "times batch^0.5, b2 by half-life", "completed_adamh.py"
    ),
    "step_law": Power(
        0.31, "AdamW", "the batch grows as tokens^0.57", "arXiv 2503.04715", fixed_batch=False
    ),
}

# No source gives a standard deviation. The exponents above differ by their conditions, and a user's
# conditions differ again. The standard deviation of the six about their mean is 0.31.
POWER_SD = 0.3

PUBLISHED: dict[str, Rules] = {
    "mup": Rules(
        rows={
            "adam": _MUP_ADAM,
            "adamw": (*_MUP_ADAM, *_HIDDEN_DECAY),
            "sgd": _MUP_SGD,
            "muon": (Row("lr"), Row("weight_decay"), *_MUP_WEIGHTS),
        },
        axes=("width",),
        tested={"width": 64},
        source=(
            "Yang et al., Tensor programs V, arXiv 2203.03466, and the package mup 1.0.0; for Muon,"
            " Yang et al., arXiv 2310.17813; tested by Lingle, arXiv 2404.05728"
        ),
        valid=(
            "wide networks, at a fixed depth, batch and length. Late in training the weight decay"
            " decides, for which there are other rules too (lrax.scaling.mup_multipliers)"
        ),
    ),
    "completep": Rules(
        rows={"adam": _COMPLETEP, "adamw": (*_COMPLETEP, *_HIDDEN_DECAY)},
        axes=("width", "depth"),
        tested={"depth": 64},
        source="Dey et al., CompleteP, arXiv 2505.01618, with alpha = 1",
        valid="transformers with residual blocks before a sum, at a fixed batch and length",
    ),
    "completed": Rules(
        rows={"adam": _COMPLETED, "adamw": (*_COMPLETED, *_COMPLETED_DECAY)},
        axes=("width", "depth", "batch", "tokens"),
        tested={},
        source="Mlodozeniec et al., Complete(d)P, arXiv 2512.22382, table 1, with alpha = 1",
        valid=(
            "transformers of 50M to 7B parameters, while the gradient is mostly noise and"
            " batch / tokens grows less than 1 / (1 - b1). Others fitted a weaker power of the"
            " tokens (lrax.scaling.horizon)"
        ),
    ),
    "hyperp": Rules(
        rows={
            "muon": (
                Row("lr", depth=-0.5, batch=0.5, tokens=-0.32),
                Row("weight_decay"),
                Row("momentum"),
                Row("b1"),
                Row("b2"),
                Row("eps"),
                Row("init", HIDDEN, width=-0.5),
                Row("residual", HIDDEN, depth=-0.5),
            )
        },
        axes=("width", "depth", "batch", "tokens"),
        tested={"depth": 3},
        source="Ren et al., HyperP, arXiv 2603.28743, and the code microsoft/ArchScale",
        valid=(
            "Muon whose matrices keep their norm (a hyperball), with AdamW at the same rate for the"
            " other parameters. Without a fixed norm these are not the rules: the decay, which does"
            " nothing there, then matters. Tested with width and depth growing together"
        ),
        needs="These rules are for matrices of a fixed norm (a hyperball), and not for plain Muon.",
    ),
    "completed_adamh": Rules(
        rows={
            "adam": (
                Row("lr", batch=0.5, tokens=-0.5),
                Row("lr", HIDDEN, tokens=0.2),
                Row("b1"),
                Row("b2", batch=1, form=HALF_LIFE),
                Row("eps", batch=-0.5, tokens=0.5),
                Row("warmup", batch=-1, tokens=1),
            )
        },
        axes=("width", "depth", "batch", "tokens"),
        tested={"tokens": 240},
        source="marin-community/marin, experiments/scaling_law_sweeps/completed_adamh.py",
        valid=(
            "Adam whose matrices keep their norm (a hyperball), their rate with the power -0.3 of"
            " the tokens, and plain Adam for the others. The code keeps rates at most 0.01, and b2"
            " from 0.9 to 0.9999. Depth is a function of width there"
        ),
        needs="These rules are for matrices of a fixed norm (a hyperball), and not for plain Adam.",
    ),
    "sde": Rules(
        rows={"adam": _SDE, "adamw": _SDE},
        axes=("batch",),
        tested={},
        source="Malladi et al., arXiv 2205.10287, as lrax.scaling.adam_sde",
        valid="batches below the noise scale, growing less than 1 / (1 - b1)",
    ),
    "sdew": Rules(
        rows={
            "adamw": (
                Row("lr"),
                Row("weight_decay", batch=0.5),
                Row("b1"),
                Row("b2", batch=0.5, form=GAP),
                Row("eps", batch=-0.5),
            )
        },
        axes=("batch",),
        tested={},
        source="microsoft/ArchScale, bsz_scaling=sdew, after Compagnoni et al., arXiv 2411.15958",
        valid="language models, where its authors found a fixed rate better than a root",
    ),
    "half_life": Rules(
        rows={"adam": _HALF_LIFE, "adamw": _HALF_LIFE},
        axes=("batch",),
        tested={"batch": 4096},
        source="Marek et al., arXiv 2507.07101: the half-life of b2 in tokens, b1 fixed",
        valid=(
            "language models with batches from 1 to 4096 sequences. The best rate moved less than"
            " with the root of the batch: tune it, between no change and lrax.scaling.sqrt"
        ),
    ),
    "power_lines": Rules(
        rows={"adamw": (Row("lr"), Row("weight_decay", batch=1, tokens=-0.48))},
        axes=("batch", "tokens"),
        tested={},
        source="Bergsma et al., Power lines, arXiv 2505.13738: timescale ~ (tokens / size)^-0.52",
        valid=(
            "one model, of 111M to 3.3B parameters under muP; batches below the critical one, and"
            " a decay that the rate multiplies"
        ),
    ),
    "linear": Rules(
        rows={
            "sgd": (
                Row("lr", batch=1),
                Row("momentum"),
                Row("weight_decay"),
                Row("warmup", batch=-1),
            )
        },
        axes=("batch",),
        tested={"batch": 32},
        source="Goyal et al., arXiv 1706.02677, as lrax.scaling.linear",
        valid="batches below the critical one, with a gradual warmup, and the epochs kept",
    ),
}
