"""`critical`: a fraction of the smallest rate that would raise the loss of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..probes.critical_rate import critical_rate
from ..rate.rule import RateRule
from .calls import call_text
from .masks import require_whole
from .measurements import Arguments, freshness, given, require_name

Params = Any
Argument = Any  # an extra argument of `update`


class CriticalState(NamedTuple):
    """State of `critical`; every field has the shape ()."""

    critical: jax.Array  # float32: the smoothed critical rate
    last: jax.Array  # float32: the last measured rate, where the next search starts
    measured: jax.Array  # bool: whether there has been a usable measurement


def critical(
    guess: ArrayLike = 1.0,
    *,
    fraction: ArrayLike = 0.1,
    every: ArrayLike | str = 20,
    decay: ArrayLike = 0.5,
) -> RateRule:
    r"""A fraction of the critical rate, which is measured again every `every` updates.

    $$\eta = \text{fraction} \cdot \eta_c, \qquad
      \eta_c = \min \{\eta > 0 : L(\theta - \eta u) > L(\theta)\}$$

    $L$ is the loss of this update's batch at the parameters $\theta$, and $u$ is the update before
    the rate multiplies it, such as Adam's direction. Measurements are averaged:
    $\log \eta_c \leftarrow \text{decay} \log \eta_c + (1 - \text{decay}) \log \eta_c^\text{new}$.

    Use it where no rate is known, or where an optimizer's updates have an unknown scale. Multiply
    it with a schedule that decays to 0: `lrax.cosine(1.0, steps) * critical()`. The critical rate
    is small at initialisation and grows, so the rate warms up by itself. The defaults trained small
    networks with SGD and with Adam, but not as well as a swept rate. On a small tabular data set
    they ended at 74 times the loss of a swept rate without a schedule that decays, and at 6.5 times
    with a cosine (`python -m tests.benchmarks.controllers`).

    For gradient descent on the whole data and a quadratic loss, `fraction=0.5` with `every=1` and
    `decay=0` goes to the minimum along each update. If such a rate is kept for several updates,
    training diverges where curvatures differ much. With `fraction=0.5` training also diverges on
    small batches, because an update lowers the loss of its own batch most.

    A measurement evaluates the loss 5 to 9 times. In a loop for one run, let `every` be a number.
    In a sweep, all lanes run in one program, and a branch on a lane's own count would measure in
    every update. There let `every` be the name of a signal. The rule then measures when the run
    measures the signal, as in `critical(every="probe")` with
    `signals={"probe": lrax.every(20, lambda params: 0.0)}`.

    Args:
      guess: The critical rate from which the first search starts, above 0. A guess that is off by a
        factor of 100 costs the first search 4 more evaluations of the loss.
      fraction: The rate, as a fraction of the critical rate, at least 0.
      every: Updates between two measurements, at least 1; or the name of a signal of the run. The
        rule then measures in each update in which the signal is new.
      decay: Weight of the earlier measurements, at least 0 and below 1.

    Returns:
      A `RateRule` whose rate is absolute. `update` needs `params` and `value_fn`, the loss of this
      batch as a function of the parameters. A run gives both. A measurement that is 0, infinite or
      NaN is dropped. Every number may be traced, so a sweep can vary it.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array.
      TypeError: if an argument is not of its type, `update` lacks an argument, or some parameters
        are left out by `optax.masked` or `optax.partition`: the loss cannot be evaluated on the
        rest.

    Example:
      >>> optimizer = lrax.scale_by_lr(lrax.controllers.critical(fraction=0.5))
      >>> loss = lambda params: 2.0 * jnp.sum(params**2)
      >>> params = jnp.array([1.0, -1.0])
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update(jax.grad(loss)(params), state, params, value_fn=loss)
      >>> bool(abs(lrax.get_lr(state) - 0.25) < 0.03)
      True

    Reference:
      Kalra and Barkeshli, "Why warmup the learning rate?", 2024, arXiv:2406.09405; "A scalable
      measure of loss landscape curvature", 2026, arXiv:2601.16979.
    """
    numbers = _require.scalars(guess=guess, fraction=fraction, decay=decay)
    _require.positive(numbers, "guess")
    _require.nonnegative(numbers, "fraction")
    _require.below_one(numbers, "decay")
    due = _cadence(every)

    def init(params: Params) -> CriticalState:
        require_whole(params, "critical")
        start = jnp.asarray(numbers["guess"], _require.float_dtype())
        return CriticalState(critical=start, last=start, measured=jnp.zeros([], jnp.bool_))

    def rate(
        count: jax.Array, state: CriticalState, /, **arguments: Argument
    ) -> tuple[jax.Array, CriticalState]:
        params = given("params", arguments, "critical")
        loss = given("value_fn", arguments, "critical")
        downhill = jax.tree.map(jnp.negative, arguments["updates"])

        def measure(state: CriticalState) -> CriticalState:
            found = critical_rate(loss, params, downhill, guess=state.last).rate.astype(
                state.last.dtype
            )
            usable = jnp.isfinite(found) & (found > 0)
            weight = jnp.where(state.measured, numbers["decay"], 0)
            old, new = jnp.log(state.critical), jnp.log(jnp.where(usable, found, 1))
            mean = jnp.exp(weight * old + (1 - weight) * new)
            return CriticalState(
                critical=jnp.where(usable, mean, state.critical),
                last=jnp.where(usable, found, state.last),
                measured=state.measured | usable,
            )

        state = lax.cond(due(count, arguments), measure, lambda state: state, state)
        return numbers["fraction"] * state.critical, state

    name = call_text("controllers.critical", critical, {**numbers, "every": every})
    return RateRule(init, rate, lambda state: numbers["fraction"] * state.critical, name)


def _cadence(every: ArrayLike | str) -> Callable[[jax.Array, Arguments], jax.Array]:
    """Whether a measurement is due, as a function of the count and the arguments of `update`."""
    if isinstance(every, str):
        require_name(every, "every")
        return lambda _, arguments: freshness(every, arguments, "critical")
    numbers = _require.scalars(every=every)
    _require.at_least(numbers, 1, "every")
    return lambda count, _: count % jnp.round(numbers["every"]).astype(jnp.int32) == 0
