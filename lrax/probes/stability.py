"""`max_stable_rate`: the largest rate at which an optimizer is stable on a quadratic loss."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from .states import parts

_FACTORS = {  # {kind: function of beta that returns the limit times the sharpness}
    "gd": lambda _: 2.0,
    "heavy_ball": lambda beta: 2 + 2 * beta,
    "nesterov": lambda beta: (2 + 2 * beta) / (1 + 2 * beta),
    "ema_momentum": lambda beta: (2 + 2 * beta) / (1 - beta),
}


def max_stable_rate(
    sharpness: ArrayLike, kind: str | optax.OptState = "gd", *, beta: ArrayLike | None = None
) -> jax.Array:
    r"""The largest rate at which an optimizer does not diverge on a quadratic loss.

    $$\frac{2}{\lambda}, \quad \frac{2 + 2\beta}{\lambda}, \quad
      \frac{2 + 2\beta}{(1 + 2\beta) \lambda}, \quad \frac{2 + 2\beta}{(1 - \beta) \lambda}$$

    for "gd", "heavy_ball", "nesterov" and "ema_momentum", with the sharpness lambda. Use it for the
    upper end of a range of rates. For RMSProp, Adagrad and Adam, the sharpness must be the
    preconditioned one, `lrax.probes.sharpness(..., preconditioner=)`. With it, RMSProp and Adagrad
    without momentum are "gd". Adam is "ema_momentum" with `beta=b1`: at b1 = 0.9 the limit is 38
    over the sharpness. Nesterov's variant of Adam is not covered; its state is treated as that of
    Adam.

    It misleads if you take it for the best rate. In training with small batches, the best rate was
    1 to 15 times below the limit. With the full batch, training goes on at the limit, because the
    sharpness falls until the rate is stable. Include weight decay in the loss whose sharpness you
    pass.

    Args:
      sharpness: The largest eigenvalue of the Hessian, or of the preconditioned one. Any shape.
      kind: What multiplies the rate. "gd": the gradient. "heavy_ball": the trace beta * trace +
        gradient, as in `optax.sgd(rate, momentum=beta)`. "nesterov": the same with `nesterov=True`.
        "ema_momentum": the mean beta * mean + (1 - beta) * gradient, as in Adam. Or pass an
        optimizer's state: the kind is "ema_momentum" if it has Adam's moments, and "gd" if it has
        no momentum. A state with a trace is refused: it may be of heavy ball or of Nesterov.
      beta: The decay of the momentum, at least 0 and below 1. Needed for every kind but "gd".
        If `optax.inject_hyperparams` keeps b1 in the state, it is read from there.

    Returns:
      The rate, in the shape of `sharpness`. Infinite where the sharpness is not positive.

    Raises:
      ValueError: if the kind is unknown or cannot be told from the state, or `beta` is missing,
        not needed, or out of its range.
      TypeError: if an argument is not as described.

    Example:
      >>> print(lrax.probes.max_stable_rate(4.0))
      0.5
      >>> print(lrax.probes.max_stable_rate(4.0, "ema_momentum", beta=0.9))
      9.5

    Reference:
      Cohen et al., arXiv 2103.00065 and 2207.14484.
    """
    given = _require.real(sharpness=sharpness)["sharpness"]
    if isinstance(given, np.ndarray):
        _require.held("sharpness", given)
    largest = jnp.asarray(given, _require.float_dtype())
    if not isinstance(kind, str):
        kind, read = _kind_of(kind)
        beta = read if beta is None else beta
    _require.choice("kind", kind, _FACTORS)
    if kind == "gd":
        if beta is not None:
            raise ValueError(f'`beta` must be None for "gd", which has no momentum, got {beta}')
        decay = jnp.zeros([], largest.dtype)
    elif beta is None:
        raise ValueError(f'`beta` must be given for "{kind}", got None')
    else:
        decay = _decay(beta, largest.dtype)
    limit = _FACTORS[kind](decay) / jnp.where(largest > 0, largest, 1.0)
    return jnp.where(jnp.isnan(largest), jnp.nan, jnp.where(largest > 0, limit, jnp.inf))


def _decay(beta: ArrayLike, dtype: Any) -> jax.Array:
    values = _require.real(beta=beta)
    if jnp.ndim(values["beta"]):
        raise ValueError(f"`beta` must be a scalar, got one of shape {jnp.shape(values['beta'])}")
    _require.nonnegative(values, "beta")
    if not isinstance(values["beta"], Tracer) and not values["beta"] < 1:
        raise ValueError(f"`beta` must be below 1, got {beta}")
    return jnp.asarray(values["beta"], dtype)


# {class of a state: (its fields, its kind)}. None stands for heavy ball or Nesterov.
_STATES = {
    "TraceState": (frozenset({"trace"}), None),
    "ScaleByAdamState": (frozenset({"count", "mu", "nu"}), "ema_momentum"),
    "ScaleByAmsgradState": (frozenset({"count", "mu", "nu", "nu_max"}), "ema_momentum"),
    "ScaleByBeliefState": (frozenset({"count", "mu", "nu"}), "ema_momentum"),
    "ScaleByRmsState": (frozenset({"nu"}), "gd"),
    "ScaleByRmsWithCountState": (frozenset({"count", "nu"}), "gd"),
    "ScaleByRssState": (frozenset({"sum_of_squares"}), "gd"),
    "ScaleByLrState": (frozenset({"count", "learning_rate", "held"}), "gd"),
    "ScaleByScheduleState": (frozenset({"count"}), "gd"),
    "EmptyState": (frozenset(), "gd"),
}
_KINDS = ", ".join(f'"{kind}"' for kind in _FACTORS)


def _kind_of(opt_state: Any) -> tuple[str, Any]:
    """The kind of an optimizer's state, and its beta if the state holds it."""
    if _has_groups(opt_state):
        raise ValueError(
            f"`kind` must be {_KINDS} for each group of parameters, whose optimizers may differ,"
            " got the state of several groups"
        )
    found = parts(opt_state, {name: fields for name, (fields, _) in _STATES.items()})
    inside = sum(_arrays(part.node) for part in found)
    # Arrays outside of the known parts may be a momentum of an unknown kind.
    if not found or inside < _arrays(opt_state):
        raise ValueError(
            f"`kind` must be {_KINDS}, or the state of an optimizer that tells one of them, got"
            f" {opt_state!r:.200}"
        )
    kinds = {_STATES[part.name][1] for part in found}
    momenta = kinds - {"gd"}
    if None in kinds or len(momenta) > 1:
        raise ValueError(
            '`kind` must be "heavy_ball" or "nesterov" for an optimizer with a trace, whose state'
            " does not tell them apart, got that state"
        )
    if not momenta:
        return "gd", None
    betas = [part.numbers.get("b1") for part in found if _STATES[part.name][1] != "gd"]
    return momenta.pop(), betas[0]


def _has_groups(opt_state: Any) -> bool:
    """Whether the state is of `optax.partition` with more than one group."""
    several = lambda node: len(getattr(node, "inner_states", ())) > 1
    return any(map(several, jax.tree.leaves(opt_state, is_leaf=several)))


def _arrays(tree: Any) -> int:
    """How many arrays with axes there are. Counts and rates have no axes, and do not count."""
    return sum(jnp.ndim(leaf) > 0 for leaf in jax.tree.leaves(tree) if hasattr(leaf, "ndim"))
