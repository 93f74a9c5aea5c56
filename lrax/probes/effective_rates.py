"""`effective_rates`: the rate of each parameter under an adaptive optimizer."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.access import applied
from ..rate.nodes import groups
from .groups import Group, grouped, ungrouped
from .second_moments import Path, Read, checked, merged, read

Tree = Any
ByGroup = Any  # a scalar, or {group: scalar}


class EffectiveRates(NamedTuple):
    """What `effective_rates` returns. All but `rates` are a scalar, or `{group: scalar}`."""

    rates: Tree  # like the parameters: these multiply the optimizer's direction
    median: ByGroup  # of `rates`
    low: ByGroup  # the lower of the two quantiles of `rates`
    high: ByGroup  # the higher one
    ratio: ByGroup  # the median of `rates` divided by the plain rate
    warmup: ByGroup  # the factor that bias correction puts on the update


def effective_rates(
    opt_state: optax.OptState,
    rate: ArrayLike | None = None,
    *,
    group: Group | None = None,
    quantiles: tuple[float, float] = (0.05, 0.95),
    b1: ArrayLike | None = None,
    b2: ArrayLike | None = None,
    eps: ArrayLike | None = None,
    eps_root: ArrayLike | None = None,
    consistent_rms: ArrayLike | None = None,
) -> EffectiveRates:
    r"""The rate of each parameter under an adaptive optimizer, and its quantiles by group.

    $$\text{rates}_i = \frac{\text{rate}}{\sqrt{\hat\nu_i + \text{eps\_root}} + \text{eps}}, \qquad
      \text{update}_i = -\text{rates}_i \, \hat m_i$$

    in the case of Adam, where $\hat m$ and $\hat\nu$ are the bias-corrected means of the gradients
    and of their squares. Use it to see which rate a layer really has, and to compare it with a rate
    of SGD. It also shows parameters whose gradients vanish: their rates are enormous. The rates
    multiply the optimizer's direction:

    - Adam, AdamW, AMSGrad, AdaBelief: the bias-corrected mean. AdEMAMix, Adan: their mixture.
    - RMSProp, Adagrad: the gradient, before any momentum. NovoGrad: the gradient of this update.
    - Lion: the sign, so every rate is the plain rate.
    - Muon: the orthogonalised matrix. A rate is the plain rate times Optax's factor for the shape.

    Weight decay, trust ratios, clipping and `lrax.scale_by_multipliers` are not included. States
    are found under any nesting, and the limits of `lrax.probes.preconditioner` hold here too.

    For Adam, `warmup` is sqrt(1 - b2^t) / (1 - b1^t) after t updates. Bias correction multiplies
    the update by this factor. At the usual decays it is 0.32 in the first update, 0.15 near the
    tenth, and above 0.9 after 1700. So bias correction is a warmup that nobody asked for. For
    optimizers without bias correction, and for Adan, `warmup` is 1.

    It misleads if you read it as the length of a step. A high rate times a mean near zero is a
    short step. For lengths see `lrax.monitors.update_ratio`.

    Args:
      opt_state: An optimizer state, after at least one update. In a monitor: `step.opt_state`.
      rate: The plain rate of all parameters, a scalar of at least 0. By default it is read from the
        state as `lrax.get_lr` does, separately for each group of `optax.partition`.
      group: Function from the path of a parameter, such as `"block_0/mlp/kernel"`, to the name of
        its group. By default all parameters form one group.
      quantiles: The two quantiles of `low` and `high`, each from 0 to 1.
      b1: Decay of the first moment, from 0 to 1, used for `warmup` only. By default the value that
        `optax.inject_hyperparams` keeps in the state, or else Optax's default.
      b2: Decay of the second moment, from 0 to 1: `decay` of RMSProp and `b3` of Adan. By default
        as for `b1`.
      eps: A number added to the root, at least 0. By default as for `b1`.
      eps_root: A number added inside of the root, at least 0: `eps` of RMSProp and Adagrad. By
        default as for `b1`.
      consistent_rms: The argument of `optax.contrib.muon`, at least 0. By default as for `b1`.

    Returns:
      An `EffectiveRates` of `rates`, `median`, `low`, `high`, `ratio` and `warmup`. The quantiles
      are exact, which needs a sort of all parameters. Under `jax.jit`, fields that are not used
      cost nothing. Rates are NaN before the first update if the optimizer corrects a bias.

    Raises:
      ValueError: if the state is of no optimizer in the list above, the plain rate is neither given
        nor found, a state of Muon holds arrays that are not matrices, or a concrete number is out
        of its range.
      TypeError: if an argument is not as described.

    Example:
      >>> optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(0.01))
      >>> params = {"w": jnp.ones(3), "b": jnp.ones(1)}
      >>> grads = {"w": jnp.full(3, 0.1), "b": jnp.full(1, 2.0)}
      >>> _, state = optimizer.update(grads, optimizer.init(params), params)
      >>> found = lrax.probes.effective_rates(state, group=lambda path: path)
      >>> {name: round(float(median), 3) for name, median in found.median.items()}
      {'b': 0.005, 'w': 0.1}

      As a monitor:

      >>> task = lrax.tasks.diabetes()
      >>> adam = lambda rate: optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(rate))
      >>> median = lambda step: lrax.probes.effective_rates(step.opt_state).median
      >>> result = lrax.sweep(task, adam, [1e-3, 1e-2], steps=4, monitors={"median": median})
      >>> result.monitors["median"].shape
      (2, 1, 4)
    """
    given = checked(b1=b1, b2=b2, eps=eps, eps_root=eps_root, consistent_rms=consistent_rms)
    ranks = _quantiles(quantiles)
    found = read(opt_state, given)
    if not found:
        raise ValueError(
            "`opt_state` must hold second moments, or be one of Lion or Muon, got a state without"
            " any. With SGD every parameter has the plain rate, `lrax.get_lr(opt_state)`."
        )
    plain = _plain(opt_state, rate, found)
    each = list(zip(found, plain, strict=True))
    rates = merged([_over(rate, part.divisors) for part, rate in each])
    ratios = merged([_over(jnp.ones([]), part.divisors) for part in found])
    # One factor for each leaf of the parameters, so that the factors can be grouped.
    warmups = merged(
        [jax.tree.map(lambda _, part=part: part.warmup, part.divisors) for part in found]
    )
    flat = {name: _flat(leaves) for name, leaves in grouped(rates, group).items()}
    quantile = lambda rank: {name: jnp.quantile(values, rank) for name, values in flat.items()}
    ratio = {name: jnp.median(_flat(leaves)) for name, leaves in grouped(ratios, group).items()}
    warmup = {name: jnp.mean(jnp.stack(leaves)) for name, leaves in grouped(warmups, group).items()}
    summaries = (quantile(0.5), quantile(ranks[0]), quantile(ranks[1]), ratio, warmup)
    return EffectiveRates(rates, *(ungrouped(values, group) for values in summaries))


def _over(rate: jax.Array, divisors: Tree) -> Tree:
    return jax.tree.map(lambda divisor: rate.astype(divisor.dtype) / divisor, divisors)


def _flat(leaves: list[jax.Array]) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


def _quantiles(quantiles: Any) -> list[float]:
    ranks = [_require.number("quantiles", rank) for rank in _require.listed("quantiles", quantiles)]
    if len(ranks) != 2 or not all(0 <= rank <= 1 for rank in ranks):
        raise ValueError(f"`quantiles` must be two numbers from 0 to 1, got {quantiles!r}")
    return ranks


def _plain(opt_state: optax.OptState, rate: ArrayLike | None, found: list[Read]) -> list[jax.Array]:
    """The plain rate of each part."""
    if rate is not None:
        values = _require.real(rate=rate)
        if np.ndim(values["rate"]):
            raise ValueError(f"`rate` must be a scalar, got one of shape {np.shape(rate)}")
        _require.nonnegative(values, "rate")
        return [jnp.asarray(values["rate"], _require.float_dtype())] * len(found)
    try:
        known = list(groups(opt_state)[0].values())
    except ValueError:
        raise ValueError(
            "`rate` must be given: `opt_state` holds no learning rate. Or end the optimizer's chain"
            " with `lrax.scale_by_lr(rate)`."
        ) from None
    rates = []
    for part in found:
        # The rate that multiplies a part is in the same chain, and so in the same group of a
        # partition. Its path shares more keys with that of the part than the paths of other rates.
        shared = [_shared(part.path, group.path) for group in known]
        near = [group for group, length in zip(known, shared, strict=True) if length == max(shared)]
        if len(near) > 1:
            raise ValueError(
                f"`rate` must be given: {len(near)} learning rates in `opt_state` are as near"
                " to the same second moments"
            )
        rates.append(jnp.asarray(applied(near[0]), _require.float_dtype()))
    return rates


def _shared(one: Path, other: Path) -> int:
    """How many keys two paths share, from their beginnings."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
