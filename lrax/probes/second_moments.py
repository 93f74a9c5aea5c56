"""The divisors of Optax's adaptive optimizers, read from their states.

Each optimizer turns gradients into a direction (Adam: the bias-corrected mean of the gradients) and
divides it by a number for each parameter (Adam: the root of their second moment). The divisor
follows from the state and from the constants b2, eps and eps_root, which the state does not hold.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from .. import _require
from .losses import widened
from .states import Numbers, Part, Path, parts

Tree = Any
Divisors = Callable[[Part, Numbers], Tree]

SETTINGS = ("b1", "b2", "eps", "eps_root", "consistent_rms")


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How to read one class of states."""

    fields: frozenset[str]
    divisors: Divisors
    defaults: Numbers  # of Optax's `scale_by_*`
    aliases: dict[str, str] = dataclasses.field(default_factory=dict)  # {name here: name in Optax}
    corrects: tuple[str, ...] = ()  # the moments whose bias Optax corrects, for `warmup`
    has_moments: bool = True


class Read(NamedTuple):
    """The divisors of one part of a state."""

    path: Path
    divisors: Tree  # like the parameters; an `optax.MaskedNode` where the part has none
    warmup: jax.Array  # the factor that bias correction puts on the update
    has_moments: bool  # whether the divisors come from second moments


