"""`untuned_warmup`: a warmup for Adam whose length follows from `b2`."""

from __future__ import annotations

import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .concrete import known, library
from .counts import real
from .schedule import Schedule, Static

_KINDS = ("linear", "exponential", "radam")
# For `b2` up to 0.6, the variance that radam's factor divides by is infinite at every step. Near
# 0.6, it is infinite for arbitrarily many steps.
_LEAST_B2 = 0.65
_LATEST = 8  # for `_LEAST_B2`, radam's factor is defined from this step on


def untuned_warmup(
    peak: ArrayLike = 1.0, b2: ArrayLike = 0.999, *, kind: str = "linear"
) -> Schedule:
    r"""A warmup to `peak` for Adam, whose length follows from Adam's `b2`.

    $$\eta(t) = \text{peak} \cdot \omega(s), \quad s = t + 1$$

    | `kind` | $\omega(s)$ |
    |---|---|
    | `"linear"` | $\min(1, (1 - b_2) \, s / 2)$ |
    | `"exponential"` | $1 - \exp(-(1 - b_2) \, s)$ |
    | `"radam"` | $\sqrt{\frac{(\rho_s - 4)(\rho_s - 2) \, \rho_\infty}
      {(\rho_\infty - 4)(\rho_\infty - 2) \, \rho_s}}$ |

    In the last row, $\rho_\infty = 2 / (1 - b_2) - 1$ and
    $\rho_s = \rho_\infty - 2 s \, b_2^s / (1 - b_2^s)$. The root is real where $\rho_s > 4$. As in
    pytorch_warmup, $s$ therefore begins at the first such step, and not at 1.

    Use it for Adam and its kin if you do not want to tune a warmup. The default works as well as
    the other two. It lasts `2 / (1 - b2)` updates, 2000 for `b2=0.999`. With `peak=1.0` it is a
    factor of another schedule, as in `lrax.cosine(1e-3, 10_000) * lrax.untuned_warmup()`.

    Args:
      peak: The rate after the warmup, at least 0.
      b2: Adam's decay of the second moment, at least 0 and below 1; for `"radam"` at least 0.65.
      kind: `"linear"`, `"exponential"` or `"radam"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or `kind` is another word.

    Example:
      >>> print(lrax.untuned_warmup(b2=0.75).values(9))
      [0.125 0.25  0.375 0.5   0.625 0.75  0.875 1.    1.   ]

    Reference:
      Ma, Yarats. On the Adequacy of Untuned Warmup for Adaptive Optimization. 2019,
      arXiv:1910.04209. Liu et al. On the Variance of the Adaptive Learning Rate and Beyond. 2019,
      arXiv:1908.03265 (`"radam"`).
    """
    hyperparams = _require.real(peak=peak, b2=b2)
    _require.nonnegative(hyperparams, "peak")
    _require.choice("kind", kind, _KINDS)
    _require.below_one(hyperparams, "b2")
    if kind == "radam":
        _require.at_least(hyperparams, _LEAST_B2, "b2")
    return Schedule(_untuned_warmup, {**hyperparams, "kind": Static(kind)})


@builder(untuned_warmup, landmarks=landmarks.untuned_warmup)
def _untuned_warmup(count, peak, b2, kind):
    # pytorch_warmup truncates the lengths 2 / (1 - b2) and 1 / (1 - b2) to whole numbers of steps,
    # for b2 = 0.999 to 1999 and 999. The paper does not.
    step = real(jnp.maximum(count, 0)) + 1
    if kind == "linear":
        return peak * jnp.minimum((1 - b2) / 2 * step, 1)
    if kind == "exponential":
        return peak * -jnp.expm1((b2 - 1) * step)
    xp = library(b2)
    candidates = np.arange(1, _LATEST + 1, dtype=_require.float_dtype())
    defined = _rho(candidates, b2) > 4
    delay = xp.where(defined.any(), xp.argmax(defined), _LATEST - 1)
    rho = _rho(step + delay.astype(step.dtype), b2)
    top = 2 / (1 - b2) - 1
    # A traced `b2` that is too small gives 0, not NaN. The square root is kept off 0, where its
    # slope is infinite.
    square = (rho - 4) * (rho - 2) * top / ((top - 4) * (top - 2) * rho)
    return peak * jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _rho(step, b2):
    r"""$\rho_s$ of radam.

    The formula as printed subtracts two large numbers, and in float32 few digits would be left.
    With $\lambda = -\log b_2$ and $x = \lambda s$, the same is $\rho_s = c + \frac{2}{\lambda} (1 -
    \frac{x}{e^x - 1})$, where $c = \frac{2}{1 - b_2} - 1 - \frac{2}{\lambda}$ depends on `b2`
    alone.
    """
    small = 1 - b2
    decay = -library(b2).log1p(-small)
    constant = 2 / small - 1 - 2 / decay
    if not known(b2):  # in float32, the difference has no digits left
        series = small / 6 + small**2 / 12 + 19 / 360 * small**3
        constant = jnp.where(small < 0.02, series, constant)
    xp = library(b2, step)
    x = decay * step
    near = xp.minimum(x, 0.5)
    square = near**2
    # 1 - x / (e^x - 1) near 0: x / 2 less the series of Bernoulli's numbers.
    terms = 1 / 12 - square * (
        1 / 720 - square * (1 / 30240 - square * (1 / 1209600 - square / 47900160))
    )
    far = xp.clip(x, 0.5, 80)  # beyond, e^x overflows in float32
    part = xp.where(x < 0.5, near / 2 - square * terms, 1 - far / xp.expm1(far))
    return constant + 2 / decay * part
