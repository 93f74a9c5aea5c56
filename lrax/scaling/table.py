"""`table`: which parameters a tree of multipliers scales, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..display import tables
from .parameters import Parameters, Tree, parameters

Multipliers = Any  # a pytree of numbers
Group = Callable[[str], str]


def table(
    multipliers: Multipliers,
    params: Tree,
    *,
    group: Group | None = None,
    lr: ArrayLike | None = None,
) -> str:
    """A tree of multipliers as a text table: group, multiplier, rate, arrays, parameters.

    A group whose arrays have several multipliers gets a line for each. Use it before training, to
    see that a decay has an effect, and on which parameters.

    Args:
      multipliers: Any tree for `lrax.scale_by_multipliers`: a number for each parameter, or for
        each subtree.
      params: The parameters, or their shapes as `jax.eval_shape` returns them.
      group: Function from the path of a parameter, such as `"block_0/mlp/kernel"`, to the name of
        its group. By default, the group is the path's first part.
      lr: The rate at a multiplier of 1, a scalar of at least 0. With it, the table has the rate of
        each group.

    Returns:
      The table. Print it.

    Raises:
      ValueError: if `multipliers` does not have the structure of `params` or a prefix of it, a
        multiplier or `lr` is negative or not finite, or `params` has no leaf.
      TypeError: if an argument is not as described.

    Example:
      >>> params = {"block_0": {"w": jnp.ones((4, 4)), "b": jnp.ones(4)}, "head": jnp.ones((4, 2))}
      >>> print(lrax.scaling.table({"block_0": 0.5, "head": 1.0}, params, lr=3e-4))
        group  multiplier     rate  arrays  parameters  such as
      block_0         0.5  0.00015       2          20  block_0/b
         head           1   0.0003       1           8  head
    """
    found = parameters("params", params)
    if group is not None and not callable(group):
        raise TypeError(f"`group` must be a function of a parameter's path, got {group!r}")
    labels = []
    for path in found.paths:
        label = path.split("/")[0] if group is None else group(path)
        if not isinstance(label, str):
            raise TypeError(f"`group` must return a string for {path!r}, got {label!r}")
        labels.append(label)
    try:
        spread = jax.tree.map(
            lambda factor, below: jax.tree.map(lambda _: factor, below), multipliers, params
        )
    except ValueError as error:
        raise ValueError(
            "`multipliers` must have the structure of `params` or a prefix of it, got"
            f" {jax.tree.structure(multipliers)} for {found.structure}"
        ) from error
    factors = [_require.real(multipliers=factor) for factor in jax.tree.leaves(spread)]
    for factor in factors:
        _require.nonnegative(factor, "multipliers")
    return lines(labels, [factor["multipliers"] for factor in factors], found, lr)


def lines(
    labels: Sequence[str], factors: Sequence[Any], found: Parameters, lr: ArrayLike | None
) -> str:
    """A line for each pair of a label and a multiplier, in the order of their first arrays."""
    rate = {} if lr is None else _require.scalars(lr=lr)
    if rate:
        _require.nonnegative(rate, "lr")
    together: dict[tuple[str, str], list[int]] = {}
    for i, (label, factor) in enumerate(zip(labels, factors, strict=True)):
        together.setdefault((label, text(factor)), []).append(i)
    rows = [["group", "multiplier", *["rate"] * len(rate), "arrays", "parameters", "such as"]]
    for (label, factor), places in together.items():
        size = sum(found.sizes[i] for i in places)
        cells = [label, factor]
        if rate:
            cells.append(text(rate["lr"] * factors[places[0]]))
        rows.append([*cells, str(len(places)), f"{size:,}", found.paths[places[0]]])
    return tables.aligned(rows)


def text(factor: Any) -> str:
    """A number as text, an array as its range, a traced value as "traced"."""
    if isinstance(factor, Tracer):
        return "traced"
    low, high = np.min(factor), np.max(factor)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
