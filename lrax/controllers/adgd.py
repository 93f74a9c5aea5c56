"""`adgd`: gradient descent whose rate follows the local curvature, without a line search."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .masks import require_whole
from .secant import kept, secant

Params = Any
Argument = Any  # an extra argument of `update`


class AdgdState(NamedTuple):
    """State of `adgd`."""

    rate: jax.Array  # shape (), float32: the last rate
    ratio: jax.Array  # shape (), float32: the last rate over the one before
    params: Params  # the parameters at the last update


def adgd(init_rate: ArrayLike, *, variant: Literal["2020", "2024"] = "2020") -> RateRule:
    r"""Adaptive gradient descent: half the inverse curvature along the last step, with slow growth.

    $$\eta_k = \min\left(\sqrt{1 + \theta_{k-1}} \; \eta_{k-1}, \; \frac{1}{2 L_k}\right), \quad
      L_k = \frac{\|\nabla f(x_k) - \nabla f(x_{k-1})\|}{\|x_k - x_{k-1}\|}, \quad
      \theta_k = \frac{\eta_k}{\eta_{k-1}}$$

    The variant of 2024 takes longer steps:
    $\eta_k = \min(\sqrt{2/3 + \theta_{k-1}} \; \eta_{k-1}, \;
    \eta_{k-1} / \sqrt{\max(2 \eta_{k-1}^2 L_k^2 - 1, 0)})$.

    Use it for plain gradient descent on the whole data, where it needs no tuning and converges on
    every convex function that is locally smooth. On small batches the noise of the gradient counts
    as curvature, and a schedule is better.

    Both gradients are taken on this update's batch, so each update computes a second gradient, and
    the state holds a copy of the parameters. The formula is for gradient descent: with momentum or
    Adam the rate has no meaning.

    Args:
      init_rate: Rate of the first update, above 0. A thousandth of the expected rate is a good
        choice. It must be large enough to change the parameters in their dtype. The variant of 2020
        takes the second rate from the curvature alone. In that of 2024 a rate is at most 1.5 times
        the one before.
      variant: `"2020"`, or `"2024"` with longer steps.

    Returns:
      A `RateRule` that returns the rate itself, and not a factor for another one. `update` needs
      `params`, and `grad_fn` or `value_fn`: the gradient or the loss of this batch, as functions of
      the parameters. If `update` is given `grad`, the rule takes the gradient at `params` from it.
      `lrax.train` and sweeps give all of these. `init_rate` may be traced, so a sweep can vary it.

    Raises:
      ValueError: if `init_rate` is not a finite and positive scalar, or `variant` is unknown.
      TypeError: if `init_rate` is not a number, `update` lacks an argument, or some parameters are
        left out by `optax.masked` or `optax.partition`: the loss cannot be evaluated on the rest.

    Example:
      >>> optimizer = lrax.scale_by_lr(lrax.controllers.adgd(1e-3))
      >>> grad = jax.grad(lambda params: jnp.sum(params**2))
      >>> params = jnp.array([3.0, 4.0])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(grad(params), state, params, grad_fn=grad)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f"{lrax.get_lr(state):.3f}")
      0.001
      0.250
      0.250

    Reference:
      Malitsky and Mishchenko, "Adaptive gradient descent without descent", 2020, arXiv:1910.09529;
      "Adaptive proximal gradient method for convex optimization", 2024, arXiv:2308.02261,
      algorithm 2 (`"2024"`).
    """
    numbers = _require.scalars(init_rate=init_rate)
    _require.positive(numbers, "init_rate")
    _require.choice("variant", variant, ("2020", "2024"))
    # The authors' first ratios. An infinite one does not bound the second rate, which then follows
    # from the curvature alone.
    first_ratio = np.inf if variant == "2020" else 1 / 3

    def init(params: Params) -> AdgdState:
        require_whole(params, "adgd")
        dtype = _require.float_dtype()
        return AdgdState(
            rate=jnp.asarray(numbers["init_rate"], dtype),
            ratio=jnp.full([], first_ratio, dtype),
            params=params,
        )

    def rate(
        count: jax.Array, state: AdgdState, /, **arguments: Argument
    ) -> tuple[jax.Array, AdgdState]:
        del count
        # In the first update, and after an update of 0, the parameters have not moved. The
        # curvature is then 0/0, which is NaN, and the rate stays.
        found = secant(state.params, arguments, "adgd")
        curvature = jnp.sqrt(found.change / found.step)
        if variant == "2020":
            longest = jnp.sqrt(1 + state.ratio) * state.rate
            local = 0.5 / curvature
        else:
            longest = jnp.sqrt(2 / 3 + state.ratio) * state.rate
            local = state.rate / jnp.sqrt(jnp.maximum(2 * (state.rate * curvature) ** 2 - 1, 0))
        new = jnp.minimum(longest, local)
        # With no curvature and an infinite ratio the new rate is infinite, and the last one stays.
        sound = found.finite & jnp.isfinite(new) & (new > 0)
        return jnp.where(sound, new, state.rate), AdgdState(
            rate=jnp.where(sound, new, state.rate),
            ratio=jnp.where(sound, new / state.rate, state.ratio),
            params=kept(arguments["params"], state.params, found.finite),
        )

    name = call_text("controllers.adgd", adgd, {**numbers, "variant": variant})
    return RateRule(init, rate, first=lambda state: state.rate, name=name)
