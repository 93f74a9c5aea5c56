"""`barzilai_borwein`: the rate that fits the last step to the change of the gradient."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .masks import require_whole
from .norms import square
from .secant import kept, secant

Params = Any
Argument = Any  # an extra argument of `update`

_MEASURED = 3  # the steps, after the first one, whose lengths bound all later steps
# Published implementations differ in the part of it that a step may go: 0.2 or 1. With 0.2 the
# method crawls through Rosenbrock's valley, with 1 it is out of it in 3000 updates.
_REACH = 1.0


class BarzilaiBorweinState(NamedTuple):
    """State of `barzilai_borwein`."""

    rate: jax.Array  # shape (), float32: the last rate, before it was bounded
    shortest: jax.Array  # shape (), float32: the shortest of the measured steps; infinite before
    steps: jax.Array  # shape (), int32: steps along which the loss was convex
    params: Params  # those of the last update


def barzilai_borwein(
    init_rate: ArrayLike, *, variant: Literal["long", "short"] = "long", reach: ArrayLike = _REACH
) -> RateRule:
    r"""The Barzilai-Borwein rate, stabilised by a bound on the length of a step.

    $$\eta^\text{long} = \frac{s^\top s}{s^\top y}, \quad
      \eta^\text{short} = \frac{s^\top y}{y^\top y}, \quad
      \eta_k = \min\left(\eta, \frac{\Delta}{\|u_k\|}\right)$$

    $s = x_k - x_{k-1}$ is the last step, $y = \nabla f(x_k) - \nabla f(x_{k-1})$ the change of the
    gradient along it, and $u_k$ the update that the rate multiplies. $\Delta$ is `reach` times the
    shortest of the second, third and fourth step, and infinite before these are made.

    Use it for gradient descent on the whole data of a smooth, ill-conditioned problem. It is often
    as fast as conjugate gradients, although the loss rises now and then. On small batches a
    schedule is better: there it ended at 2.2 times the loss of a swept rate in the median of six
    small tasks, at worst at 10 times (`python -m tests.benchmarks.controllers`).

    Both gradients are those of this update's batch. So an update costs a second gradient, and the
    state a copy of the parameters. Where the loss is not convex along the last step
    ($s^\top y \le 0$), the last rate is kept.

    Args:
      init_rate: Rate of the first update, above 0. It must be large enough to change the
        parameters in their dtype.
      variant: `"long"` or `"short"`, which is never longer.
      reach: The bound of a step's length as a part of the shortest measured step, at least 0. A
        smaller one is safer where the loss is not convex. Infinite for the method of 1988.

    Returns:
      A `RateRule` whose rate is absolute. `update` needs `params`, and `grad_fn` or `value_fn`: the
      gradient or the loss of this batch, as functions of the parameters. It takes the gradient at
      `params` from `grad`, if that is given. A run hands over all of them. Both numbers may be
      traced, and so be swept.

    Raises:
      ValueError: if a concrete number is out of its range, NaN or no scalar, or `variant` is
        unknown.
      TypeError: if an argument is not a number, `update` lacks an argument, or some parameters are
        left out by `optax.masked` or `optax.partition`: the loss cannot be evaluated on the rest.

    Example:
      >>> optimizer = lrax.scale_by_lr(lrax.controllers.barzilai_borwein(0.1))
      >>> grad = jax.grad(lambda params: 5 * params[0] ** 2 + params[1] ** 2)
      >>> params = jnp.array([1.0, 1.0])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(grad(params), state, params, grad_fn=grad)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f"{lrax.get_lr(state):.3f}")
      0.100
      0.103
      0.500

    Reference:
      Barzilai and Borwein, "Two-point step size gradient methods", 1988. Burdakov, Dai and Huang,
      "Stabilized Barzilai-Borwein method", 2019, arXiv:1907.06409.
    """
    numbers = _require.scalars(init_rate=init_rate, reach=reach)
    _require.positive(numbers, "init_rate")
    _require.at_most("`reach` must be at least 0", 0.0, numbers["reach"])
    _require.choice("variant", variant, ("long", "short"))

    def init(params: Params) -> BarzilaiBorweinState:
        require_whole(params, "barzilai_borwein")
        dtype = _require.float_dtype()
        return BarzilaiBorweinState(
            rate=jnp.asarray(numbers["init_rate"], dtype),
            shortest=jnp.full([], jnp.inf, dtype),
            steps=jnp.zeros([], jnp.int32),
            params=params,
        )

    def rate(
        count: jax.Array, state: BarzilaiBorweinState, /, **arguments: Argument
    ) -> tuple[jax.Array, BarzilaiBorweinState]:
        del count
        # Before the first update the parameters have made no step, and the rate stays.
        found = secant(state.params, arguments, "barzilai_borwein")
        long, short = found.step / found.product, found.product / found.change
        fitted = long if variant == "long" else short
        convex = found.finite & (found.product > 0) & jnp.isfinite(fitted) & (fitted > 0)
        new = jnp.where(convex, fitted, state.rate)
        steps = state.steps + convex
        # The first step was made with `init_rate`, which may be of any size.
        measured = convex & (steps > 1) & (steps <= 1 + _MEASURED)
        shortest = jnp.where(
            measured, jnp.minimum(state.shortest, jnp.sqrt(found.step)), state.shortest
        )
        longest = jnp.where(steps > _MEASURED, numbers["reach"] * shortest, jnp.inf)
        bound = longest / jnp.sqrt(square(arguments["updates"]))
        # A bound that is NaN, as of updates that are, bounds nothing.
        bounded = jnp.where(new > bound, bound, new)
        return bounded, BarzilaiBorweinState(
            rate=new,
            shortest=shortest,
            steps=steps,
            params=kept(arguments["params"], state.params, found.finite),
        )

    words = {**numbers, "variant": variant}
    name = call_text("controllers.barzilai_borwein", barzilai_borwein, words)
    return RateRule(init, rate, first=lambda state: state.rate, name=name)
