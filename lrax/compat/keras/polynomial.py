"""Keras' polynomial decay."""

from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.decays import polynomial
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import power as raised, progress
from ..arguments import numbers, where


def PolynomialDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    end_learning_rate: ArrayLike = 0.0001,
    power: ArrayLike = 1.0,
    cycle: bool = False,
    name: str = "PolynomialDecay",
) -> Schedule:
    r"""A power of the part left.

    It is `lrax.polynomial`, or with `cycle` a sawtooth of ever longer and lower teeth.

    $$\eta(t) = \text{end} + (\text{init} - \text{end})
    \left(1 - \frac{t}{n \cdot \text{decay\_steps}}\right)^{\text{power}},
    \quad n = \max(\lceil t / \text{decay\_steps} \rceil, 1)$$

    The tooth $n$ is the end of a decay over $n$ times `decay_steps`; its last update is at
    `end_learning_rate`, and the next one jumps up. The `power` 0 holds the initial rate.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      decay_steps: Length of the decay, or of a tooth, in optimizer updates, above 0.
      end_learning_rate: Rate at the end, at least 0.
      power: Exponent of the part left, at least 0.
      cycle: Whether to go on with teeth.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.
      TypeError: if `cycle` is not a bool.

    Example:
      >>> lrax.compat.keras.PolynomialDecay(0.1, decay_steps=90, end_learning_rate=0.01)
      polynomial(init=0.1, end=0.01, steps=90, power=1)
      >>> schedule = lrax.compat.keras.PolynomialDecay(1.0, 4, end_learning_rate=0.0, cycle=True)
      >>> print(schedule.values(9).round(3))
      [1. 0.75 0.5 0.25 0. 0.375 0.25 0.125 0. ]
    """
    del name
    given = numbers(initial_learning_rate=initial_learning_rate, decay_steps=decay_steps)
    given |= numbers(end_learning_rate=end_learning_rate, power=power)
    _require.nonnegative(given, "initial_learning_rate", "end_learning_rate", "power")
    _require.positive(given, "decay_steps")
    if _require.flag("cycle", cycle):
        return Schedule(_PolynomialDecay, {**_require.real(**given), "cycle": Static(True)})
    init, some = given["initial_learning_rate"], given["power"] > 0
    end = where(some, given["end_learning_rate"], init)
    return polynomial(init, end, given["decay_steps"], where(some, given["power"], 1))


@builder(PolynomialDecay, name="compat.keras.PolynomialDecay")
def _PolynomialDecay(count, initial_learning_rate, decay_steps, end_learning_rate, power, cycle):  # noqa: ARG001
    count = jnp.maximum(real(count), 0)
    # A remainder is exact, where a quotient may be rounded to the next tooth.
    before, into = jnp.divmod(count, decay_steps)
    teeth = lax.stop_gradient(jnp.maximum(jnp.where(into > 0, before + 1, before), 1))
    left = jnp.where((into > 0) | (count == 0), decay_steps - into, 0)
    _, left = progress(count, left, decay_steps * teeth)
    weight = raised(left, power)
    return initial_learning_rate * weight + end_learning_rate * (1 - weight)
