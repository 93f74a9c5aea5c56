"""`matching_rate`: the rate of one optimizer whose updates are as large as those of another."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..probes.groups import Group, grouped, ungrouped
from ..probes.losses import real_tree, same_shapes, widened

Tree = Any
ByGroup = Any  # a scalar, or {group: scalar}
Optimizer = Callable[..., optax.GradientTransformation] | optax.GradientTransformation


def matching_rate(
    optimizer_a: Optimizer,
    optimizer_b: Optimizer,
    params: Tree,
    gradients: Tree,
    rate: ArrayLike,
    *,
    skip: int | None = None,
    group: Group | None = None,
) -> ByGroup:
    r"""The rate at which `optimizer_b` makes updates as large as `optimizer_a` makes at `rate`.

    $$\text{rate} \cdot \frac{\mathrm{RMS}(u_a)}{\mathrm{RMS}(u_b)}$$

    where both optimizers run at `rate` on the same gradients, and the RMS is over the parameters
    and the later steps. Use it for a first rate after a change of the optimizer, such as from
    AdamW to Muon or Lion, and as the middle of a search. Record some 20 to 100 gradients of a
    training run, after its warmup, so that the moving averages of both optimizers settle.

    The match is exact for optimizers whose updates are proportional to the rate: SGD, momentum,
    Adam, RMSProp, Adagrad, Lion, Muon, Shampoo and others, with weight decay or without. It does
    not account for the direction of updates, so the best rate may differ by a factor of a few.
    There are further limits. For SGD and Adagrad, the answer is about this part of training alone:
    the updates of SGD shrink with the gradients, and those of Adagrad with time. With a
    signal-to-noise ratio that differs from that of the recorded gradients, as in another batch
    size, averages of gradients shrink by another factor. The parameters stay where they are, so
    weight decay pulls at `params`, and a schedule inside of an optimizer starts from its beginning.

    Args:
      optimizer_a: The optimizer whose rate is known. A function of the rate, its first parameter,
        such as `optax.adam`. Or a transformation without a rate, such as `optax.scale_by_adam()`:
        its updates are multiplied by the rate.
      optimizer_b: The optimizer whose rate is wanted, in one of the same two forms.
      params: The parameters, any pytree of floating-point arrays.
      gradients: A tree like `params`, with one more axis in front of each leaf: one gradient for
        each step.
      rate: The rate of `optimizer_a`, a scalar above 0.
      skip: How many steps at the beginning are not measured, from 0 to one less than there are. By
        default half of them, rounded down.
      group: Function from the path of a parameter, such as `"block_0/mlp/kernel"`, to the name of
        its group. By default all parameters form one group.

    Returns:
      The rate of `optimizer_b`, a scalar of JAX; with `group`, `{group: rate}`.

    Raises:
      ValueError: if `rate` is not positive, `skip` leaves no step, `gradients` do not have the
        shapes of `params` after the axis of steps, or an optimizer does not move a group. When
        traced, the rate of such a group is NaN or infinite.
      TypeError: if an argument is not as described.

    Example:
      >>> params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
      >>> gradients = jax.tree.map(lambda leaf: jnp.full((40, *leaf.shape), 0.01), params)
      >>> rate = lrax.scaling.matching_rate(optax.sgd, optax.lion, params, gradients, 0.1)
      >>> print(f"{rate:.4f}")
      0.0010

    Reference:
      For Muon and AdamW: Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982, where
      the RMS of AdamW's updates is 0.2 to 0.4 of its rate.
    """
    params = real_tree("params", params)
    gradients = same_shapes("gradients", gradients, params, lead=1)
    steps = jax.tree.leaves(gradients)[0].shape[0]
    if not steps:
        raise ValueError("`gradients` must have at least one step, got an axis of length 0")
    skipped = steps // 2 if skip is None else _require.count("skip", skip, 0, steps - 1)
    values = _require.scalars(rate=rate)
    _require.positive(values, "rate")
    optimizers = (("optimizer_a", optimizer_a), ("optimizer_b", optimizer_b))
    for name, optimizer in optimizers:
        _require_optimizer(name, optimizer)
    sizes = grouped(jax.tree.map(jnp.size, params), group)
    sums = [
        _squares(name, optimizer, skipped, params, gradients, values["rate"])
        for name, optimizer in optimizers
    ]
    squares = [
        {name: sum(leaves) for name, leaves in grouped(each, group).items()} for each in sums
    ]
    rates = {}
    for name, counts in sizes.items():
        a, b = (jnp.sqrt(each[name] / (sum(counts) * (steps - skipped))) for each in squares)
        if not isinstance(a, Tracer) and not (0 < a < np.inf and 0 < b < np.inf):
            where = f" of the group {name!r}" if name else ""
            raise ValueError(
                "`gradients` must be such that both optimizers move the parameters by finite"
                f" updates, got updates{where} of RMS {a} and {b}"
            )
        rates[name] = jnp.asarray(values["rate"], a.dtype) * (a / b)
    return ungrouped(rates, group)


# Optimizers are static: a second call with the same ones compiles nothing.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _squares(
    name: str, optimizer: Optimizer, skipped: int, params: Tree, gradients: Tree, rate: jax.Array
) -> Tree:
    """The sum of the squares of the updates of each parameter, over the steps that count."""
    made = _made(name, optimizer, rate) if callable(optimizer) else optimizer
    scale = 1.0 if callable(optimizer) else rate

    def step(state: optax.OptState, gradient: Tree) -> tuple[optax.OptState, Tree]:
        updates, state = made.update(gradient, state, params)
        return state, jax.tree.map(lambda leaf: jnp.sum(jnp.square(leaf)), widened(updates))

    _, squares = lax.scan(step, made.init(params), gradients)
    return jax.tree.map(lambda leaf: scale**2 * jnp.sum(leaf[skipped:]), squares)


def _made(
    name: str, optimizer: Callable[..., Any], rate: jax.Array
) -> optax.GradientTransformation:
    found = optimizer(rate)
    if not _is_transformation(found):
        raise TypeError(f"`{name}` must return an optax.GradientTransformation, got {found!r}")
    return found


def _require_optimizer(name: str, optimizer: Any) -> None:
    if not callable(optimizer) and not _is_transformation(optimizer):
        raise TypeError(
            f"`{name}` must be a function of the rate, such as `optax.adam`, or an"
            f" optax.GradientTransformation, got {optimizer!r:.80}"
        )


def _is_transformation(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("init", "update"))
