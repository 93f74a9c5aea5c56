"""Schedules with random noise, which is a function of the key and the count alone."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp, random
from jax.lax import erf, erf_inv
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .counts import reached
from .schedule import Schedule, Static, as_schedule


def with_noise(
    schedule: Any,
    key: ArrayLike,
    *,
    std: ArrayLike = 1.0,
    limit: ArrayLike = 0.67,
    kind: str = "normal",
    begin: ArrayLike = 0,
    until: ArrayLike | None = None,
) -> Schedule:
    r"""A schedule times a random factor, drawn anew at every step.

    $$\eta(t) = \eta_0(t) \, (1 + n_t), \quad \text{begin} \le t < \text{until}$$

    where $n_t$ is normal with standard deviation `std`, truncated to `±limit`, or uniform between
    `-limit` and `limit`. Use it to escape sharp minima in small-data training. The noise depends on
    the key and the count alone. So a resumed run sees the noise of the uninterrupted one, and each
    lane of a sweep may have a key of its own.

    Args:
      schedule: A `Schedule`, number or function of the count.
      key: A seed, or a key of `jax.random`, or an array of such keys, one per lane. A key is stored
        as four floats, each with 16 bits of the key, so that it is a leaf like any other.
      std: Standard deviation of the normal noise before truncation, above 0. Uniform noise does
        not use it.
      limit: Largest change of the rate, as a fraction of the rate, from 0 to 1.
      kind: `"normal"` or `"uniform"`.
      begin: Index of the first update with noise, at least 0.
      until: Index of the first update after the noise, at least 0; `None` is noise without end.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or `kind` is unknown.
      TypeError: if `key` is neither a seed nor a key.

    Example:
      >>> line = lrax.linear(init=1.0, end=0.0, steps=10)
      >>> schedule = lrax.with_noise(line, 0, limit=0.1, begin=2)
      >>> noisy = schedule.values(10) / lrax.linear(init=1.0, end=0.0, steps=10).values(10)
      >>> noisy[:2], bool(jnp.all(abs(noisy - 1) <= 0.1 + 1e-6)), len(set(noisy[2:].tolist()))
      (Array([1., 1.], dtype=float32), True, 8)

    Reference:
      Neelakantan et al. Adding Gradient Noise Improves Learning for Very Deep Networks. 2015,
      arXiv:1511.06807 (noise on the gradient; noise on the rate is known from timm).
    """
    hyperparams = _require.real(std=std, limit=limit, begin=begin)
    _require.positive(hyperparams, "std")
    _require.nonnegative(hyperparams, "limit", "begin")
    _require.at_most(
        "`limit` must be at most 1", hyperparams["limit"], np.ones((), _require.float_dtype())
    )
    _require.choice("kind", kind, ("normal", "uniform"))
    if until is not None:
        hyperparams |= _require.real(until=until)
        _require.nonnegative(hyperparams, "until")
    hyperparams |= {"key": _words(key), "until": hyperparams.get("until"), "kind": Static(kind)}
    return Schedule(_with_noise, {"schedule": as_schedule(schedule), **hyperparams})


@builder(with_noise, landmarks=landmarks.children, ranks={"key": 1})
def _with_noise(count, schedule, key, std, limit, kind, begin, until):
    # timm draws normal numbers until one falls between the limits. The inverse error function maps
    # a single uniform number to the same distribution.
    x = _uniform(jnp.maximum(count, 0), key)
    noise = (
        limit * x
        if kind == "uniform"
        else std * np.sqrt(2) * erf_inv(x * erf(limit / (std * np.sqrt(2))))
    )
    noisy = reached(count, begin)
    if until is not None:
        noisy = noisy & ~reached(count, until)
    return schedule(count) * (1 + jnp.where(noisy, noise, 0))


def _uniform(count, key):
    """Numbers strictly between -1 and 1, one per count; the same under x64."""
    words = jnp.asarray(key).astype(jnp.uint32)
    whole = random.wrap_key_data((words[0::2] << 16) | words[1::2], impl="threefry2x32")
    keys = jax.vmap(random.fold_in, in_axes=(None, 0))(whole, count.ravel().astype(jnp.uint32))
    drawn = jax.vmap(lambda key: random.uniform(key, (), jnp.float32))(keys).reshape(count.shape)
    # A float32 drawn from [0, 1) is a multiple of 2^-23. So the result is symmetric around 0, and
    # never 1 or -1, where `erf_inv` may be infinite.
    return (2 * drawn - (1 - 2.0**-23)).astype(_require.float_dtype())


def _words(key: Any) -> Any:
    """A key as four floats with 16 of its bits each: a leaf to store and map, with gradient 0."""
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if "threefry" not in str(random.key_impl(key)):
            raise ValueError(f"`key` must be a threefry key, got {random.key_impl(key)}")
        return _halves(jnp, random.key_data(key))
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not 0 <= key < 2**64:
            raise ValueError(f"`key` must be a seed from 0 to 2^64 - 1, got {key}")
        return _halves(np, np.array([int(key) >> 32, int(key) & 0xFFFFFFFF], np.uint32))
    if getattr(key, "dtype", None) == np.uint32 and np.shape(key) == (
        2,
    ):  # a key of JAX's old style
        return _halves(jnp if isinstance(key, jax.Array) else np, key)
    words = _require.real(key=key)["key"]
    if np.shape(words)[-1:] != (4,):
        raise TypeError(f"`key` must be a seed or a key of jax.random, got {key!r}")
    return words


def _halves(of: Any, words: Any) -> Any:
    first, second = words[..., 0], words[..., 1]  # lanes of keys have axes in front
    halves = of.stack([first >> 16, first & 0xFFFF, second >> 16, second & 0xFFFF], axis=-1)
    return halves.astype(np.float64 if of is np else _require.float_dtype())
