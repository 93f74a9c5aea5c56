"""Where an optimizer state keeps its learning rates, whatever library or checkpoint it came from.

A node is a part of the state that holds one rate. In the state of an optimizer it is a NamedTuple.
In a state restored by Orbax, or in an `nnx.State`, it is a mapping with the same names. Flax NNX
also wraps every array in a `Variable`, a pytree of one leaf. To serve all of these, nodes are read
and written by the paths of their leaves, and not by attributes.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.tree_util import DictKey, GetAttrKey, SequenceKey, keystr

Node = Any
Label = Any
Path = tuple[Any, ...]

# A mapping is taken for one of these states only if it has all of these fields. A `learning_rate`
# alone is not enough: the mapping may hold moments of the parameters, and a user may have called a
# parameter `learning_rate`.
_OURS = {"count", "learning_rate", "held"}
_SEARCH = {"learning_rate", "value", "grad"}
_INJECTED = {"count", "hyperparams", "inner_state"}
_PLATEAU = {"scale", "best_value", "plateau_count", "cooldown_count"}
# Fields of Optax's states. In a restored state they are dict keys, but not names of groups.
_FIELDS = {"opt_state", "inner_states", "inner_state", "inner_opt_state"}


class Group(NamedTuple):
    """A node, its path, and the scale of every `reduce_on_plateau` on the same updates."""

    node: Node
    scales: tuple[Any, ...]
    path: Path


def groups(
    opt_state: optax.OptState,
) -> tuple[dict[Label, Group], Callable[[dict[Label, Node]], optax.OptState]]:
    """The groups of a state by their labels in `get_lr`, and a function that replaces nodes."""
    flat, structure = jax.tree_util.tree_flatten_with_path(
        opt_state, is_leaf=lambda node: _holds_rate(node) or _is_plateau(node)
    )
    paths = {index: path for index, (path, node) in enumerate(flat) if _holds_rate(node)}
    if not paths:
        raise ValueError(
            "`opt_state` must hold a learning rate, got a state without one. End the optimizer's"
            " chain with `lrax.scale_by_lr(rate)`, as in"
            " `optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(1e-3))`."
        )
    # For each plateau: the path of the chain that it scales, or None, and its scale.
    scopes = [
        (_scope(path, list(paths.values())), _leaf(node, ("scale",)))
        for path, node in flat
        if _is_plateau(node)
    ]
    # For each label: the index of its node in `flat`.
    places = dict(zip(labels(list(paths.values())), paths, strict=True))
    known = {}
    for label, index in places.items():
        around = [
            scale for scope, scale in scopes if scope is not None and _under(flat[index][0], scope)
        ]
        known[label] = Group(flat[index][1], tuple(around), flat[index][0])

    def rebuild(new: dict[Label, Node]) -> optax.OptState:
        nodes = [node for _, node in flat]
        for label, node in new.items():
            nodes[places[label]] = node
        return structure.unflatten(nodes)

    return known, rebuild


def labels(paths: list[Path]) -> list[Label]:
    """The labels of nodes: the dict keys on their paths, or whole paths if keys are not enough."""
    keys = [_keys(path) for path in paths]
    joined = [names[0] if len(names) == 1 else "/".join(map(str, names)) for names in keys]
    if len(set(joined)) < len(joined) or not all(keys):
        return [keystr(path) for path in paths]
    return joined


def read(node: Node) -> Any:
    """The rate in a node, as it is stored."""
    return _leaf(node, _place(node, "learning_rate"))


def replaced(node: Node, **values: Any) -> Node:
    """The node with new values in some fields, broadcast and cast to the old shapes and dtypes."""
    places = {_place(node, name): value for name, value in values.items()}
    flat, structure = jax.tree_util.tree_flatten_with_path(node)
    leaves = []
    for path, leaf in flat:
        for place, value in places.items():
            if _names(path)[: len(place)] == place:
                leaf = jnp.broadcast_to(jnp.asarray(value, jnp.result_type(leaf)), jnp.shape(leaf))
        leaves.append(leaf)
    return structure.unflatten(leaves)


def is_ours(node: Node) -> bool:
    """Whether a node is a state of lrax that can hold a rate, such as that of `scale_by_lr`."""
    return _fields(node) >= _OURS


def is_computed(node: Node) -> bool:
    """Whether `optax.inject_hyperparams` computes this rate from a schedule."""
    return _is_injected(node) and "learning_rate" in (_field(node, "hyperparams_states") or ())


def _holds_rate(node: Node) -> bool:
    if _is_injected(node):
        return True
    fields = _fields(node)
    if "learning_rate" not in fields:
        return False
    if isinstance(node, Mapping) and not (fields >= _OURS or fields >= _SEARCH):
        return False
    # A state of another library may hold a rate for each parameter under this name. It has no
    # single rate to return.
    return len(jax.tree.leaves(_field(node, "learning_rate"))) == 1


def _is_injected(node: Node) -> bool:
    fields = _fields(node)
    if "hyperparams" not in fields or (isinstance(node, Mapping) and not fields >= _INJECTED):
        return False
    return "learning_rate" in (_field(node, "hyperparams") or ())


def _is_plateau(node: Node) -> bool:
    return _fields(node) >= _PLATEAU


def _fields(node: Node) -> set[Any]:
    return set(node) if isinstance(node, Mapping) else set(getattr(node, "_fields", ()))


def _field(node: Node, name: str) -> Any:
    return node.get(name) if isinstance(node, Mapping) else getattr(node, name, None)


def _place(node: Node, name: str) -> tuple[Any, ...]:
    inside = name == "learning_rate" and _is_injected(node)
    return ("hyperparams", name) if inside else (name,)


def _leaf(node: Node, place: tuple[Any, ...]) -> Any:
    flat, _ = jax.tree_util.tree_flatten_with_path(node)
    return next(leaf for path, leaf in flat if _names(path)[: len(place)] == place)


def _name(key: Any) -> Any:
    if isinstance(key, DictKey):
        return key.key
    return key.name if isinstance(key, GetAttrKey) else getattr(key, "idx", None)


def _names(path: Path) -> tuple[Any, ...]:
    return tuple(map(_name, path))


def _under(path: Path, scope: Path) -> bool:
    return path[: len(scope)] == scope


def _scope(path: Path, rates: list[Path]) -> Path | None:
    """The path of the smallest chain around a `reduce_on_plateau` that holds a rate, or None.

    If the chain of the plateau holds no rate and is itself a link of an outer chain, the outer
    chain is tried next. The search ends at any other wrapper: it may be `optax.masked`, and then
    the plateau scales only some of the parameters.
    """
    if not path or not isinstance(path[-1], (SequenceKey, DictKey)):
        return None
    scope = path[:-1]  # the chain, or named chain, that has the plateau as a link
    while not any(_under(rate, scope) for rate in rates):
        if not scope or not isinstance(_index(scope[-1]), int):
            return None
        scope = scope[:-1]
    return scope


def _index(key: Any) -> int | None:
    """The index of a link in its chain, or None.

    An `nnx.State` holds the tuple of a chain as a dict with int keys.
    """
    name = _name(key)
    return name if isinstance(key, (SequenceKey, DictKey)) and isinstance(name, int) else None


def _keys(path: Path) -> list[Label]:
    """The dict keys that name a group.

    They are labels of `optax.partition`, names of links in `optax.named_chain`, or a user's keys.
    """
    names = _names(path)
    # In a restored state, the fields of NamedTuples and the indices of tuples are dict keys too.
    # They name no group. A key directly below `inner_states` is a label of `optax.partition`, and
    # names a group even if it is an int or looks like a field.
    restored = any(isinstance(key, DictKey) and key.key in _FIELDS for key in path)
    keys = []
    for before, (name, key) in pairwise([(None, None), *zip(names, path, strict=True)]):
        structural = (
            restored and before[0] != "inner_states" and (name in _FIELDS or isinstance(name, int))
        )
        if isinstance(key, DictKey) and not structural:
            keys.append(name)
    return keys