def read(opt_state: optax.OptState, given: Numbers) -> list[Read]:
    """The divisors of each part of a state.

    Args:
      opt_state: The state.
      given: The constants from the caller. None stands for the value in the state, or else for
        Optax's default.
    """
    known = {name: kind.fields for name, kind in _KINDS.items()}
    found = []
    for part in parts(opt_state, known):
        kind = _KINDS[part.name]
        injected = {
            name: part.numbers[kind.aliases.get(name, name)]
            for name in kind.defaults
            if kind.aliases.get(name, name) in part.numbers
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        numbers = {**kind.defaults, **injected, **chosen}
        divisors = kind.divisors(part, numbers)
        found.append(Read(part.path, divisors, _warmup(part, kind, numbers), kind.has_moments))
    return found


def merged(trees: list[Tree]) -> Tree:
    """One tree from several that `optax.partition` or `optax.masked` left holes in."""
    whole, *rest = trees
    for tree in rest:
        whole = _merge(whole, tree)
    return whole


def checked(**settings: Any) -> Numbers:
    """The constants from the caller, once they are checked; None for those not given."""
    given: Numbers = dict.fromkeys(settings)
    real = _require.real(**{name: value for name, value in settings.items() if value is not None})
    for name, value in real.items():
        if np.ndim(value):
            raise ValueError(f"`{name}` must be a scalar, got one of shape {np.shape(value)}")
        _require.nonnegative(real, name)
        if name in ("b1", "b2"):
            _require.at_most(f"`{name}` must be at most 1", value, np.float32(1))
        given[name] = jnp.asarray(value, _require.float_dtype())
    return given


def _merge(one: Tree, other: Tree) -> Tree:
    if isinstance(one, optax.MaskedNode):
        return other
    if isinstance(other, optax.MaskedNode):
        return one
    # The children of a node, one level down.
    level = lambda tree: jax.tree.flatten(tree, is_leaf=lambda inner: inner is not tree)
    children, structure = level(one)
    others, same = level(other)
    if structure != same or jax.tree_util.treedef_is_leaf(structure):
        raise ValueError(
            "`opt_state` must have one adaptive state for each parameter, got two whose parameters"
            " overlap, or whose structures differ"
        )
    return structure.unflatten([_merge(a, b) for a, b in zip(children, others, strict=True)])


def _corrected(moment: Tree, decay: Any, count: Any) -> Tree:
    """A moment without its bias towards zero, its initial value; computed as in Optax."""
    correction = 1 - decay ** _count(count)
    return jax.tree.map(lambda leaf: leaf / correction.astype(leaf.dtype), widened(moment))


def _count(count: Any) -> jax.Array:
    (count,) = jax.tree.leaves(count)  # Flax NNX wraps it in a pytree of one leaf
    return jnp.asarray(count)


def _warmup(part: Part, kind: _Kind, numbers: Numbers) -> jax.Array:
    factor = jnp.ones([], _require.float_dtype())
    if "second" in kind.corrects:
        factor = factor * jnp.sqrt(1 - numbers["b2"] ** _count(part.field("count")))
    if "first" in kind.corrects:
        factor = factor / (1 - numbers["b1"] ** _count(part.field("count")))
    return factor


def _root(moment: Tree, numbers: Numbers) -> Tree:
    """`sqrt(moment + eps_root) + eps`."""
    number = lambda name, leaf: jnp.asarray(numbers[name], leaf.dtype)
    return jax.tree.map(
        lambda leaf: jnp.sqrt(leaf + number("eps_root", leaf)) + number("eps", leaf), moment
    )


def _adam(part: Part, numbers: Numbers) -> Tree:
    return _root(_corrected(part.field("nu"), numbers["b2"], part.field("count")), numbers)


def _amsgrad(part: Part, numbers: Numbers) -> Tree:
    return _root(widened(part.field("nu_max")), numbers)


def _belief(part: Part, numbers: Numbers) -> Tree:
    # Optax has already added `eps_root` to the moment in the state.
    return _adam(part, {**numbers, "eps_root": 0.0})


def _adan(part: Part, numbers: Numbers) -> Tree:
    return _root(_corrected(part.field("n"), numbers["b2"], part.field("t")), numbers)


def _novograd(part: Part, numbers: Numbers) -> Tree:
    # The state keeps one second moment for each array.
    roots = _root(widened(part.field("nu")), numbers)
    like = part.field("mu")
    return jax.tree.map(lambda root, leaf: jnp.broadcast_to(root, leaf.shape), roots, like)


def _rms(part: Part, numbers: Numbers) -> Tree:
    return _root(widened(part.field("nu")), numbers)


def _stddev(part: Part, numbers: Numbers) -> Tree:
    return _root(_variance(widened(part.field("mu")), widened(part.field("nu"))), numbers)


def _stddev_with_count(part: Part, numbers: Numbers) -> Tree:
    decay, count = numbers["b2"], part.field("count")
    mean = _corrected(part.field("mu"), decay, count)
    return _root(_variance(mean, _corrected(part.field("nu"), decay, count)), numbers)


def _variance(mean: Tree, square: Tree) -> Tree:
    return jax.tree.map(lambda m, n: n - m**2, mean, square)


def _rss(part: Part, numbers: Numbers) -> Tree:
    sums = widened(part.field("sum_of_squares"))
    # Optax does not move a parameter while its sum is zero, so its divisor is infinite.
    return jax.tree.map(
        lambda total, root: jnp.where(total > 0, root, jnp.inf), sums, _root(sums, numbers)
    )


def _lion(part: Part, numbers: Numbers) -> Tree:
    del numbers
    # The direction is a sign, and is not divided.
    return jax.tree.map(jnp.ones_like, widened(part.field("mu")))


def _muon(part: Part, numbers: Numbers) -> Tree:
    rms = numbers["consistent_rms"]

    def divisor(leaf: jax.Array) -> jax.Array:
        if leaf.ndim != 2:
            raise ValueError(
                "`opt_state` must have nothing but matrices under Muon, because it does not say how"
                f" other arrays are reshaped, got an array of shape {leaf.shape}"
            )
        rows, columns = leaf.shape
        wide = math.sqrt(max(1.0, columns / rows))
        # Optax multiplies by this factor, in `scale_by_shape`.
        factor = wide if rms is None else math.sqrt(max(rows, columns)) * rms
        return jnp.broadcast_to(jnp.asarray(1 / factor, leaf.dtype), leaf.shape)

    return jax.tree.map(divisor, widened(part.field("mu")))


_ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0}
# Optax's `eps` of RMSProp and Adagrad is inside of the root by default, so it is `eps_root` here.
_ROOTS = {"b2": 0.9, "eps": 0.0, "eps_root": 1e-8}
_BOTH = ("first", "second")
# No hyperparameter has the empty name, so only the caller can set an `eps` outside of the root.
_INSIDE = {"b2": "decay", "eps_root": "eps", "eps": ""}
_KINDS = {
    "ScaleByAdamState": _Kind(frozenset({"count", "mu", "nu"}), _adam, _ADAM, corrects=_BOTH),
    "ScaleByAmsgradState": _Kind(
        frozenset({"count", "mu", "nu", "nu_max"}), _amsgrad, _ADAM, corrects=_BOTH
    ),
    "ScaleByBeliefState": _Kind(
        frozenset({"count", "mu", "nu"}), _belief, {**_ADAM, "eps": 1e-16}, corrects=_BOTH
    ),
    "ScaleByAdemamixState": _Kind(
        frozenset({"count", "count_m2", "m1", "m2", "nu"}), _adam, _ADAM, corrects=_BOTH
    ),
    "ScaleByAdanState": _Kind(
        frozenset({"m", "v", "n", "g", "t"}), _adan, {**_ADAM, "b2": 0.99}, {"b2": "b3"}
    ),
    "ScaleByNovogradState": _Kind(frozenset({"count", "mu", "nu"}), _novograd, _ADAM),
    "ScaleByRmsState": _Kind(frozenset({"nu"}), _rms, _ROOTS, _INSIDE),
    "ScaleByRmsWithCountState": _Kind(
        frozenset({"count", "nu"}), _adam, _ROOTS, _INSIDE, corrects=("second",)
    ),
    "ScaleByRStdDevState": _Kind(frozenset({"mu", "nu"}), _stddev, _ROOTS, _INSIDE),
    "ScaleByRStdDevWithCountState": _Kind(
        frozenset({"count", "mu", "nu"}), _stddev_with_count, _ROOTS, _INSIDE, corrects=("second",)
    ),
    "ScaleByRssState": _Kind(
        frozenset({"sum_of_squares"}), _rss, {"eps": 0.0, "eps_root": 1e-7}, _INSIDE
    ),
    "ScaleByLionState": _Kind(frozenset({"count", "mu"}), _lion, {}, has_moments=False),
    "MuonState": _Kind(
        frozenset({"count", "mu", "ns_coeffs"}),
        _muon,
        {"consistent_rms": None},
        has_moments=False,
    ),
}
