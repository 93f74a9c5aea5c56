"""The numbers of a method: what they must be, and the rate that multiplies the estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import numpy as jnp

from .. import _require
from ..rate.rule import one_rate
from ..schedules.schedule import Schedule, as_schedule

Numbers = dict[str, Any]  # float scalars, or tracers
Rate = optax.ScalarOrSchedule | Schedule


def rate_of(lr: Rate) -> Callable[[jax.Array], jax.Array]:
    """The function of the count that `lr` stands for, whose values are float scalars."""
    schedule = as_schedule(lr, "lr")
    if not callable(lr):
        one_rate(schedule.hyperparams["value"], "lr")

    def rate(count: jax.Array) -> jax.Array:
        return one_rate(jnp.asarray(schedule(count), _require.float_dtype()), "lr")

    return rate


def in_use(state: Any, rate: jax.Array) -> jax.Array:
    """The rate of this update: what `lrax.set_lr` holds in the state, else `rate`."""
    return jnp.where(state.held, state.learning_rate, rate)
