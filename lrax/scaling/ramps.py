"""`batch_ramp`: a batch that grows, in place of a rate that decays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..schedules.pieces import from_values
from ..schedules.schedule import Schedule, as_schedule

# The power of the batch by which the rate grows: `linear` and `sqrt`.
POWERS = {"sgd": 1.0, "adam": 0.5}


class BatchRamp(NamedTuple):
    """What `batch_ramp` returns: what each update of the new run uses.

    Attributes:
      schedule: The rates, a `Schedule` of the update count.
      batches: The batch size of each update, whole numbers of shape `[updates]`.
      examples: The examples seen before each update, of shape `[updates]`.
    """

    schedule: Schedule
    batches: np.ndarray
    examples: np.ndarray


def batch_ramp(
    schedule: Any,
    *,
    steps: int,
    batch: int,
    max_batch: int,
    optimizer: str = "adam",
    multiple: int = 1,
) -> BatchRamp:
    r"""Turns the decay of a rate into a growth of the batch: fewer updates, the same examples.

    $$B = \text{batch} \cdot \frac{\text{peak}}{\eta}, \qquad
      \eta' = \eta \left(\frac{B}{\text{batch}}\right)^p, \qquad p = 1 \text{ or } \frac{1}{2}$$

    where $\eta$ is the rate of `schedule` after the same number of examples. For SGD p is 1: the
    rate stays at its peak while the batch grows. For Adam p is 1/2, as in Seesaw: where the
    schedule would halve the rate, the batch doubles and the rate falls by the square root of 2.
    Then rate / batch for SGD, and rate / sqrt(batch) for Adam, follow the old decay. So each
    example moves the parameters as far as before, and brings as much noise.

    Use it where larger batches cost no more time, as on more devices: a cosine that ends at a
    quarter of its period needs 36% fewer updates. During a warmup, up to the peak, the batch stays.
    Batches are rounded down to `multiple`, and the last one takes the examples that are left. The
    rate of each update makes up for the rounding: it is the mean of the old rates over the examples
    of the batch, times (B / batch)^p. Where `max_batch` is reached, the rate decays again.

    The ramp stops being valid above the critical batch, `lrax.probes.critical_batch`: set
    `max_batch` to that. The critical batch grows during training, so measure it late. Both
    equivalences are for a rate that is small against the limit of stability. The one
    for Adam is proved for normalised SGD while the gradient is mostly noise; a batch that grows
    faster than here can make Adam diverge. Momentum and betas are kept, so they average over more
    examples as the batch grows. Then the new run follows the old one less closely.

    Args:
      schedule: The rates of the run with a fixed batch: a `Schedule`, or a function of the count.
      steps: The updates of that run, at least 1.
      batch: The batch size of that run, at least 1, and a multiple of `multiple`.
      max_batch: The largest batch, at least `batch`, in examples.
      optimizer: "sgd", with or without momentum, or "adam", for others that normalise too.
      multiple: What batches are a multiple of, such as the number of devices.

    Returns:
      A `BatchRamp` of `schedule`, `batches` and `examples`, for `len(batches)` updates. The batches
      add up to `steps * batch` examples.

    Raises:
      ValueError: if a number is out of its range, `optimizer` is unknown, or a rate of `schedule`
        is negative or not finite, all rates are 0, or `schedule` has lanes.
      TypeError: if an argument is not as described, or traced.

    Example:
      >>> quarters = lrax.step_decay(init=0.4, step_size=4, factor=0.25)
      >>> ramp = lrax.scaling.batch_ramp(quarters, steps=12, batch=64, max_batch=256)
      >>> ramp.batches
      array([ 64,  64,  64,  64, 256, 256])
      >>> ramp.schedule.values(6)
      Array([0.4 , 0.4 , 0.4 , 0.4 , 0.2 , 0.05], dtype=float32)

    Reference:
      Smith et al., "Don't decay the learning rate, increase the batch size", arXiv 1711.00489;
      Meterez et al., "Seesaw", arXiv 2510.14717.
    """
    steps = _require.count("steps", steps, 1)
    batch = _require.count("batch", batch, 1)
    max_batch = _require.count("max_batch", max_batch, 1)
    multiple = _require.count("multiple", multiple, 1)
    _require.choice("optimizer", optimizer, POWERS)
    _require.at_most("`batch` must be at most `max_batch`", batch, max_batch)
    if batch % multiple:
        raise ValueError(f"`batch` must be a multiple of `multiple`, got {batch} and {multiple}")
    rates = _rates(schedule, steps)
    batches = _batches(rates, batch, max_batch, multiple)
    ends = np.cumsum(batches)
    # The sum of old rates up to any example. Between two old updates it grows linearly.
    sums = np.concatenate([[0.0], np.cumsum(rates)])
    passed = np.interp(ends / batch, np.arange(steps + 1), sums)
    old_updates = batches / batch
    means = np.diff(passed, prepend=0.0) / old_updates
    return BatchRamp(
        schedule=from_values(np.maximum(means, 0.0) * old_updates ** POWERS[optimizer]),
        batches=batches,
        examples=ends - batches,
    )


def _rates(schedule: Any, steps: int) -> np.ndarray:
    values: ArrayLike = as_schedule(schedule).values(steps)
    if isinstance(values, Tracer):
        raise TypeError("`schedule` must have concrete numbers, got a traced one")
    rates = np.asarray(values, np.float64)
    if rates.shape != (steps,):
        raise ValueError(
            f"`schedule` must have one rate for each update, got shape {rates.shape} for"
            f" {steps} updates"
        )
    if not np.all((rates >= 0) & (rates < np.inf)) or not rates.any():
        raise ValueError(
            "`schedule` must have finite and non-negative rates, one of them above 0, got"
            f" {rates.min()} to {rates.max()}"
        )
    return rates


def _batches(rates: np.ndarray, batch: int, max_batch: int, multiple: int) -> np.ndarray:
    """The batch of each update, from the old rate at its first example."""
    top = int(rates.argmax())
    with np.errstate(divide="ignore", over="ignore"):
        growth = np.where(np.arange(len(rates)) <= top, 1.0, rates[top] / rates)
    # Rates in single precision are not exact: half of the peak may be a bit more.
    wanted = np.minimum(growth * batch * (1 + 1e-6), max_batch)
    sizes = (wanted // multiple * multiple).astype(np.int64).tolist()
    found: list[int] = []
    done = 0
    total = len(sizes) * batch
    while done < total:
        found.append(min(sizes[done // batch], total - done))
        done += found[-1]
    return np.asarray(found, np.int64)
