"""`horizon`: the rate for a longer run, by a power law in tokens with a given exponent."""

from __future__ import annotations

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, numbers, plain


def horizon(
    lr: ArrayLike, *, tokens: ArrayLike, base_tokens: ArrayLike, exponent: ArrayLike
) -> Number:
    r"""The rate for another number of tokens, by a power law whose exponent is given.

    $$\text{lr} \cdot \left(\frac{\text{tokens}}{\text{base\_tokens}}\right)^{\text{exponent}}$$

    There is no default, because no exponent is safe. Published ones have both signs, and each holds
    under its own condition:

    | name | exponent | optimizer | condition | source |
    |---|---|---|---|---|
    | completed | -0.5 | AdamW | b1, b2, eps, decay follow too | Complete(d)P, arXiv 2512.22382 |
    | scion | -0.56 | Scion | the batch is fixed; times batch^0.62 | arXiv 2510.03871 |
    | bjorck | -0.32 | AdamW | batch and model are fixed | Bjorck et al., arXiv 2409.19913 |
    | hyperp | -0.32 | Muon on a hyperball | times batch^0.5 | HyperP, arXiv 2603.28743 |
    | marin | -0.3 | Adam on a hyperball | times batch^0.5, b2 by half-life | completed_adamh.py |
    | step_law | +0.31 | AdamW | the batch grows as tokens^0.57 | arXiv 2503.04715 |

    "Times batch^x" means that the rate also scales by that power of the ratio of the batches.
    `lrax.scaling.fit` takes the name in its `priors`.

    Use it to choose the range of a search: its ends are the rates for two different exponents, as
    in the example. Better, measure the exponent: take the best rate at two or three short horizons
    with the same cooldown in updates, and read it off them.

    An exponent is valid only under its condition, above all on the batch: +0.31 is for a batch that
    grows with the tokens, and -0.32 for a fixed one. Independent replications of such laws were off
    by factors of 4 to 10 on other architectures. A run of few updates may also need a smaller rate
    than the law says, because the rate has less time to decay.

    Args:
      lr: The peak rate that is good for `base_tokens`, at least 0.
      tokens: The length of the new run, in tokens or examples, above 0.
      base_tokens: The length of the run that `lr` is good for, in the same unit, above 0.
      exponent: The power of the ratio, such as -0.32; from -2 to 2.

    Returns:
      The rate for `tokens`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> for exponent in (-0.5, -0.3):
      ...     rate = lrax.scaling.horizon(1e-3, tokens=3.2e9, base_tokens=2e8, exponent=exponent)
      ...     print(f"{rate:.2g}")
      0.00025
      0.00044

    Reference:
      The table; on why the exponent depends on the task, arXiv 2602.06797.
    """
    leaves = numbers(lr=lr, tokens=tokens, base_tokens=base_tokens, exponent=exponent)
    _require.nonnegative(leaves, "lr")
    _require.positive(leaves, "tokens", "base_tokens")
    _require.between(leaves, -2, 2, "exponent")
    ratio = leaves["tokens"] / leaves["base_tokens"]
    return plain(leaves["lr"] * ratio ** leaves["exponent"])
