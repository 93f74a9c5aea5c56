"""`groups`: a multiplier for each group of parameters, by patterns of their paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, plain
from .parameters import Tree, parameters
from .patterns import caught
from .table import Multipliers, lines

OTHERS = "(others)"  # the group of the parameters that no pattern matches


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Groups:
    """What `groups` returns. It prints as a table: group, multiplier, rate, arrays, parameters.

    Attributes:
      tree: The multipliers, in the structure of the parameters: for `lrax.scale_by_multipliers`.
      names: The pattern that each parameter matched, in the same structure.
    """

    tree: Multipliers
    names: Tree
    _table: str

    def __str__(self) -> str:
        return self._table

    __repr__ = __str__


def groups(
    params: Tree, multipliers: Mapping[str, ArrayLike], *, lr: ArrayLike | None = None
) -> Groups:
    r"""A multiplier on the rate for each group of parameters, chosen by patterns of their paths.

    $$m_i = \text{multipliers}[p], \qquad p = \text{the first pattern found in the path of } i$$

    and 1 where no pattern is found. Use it to freeze a part with 0.0, or to give a new head a
    higher rate than a pretrained body. Print the result before training: it shows how many
    parameters each pattern catches.

    A pattern that catches nothing is an error, because a rate that was meant to differ would not.
    That includes a pattern whose parameters all match an earlier one. Mind that `"block_1"` is
    found in `"block_10/w"` too: write `"block_1/"`. Weight decay must come before the multipliers,
    as `optax.add_decayed_weights` in front of `lrax.scale_by_multipliers`: after them, a frozen
    part would still decay.

    Args:
      params: The parameters, or their shapes as `jax.eval_shape` returns them.
      multipliers: `{pattern: multiplier}`. A pattern is a regular expression, searched by
        `re.search` in the path of a parameter, such as `"block_0/mlp/kernel"`. The path is
        `jax.tree_util.keystr(path, simple=True, separator="/")`. A multiplier is a scalar of at
        least 0, and may be traced.
      lr: The rate at a multiplier of 1, a scalar of at least 0. With it, the printed table has the
        rate of each group.

    Returns:
      A `Groups` with the multipliers as `.tree`. Its leaves are Python floats if the multipliers
      are Python numbers.

    Raises:
      ValueError: if a pattern catches no parameter or is no regular expression, a multiplier or
        `lr` is negative, not finite or not a scalar, or there are no patterns or no parameters.
      TypeError: if an argument is not as described.

    Example:
      >>> params = {"body": {"w": jnp.ones((8, 8)), "b": jnp.ones(8)}, "head": jnp.ones((8, 2))}
      >>> groups = lrax.scaling.groups(params, {"^body/b": 0.0, "^body": 0.1}, lr=1e-3)
      >>> groups
         group  multiplier    rate  arrays  parameters  such as
       ^body/b           0       0       1           8  body/b
         ^body         0.1  0.0001       1          64  body/w
      (others)           1   0.001       1          16  head
      >>> optimizer = optax.chain(
      ...     optax.scale_by_adam(),
      ...     lrax.scale_by_multipliers(groups.tree),
      ...     lrax.scale_by_lr(1e-3),
      ... )
    """
    found = parameters("params", params)
    first = caught("multipliers", multipliers, "params", found.paths)
    if not multipliers:
        raise ValueError(f"`multipliers` must have at least one pattern, got {multipliers!r}")
    factors: dict[str, Number] = {OTHERS: 1.0}
    for pattern, factor in multipliers.items():
        name = f"multipliers[{pattern!r}]"
        values = _require.scalars(**{name: factor})
        _require.nonnegative(values, name)
        factors[pattern] = plain(values[name])
    names = [OTHERS if pattern is None else pattern for pattern in first]
    each = [factors[name] for name in names]
    return Groups(
        tree=found.structure.unflatten(each),
        names=found.structure.unflatten(names),
        _table=lines(names, each, found, lr),
    )
