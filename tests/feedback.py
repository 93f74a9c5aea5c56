"""Drives rules over rows of metrics."""

import jax
import numpy as np
from jax import numpy as jnp

import lrax


def rates_of(rule, metrics, name="value", **extra):
    """The rate of each update, in one scan over the metrics."""
    scan = jax.jit(lambda metrics, extra: scanned(rule, metrics, name, extra))
    return np.asarray(scan(jnp.asarray(metrics), extra))


def scanned(rule, metrics, name="value", extra=()):
    optimizer = lrax.scale_by_lr(rule)

    def body(state, given):
        metric, extra = given
        _, state = optimizer.update(jnp.ones(()), state, **{name: metric}, **dict(extra))
        return state, lrax.get_lr(state)

    return jax.lax.scan(body, optimizer.init(jnp.ones(())), (metrics, extra))[1]


def equals_recorded(make, settings, numbers_of, x64, precision=1e-12):
    """Requires that the rule of each recorded setting has the recorded rates.

    All settings are lanes of one program, in float64. A shorter record is filled up with its last
    metric, and what follows it is not compared.
    """
    longest = max(len(setting["metrics"]) for setting in settings)
    rows = []
    for setting in settings:
        metrics = [np.nan if metric is None else metric for metric in setting["metrics"]]
        rows.append(np.pad(metrics, (0, longest - len(metrics)), "edge"))
    numbers = [numbers_of(setting["keywords"]) for setting in settings]
    numbers = {name: np.array([float(n[name]) for n in numbers]) for name in numbers[0]}
    with x64:
        lanes = jax.vmap(lambda numbers, metrics: scanned(make(**numbers), metrics))
        rates = np.asarray(jax.jit(lanes)(numbers, np.array(rows)))
    for setting, lane in zip(settings, rates, strict=True):
        expected = setting["rates"]
        np.testing.assert_allclose(lane[: len(expected)], expected, rtol=precision)
