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

_MEASURED = 3  # how many steps after the first one are measured, to bound all later steps
# The bound, in units of the shortest measured step. Published implementations use 0.2 or 1. With
# 0.2 the method crawls through Rosenbrock's valley, with 1 it leaves the valley in 3000 updates.
_REACH = 1.0


class BarzilaiBorweinState(NamedTuple):
    """State of `barzilai_borwein`."""

    rate: jax.Array  # shape (), float32: the last rate, without the bound on the step
    shortest: jax.Array  # shape (), float32: the shortest measured step, infinite before the first
    steps: jax.Array  # shape (), int32: number of steps along which the loss was convex
    params: Params  # the parameters at the last update


def barzilai_borwein(
    init_rate: ArrayLike, *, variant: Literal["long", "short"] = "long", reach: ArrayLike = _REACH
) -> RateRule:
    r"""The Barzilai-Borwein rate, stabilised by a bound on the length of a step.

    $$\eta^\text{long} = \frac{s^\top s}{s^\top y}, \quad
      \eta^\text{short} = \frac{s^\top y}{y^\top y}, \quad
      \eta_k = \min\left(\eta, \frac{\Delta}{\|u_k\|}\right)$$

    $s = x_k - x_{k-1}$ is the last step, $y = \nabla f(x_k) - \nabla f(x_{k-1})$ the change of the
    gradient along it, and $u_k$ the update that the rate multiplies. $\Delta$ is `reach` times the
    shortest of the second, third and fourth step, and infinite before these are made. Only steps
    along which the loss is convex are counted.

    Use it for gradient descent on the whole data of a smooth, ill-conditioned problem. It is often
    as fast as conjugate gradients, although the loss rises now and then. On small batches a
    schedule is better: there the rule ended at 2.2 times the loss of a swept rate in the median of
    six small tasks, and at 10 times at worst (`python -m tests.benchmarks.controllers`).

    Both gradients are taken on this update's batch, so each update computes a second gradient, and
    the state holds a copy of the parameters. Where the loss is not convex along the last step
    ($s^\top y \le 0$), the last rate is kept.

    Args:
      init_rate: Rate of the first update, above 0. It must be large enough to change the
        parameters in their dtype.
      variant: `"long"`, or `"short"`, whose rate is never larger.
      reach: The bound on a step's length, in units of the shortest measured step, at least 0. A
        smaller bound is safer where the loss is not convex. Infinity gives the method of 1988.

    Returns:
      A `RateRule` whose rate is absolute. `update` needs `params`, and `grad_fn` or `value_fn`: the
      gradient or the loss of this batch, as functions of the parameters. If `update` is given
      `grad`, the rule takes the gradient at `params` from it. A run gives all of them. Both numbers
      may be traced, so a sweep can vary them.

    Raises:
      ValueError: if a concrete number is out of its range, NaN or an array, or `variant` is
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
    _require.not_below(numbers, 0, "reach")
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
        # In the first update the parameters have made no step yet, and the rate stays.
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
        # Updates that are NaN give a bound of NaN, which is ignored.
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
