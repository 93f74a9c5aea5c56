"""`hypergradient`: gradient descent on the rate itself."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .masks import is_masked, require_whole
from .measurements import given, measured
from .norms import inner, square
from .numbers import Numbers

Params = Any
Argument = Any  # an extra argument of `update`: an array, a pytree of them, or a function
Arguments = dict[str, Any]


class HypergradientState(NamedTuple):
    """State of the kinds "additive" and "multiplicative"."""

    rate: jax.Array  # float32 []: the rate of the last update
    direction: Params  # the last update, before the rate multiplied it


class HdmState(NamedTuple):
    """State of the kind "hdm"; both fields have the shape ()."""

    rate: jax.Array  # float32: the rate that the next update tries
    squares: jax.Array  # float32: the sum of the squares of s in the formula


def hypergradient(
    learning_rate: ArrayLike,
    hyper_rate: ArrayLike,
    *,
    kind: Literal["additive", "multiplicative", "hdm"] = "additive",
) -> RateRule:
    r"""Raises the rate while successive steps agree, and lowers it while they oppose each other.

    $$\begin{aligned}
      \text{additive:} \quad & \eta_t = \eta_{t-1} + \beta \, \langle g_t, u_{t-1} \rangle \\
      \text{multiplicative:} \quad & \eta_t = \eta_{t-1} \left(1 + \beta \,
      \frac{\langle g_t, u_{t-1} \rangle}{\lVert g_t \rVert \lVert u_{t-1} \rVert}\right) \\
      \text{hdm:} \quad & \eta_{t+1} = \eta_t + \beta \, \frac{s_t}{\sqrt{\sum_{i \le t} s_i^2}},
      \quad s_t = \frac{\langle \nabla f(x_t - \eta_t u_t), u_t \rangle}{\lVert g_t \rVert
      \lVert u_t \rVert}
    \end{aligned}$$

    $g$ is the gradient, given to `update` as `grad`; $u$ is the update that the rule is given, such
    as Adam's direction; $f$ is the loss of the update's batch at the parameters $x$; $\beta$ is
    `hyper_rate`. $\langle g_t, u_{t-1} \rangle$ is minus the derivative of the loss with respect to
    the rate of the last step. Use the rule to correct a rate that is somewhat wrong, not to find
    one: a rate that is far too small comes near the best one, but seldom reaches it. For the
    "multiplicative" kind `hyper_rate=0.02` is a good start, because it does not depend on the scale
    of the loss. The `hyper_rate` of the "additive" kind has the unit of a rate divided by a squared
    gradient, or by a gradient under Adam. With Adam and a first rate that was 10 times too low,
    1e-5, the best of three values, ended at 1.04 times the loss of a swept rate in the median of
    six small tasks, and the constant rate at 2.2 times. The authors' 1e-7 does little in 300
    updates (`python -m tests.benchmarks.controllers`).

    "hdm" looks ahead: it evaluates the loss and the gradient of the update's batch at the point to
    which the step leads. If the loss is not lower there, the rate of this update is 0, the null
    step of the method. The rate of the next update is corrected either way. Each update evaluates
    one more loss and gradient, through the arguments `value_fn` and `grad_fn`, which a run gives.
    "hdm" is meant for full batches, plain gradients and `scale_by_lr` at the end of the chain. Do
    not multiply it with another rate: the step would then differ from the one that was tried. Start
    from a low rate; its authors start from 0. `hyper_rate` is the size of the first correction,
    such as 0.1. On small batches 0.01 was better: there "hdm" ended at 1.13 times the loss of a
    swept rate in the median of six small tasks, and at 1.6 times at worst
    (`python -m tests.benchmarks.controllers`). The corrections are those of AdaGrad, as in both of
    the authors' programs. Their theory has a constant `hyper_rate` without the root, which must
    then be below 2 / L, where L is the smoothness constant of $f$. The authors also learn a matrix
    of rates and a momentum.

    The rate stays at 0 or above. A gradient or an update that is not finite changes nothing. If a
    step leads to a loss that is not finite, it has no hypergradient, and "hdm" halves the rate.

    Args:
      learning_rate: The first rate, at least 0.
      hyper_rate: Step size of the correction of the rate, at least 0. At 0 the rate is constant.
      kind: "additive" or "multiplicative" of Baydin et al., or "hdm" of Chu et al.

    Returns:
      A `RateRule` whose rate is absolute. Both numbers may be traced, so a sweep can vary them. The
      state holds the last update, in the dtype of the parameters; that of "hdm" holds two numbers.

    Raises:
      ValueError: if a concrete number is negative, infinite, NaN or an array, or `kind` is
        unknown.
      TypeError: if an argument is not a real number, `update` was not given an argument that the
        rule follows, or "hdm" is used under `optax.masked` or `optax.partition`: the loss cannot be
        evaluated on a part of the parameters.

    Example:
      >>> rule = lrax.controllers.hypergradient(0.01, 0.02, kind="multiplicative")
      >>> optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(rule))
      >>> params = jnp.array([3.0, 4.0])
      >>> state = optimizer.init(params)
      >>> for _ in range(4):
      ...     updates, state = optimizer.update(2 * params, state, params, grad=2 * params)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f"{lrax.get_lr(state):.4f}")
      0.0100
      0.0102
      0.0104
      0.0106

    Reference:
      Baydin et al. 2018, "Online Learning Rate Adaptation with Hypergradient Descent",
      arXiv:1703.04782. Gao, Chu, Ye and Udell 2024, "Gradient Methods with Online Scaling",
      arXiv:2411.01803; Chu et al. 2025, "Provable and Practical Online Learning Rate Adaptation
      with Hypergradient Descent", arXiv:2502.11229.
    """
    numbers = _require.scalars(learning_rate=learning_rate, hyper_rate=hyper_rate)
    _require.nonnegative(numbers, *numbers)
    _require.choice("kind", kind, ("additive", "multiplicative", "hdm"))

    def init(params: Params) -> HypergradientState | HdmState:
        rate = jnp.asarray(numbers["learning_rate"], _require.float_dtype())
        if kind == "hdm":
            require_whole(params, "hypergradient")
            return HdmState(rate, jnp.zeros_like(rate))
        return HypergradientState(rate, optax.tree.zeros_like(params))

    def rate(
        count: jax.Array, state: Any, /, **arguments: Argument
    ) -> tuple[jax.Array, HypergradientState | HdmState]:
        del count
        if kind == "hdm":
            return _tried(state, arguments, numbers)
        state = _followed(state, arguments, numbers, kind)
        return state.rate, state

    name = call_text("controllers.hypergradient", hypergradient, {**numbers, "kind": kind})
    return RateRule(init, rate, first=lambda state: state.rate, name=name)


def _followed(
    state: HypergradientState, arguments: Arguments, numbers: Numbers, kind: str
) -> HypergradientState:
    """The state after an update whose gradient corrects the rate of the last step."""
    updates = arguments["updates"]
    gradient = given("grad", arguments, "hypergradient")
    agreement = inner(state.direction, gradient)
    if kind == "multiplicative":
        own = _of_group(updates, gradient)
        cosine = _over(agreement, _norm(state.direction) * _norm(own))
        changed = state.rate * (1 + numbers["hyper_rate"] * cosine)
    else:
        changed = state.rate + numbers["hyper_rate"] * agreement
    sound = jnp.isfinite(changed) & jnp.isfinite(agreement) & jnp.isfinite(square(updates))
    direction = jax.tree.map(
        lambda last, update: jnp.where(sound, update.astype(last.dtype), last),
        state.direction,
        updates,
    )
    rate = jnp.where(sound, jnp.maximum(changed, 0), state.rate)
    return HypergradientState(rate, direction)


def _tried(state: HdmState, arguments: Arguments, numbers: Numbers) -> tuple[jax.Array, HdmState]:
    """The rate of this update, or 0, and the state with the rate of the next one."""
    params = given("params", arguments, "hypergradient")
    here = measured("value", arguments, "hypergradient")
    updates, gradient = arguments["updates"], given("grad", arguments, "hypergradient")
    steps = jax.tree.map(lambda update: -state.rate.astype(update.dtype) * update, updates)
    reached = optax.apply_updates(params, steps)
    there = jnp.asarray(given("value_fn", arguments, "hypergradient")(reached), here.dtype)
    beyond = given("grad_fn", arguments, "hypergradient")(reached)
    # The authors divide by the squared norm of the gradient. For plain gradients this product is
    # the same. It makes the correction independent of the scale of the updates.
    scale = _norm(gradient) * _norm(updates)
    slope = _over(inner(updates, beyond), scale)
    squares = state.squares + slope**2
    changed = state.rate + numbers["hyper_rate"] * _over(slope, jnp.sqrt(squares))
    reachable = jnp.isfinite(there) & jnp.isfinite(squares)
    tried = HdmState(
        rate=jnp.where(reachable, jnp.maximum(changed, 0), state.rate / 2),
        squares=jnp.where(reachable, squares, state.squares),
    )
    sound = jnp.isfinite(here) & jnp.isfinite(scale)
    after = jax.tree.map(lambda then, old: jnp.where(sound, then, old), tried, state)
    return jnp.where(sound & (there < here), state.rate, 0), after


def _of_group(own: Params, tree: Params) -> Params:
    """`tree` without the leaves that `optax.masked` left out of `own`."""
    return jax.tree.map(
        lambda mask, leaf: mask if is_masked(mask) else leaf, own, tree, is_leaf=is_masked
    )


def _norm(tree: Params) -> jax.Array:
    return jnp.sqrt(square(tree))


def _over(agreement: jax.Array, scale: jax.Array) -> jax.Array:
    """The quotient; 0 where the scale is 0."""
    return jnp.where(scale == 0, 0, agreement / jnp.where(scale == 0, 1, scale))
