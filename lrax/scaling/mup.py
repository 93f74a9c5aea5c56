"""`mup_multipliers`: factors from a narrow network to a wide one, by the shapes of parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from .. import _require
from ..display import tables
from .kinds import KINDS, given_kinds, kind_of
from .parameters import Parameters, Tree, parameters
from .table import Multipliers

OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
LAYOUTS = ("in_out", "out_in")
DECAYS = ("mup", "independent", "sqrt_width")
INITS = ("constant", "fan_in")


class Factors(NamedTuple):
    """The factors of one parameter."""

    lr: float = 1.0
    weight_decay: float = 1.0
    init: float = 1.0
    forward: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Mup:
    """What `mup_multipliers` returns: trees like `target`, of Python floats.

    It prints as a table of the kinds of parameters and their factors.

    Attributes:
      lr: Factors on the rate of the base network: for `lrax.scale_by_multipliers`.
      weight_decay: Factors on the weight decay of the base network.
      init: Factors on the standard deviation of the initial parameters.
      forward: Factors on the parameters themselves, wherever the network uses them.
      kinds: "hidden", "input", "output", "vector" or "scalar" for each parameter.
    """

    lr: Multipliers
    weight_decay: Multipliers
    init: Multipliers
    forward: Multipliers
    kinds: Tree
    _table: str

    def __str__(self) -> str:
        return self._table

    __repr__ = __str__


def mup_multipliers(
    base: Tree,
    target: Tree,
    *,
    optimizer: str = "adam",
    layout: str = "in_out",
    decay: str = "mup",
    init: str = "constant",
    kinds: Mapping[str, str] | None = None,
) -> Mup:
    r"""The factors of the maximal update parametrisation (muP), from two trees of shapes.

    An axis whose length differs between `base` and `target` is a width. Its growth is the length in
    `target` divided by that in `base`. A hidden matrix has two widths, with the growths m_in and
    m_out; other parameters have one, with the growth m.

    | kind | widths | lr, Adam | lr, SGD | lr, Muon | init | forward |
    |---|---|---|---|---|---|---|
    | hidden | both sides | 1 / m_in | m_out / m_in | (m_out / m_in)^1/2 | m_in^-1/2 | 1 |
    | input | output side | 1 | m | 1 | 1 | 1 |
    | output | input side | 1 | m | 1 | 1 | 1 / m |
    | vector | its own | 1 | m | 1 | 1 | 1 |
    | scalar | none | 1 | 1 | 1 | 1 | 1 |

    Use it to tune the rate on a narrow network and to train a wide one with the same rate. Build
    both networks with the same code, differing only in width, and use the factors in four places:

    - the rate: `lrax.scale_by_multipliers(mup.lr)` after the optimizer's direction;
    - weight decay: with `decay="mup"`, `optax.add_decayed_weights` *after* these multipliers needs
      no factor, as in the example. For other choices of `decay`, add `weight_decay * factor *
      param` to the updates *before* these multipliers, with `factor` from `mup.weight_decay`;
    - the initial parameters: `jax.tree.map(jnp.multiply, params, mup.init)` with `init="fan_in"`,
      or, with `init="constant"`, draw each parameter with `mup.init` times the standard deviation
      of the base;
    - the forward pass: use `jax.tree.map(jnp.multiply, params, mup.forward)` in the loss. That has
      the effect of multiplying the input of the output layer.

    Attention needs a change that no factor on parameters makes. If the size d of a head grows,
    multiply the logits by sqrt(d_base) / d, and not by 1 / sqrt(d). If the number of heads grows
    instead, nothing changes.

    The rules do not cover depth, batch size and the length of the run: see `complete_p` and the
    rules of the batch. They are limits for large widths, so very narrow networks follow them less
    well. Under weight decay, weights leave their initial size
    after a while. From then on the decay decides how well rates transfer, and the literature has
    three answers: the choices of `decay`. An embedding that is tied to the output layer has both
    roles: apply `forward` only where it is used as the output layer.

    "muon" assumes that the update of a hidden matrix is the orthogonalised matrix itself, with a
    spectral norm of 1, and that all other parameters have Adam. `optax.contrib.muon` also
    multiplies by sqrt(max(1, out / in)). If the two sides of a matrix grow by different factors,
    divide `lr` by the growth of that root.

    Args:
      base: The parameters of the network whose rate is known, or their shapes: a pytree of anything
        with a `shape`.
      target: The parameters of the wide network, or their shapes, with the same paths.
      optimizer: "adam" (also for RMSProp and Lion), "adamw", "sgd" (with or without momentum) or
        "muon".
      layout: "in_out" for kernels (..., in, out), as in Flax and Haiku. "out_in" for (out, in, ...)
        as in Equinox and PyTorch. If a parameter has two widths, the first is the input side under
        "in_out" and the output side under "out_in". If it has one, the output side is the last axis
        under "in_out", and the first axis under "out_in". Parameters with one axis, and those with
        "bias" as a part of their path, are vectors. A table of embeddings is (entries, width) in
        Equinox too, which looks like an output layer: under "out_in", a path with "embed" but not
        "unembed" is an input.
      decay: "mup" is 1 / the factor of the rate, so that rate times decay stays. "independent" is
        1, for optimizers that do not multiply the decay by the rate. "sqrt_width" is sqrt(m_in) for
        hidden matrices and 1 for others. It was found for AdamW that decays hidden matrices only.
      init: Says how the standard deviation of the network's own initialisation depends on width.
        "constant" if it does not, as with `normal(0.02)`: the factors are those of the table.
        "fan_in" if it falls with the root of the input side, as with LeCun's and He's, the default
        of Flax's layers. Then the factor is 1 for hidden matrices, and sqrt(m) for output layers.
      kinds: `{pattern: kind}` for parameters whose shapes do not show their kind: "input", "output"
        or "vector" where the pattern is found in the path, as in `lrax.scaling.groups`. An example
        is `kinds={"wte": "input"}` for a table of embeddings under "out_in".

    Returns:
      A `Mup` of `lr`, `weight_decay`, `init`, `forward` and `kinds`. Print it before training.

    Raises:
      ValueError: if the trees have different paths or numbers of axes, a parameter has three
        widths, an option is unknown, or a pattern catches nothing.
      TypeError: if an argument is not as described.

    Example:
      >>> def shapes(width):
      ...     return {
      ...         "embed": jax.ShapeDtypeStruct((100, width), jnp.float32),
      ...         "body": {"kernel": jax.ShapeDtypeStruct((width, width), jnp.float32)},
      ...         "head": {"kernel": jax.ShapeDtypeStruct((width, 10), jnp.float32)},
      ...     }
      >>> mup = lrax.scaling.mup_multipliers(shapes(64), shapes(256), optimizer="adamw")
      >>> mup
        kind    lr  weight_decay  init  forward  arrays  parameters  such as
      hidden  0.25             4   0.5        1       1      65,536  body/kernel
       input     1             1     1        1       1      25,600  embed
      output     1             1     1     0.25       1       2,560  head/kernel
      >>> optimizer = optax.chain(
      ...     optax.scale_by_adam(),
      ...     lrax.scale_by_multipliers(mup.lr),
      ...     optax.add_decayed_weights(0.1),
      ...     lrax.scale_by_lr(1e-3),
      ... )

    Reference:
      Yang et al., "Tensor programs V", arXiv 2203.03466, and the package `mup` 1.0.0, whose rules
      these are for Adam and SGD; "independent" is the `decoupled_wd=True` of its repository. Yang
      et al., "A spectral condition for feature learning", arXiv 2310.17813, for Muon. Fan et al.,
      arXiv 2510.15262, for "sqrt_width". Kosson et al., arXiv 2510.19093, on decay.
    """
    _require.choice("optimizer", optimizer, OPTIMIZERS)
    _require.choice("layout", layout, LAYOUTS)
    _require.choice("decay", decay, DECAYS)
    _require.choice("init", init, INITS)
    narrow = parameters("base", base)
    wide = parameters("target", target)
    _same_paths(narrow, wide)
    given = given_kinds(kinds, wide)
    found = []
    for path, small, large, kind in zip(wide.paths, narrow.shapes, wide.shapes, given, strict=True):
        kind, fan_in, fan_out = kind_of(path, small, large, kind, layout)
        found.append((kind, _factors(kind, fan_in, fan_out, optimizer, decay, init)))
    tree = lambda leaves: wide.structure.unflatten(list(leaves))
    return Mup(
        lr=tree(factors.lr for _, factors in found),
        weight_decay=tree(factors.weight_decay for _, factors in found),
        init=tree(factors.init for _, factors in found),
        forward=tree(factors.forward for _, factors in found),
        kinds=tree(kind for kind, _ in found),
        _table=_lines(found, wide),
    )


def _factors(
    kind: str, fan_in: float, fan_out: float, optimizer: str, decay: str, init: str
) -> Factors:
    """The rules of the table."""
    if kind == "scalar":
        return Factors()
    if kind == "hidden":
        rules = {"sgd": fan_out / fan_in, "muon": math.sqrt(fan_out / fan_in)}
        lr = rules.get(optimizer, 1 / fan_in)
        std = 1 / math.sqrt(fan_in)
    else:
        lr = fan_in * fan_out if optimizer == "sgd" else 1.0  # one of the two is 1
        std = 1.0
    return Factors(
        lr=lr,
        weight_decay={
            "mup": 1 / lr,
            "independent": 1.0,
            "sqrt_width": math.sqrt(fan_in) if kind == "hidden" else 1.0,
        }[decay],
        # The network's own initialisation has the factor 1 / sqrt(fan_in) already.
        init=std * math.sqrt(fan_in) if init == "fan_in" else std,
        forward=1 / fan_in if kind == "output" else 1.0,
    )


def _same_paths(narrow: Parameters, wide: Parameters) -> None:
    # Structures are not compared: that of an Equinox module has its widths, which differ.
    if narrow.paths != wide.paths:
        if set(narrow.paths) == set(wide.paths):
            raise ValueError("`target` must have its parameters in the same order as `base`")
        only = [
            ", ".join(sorted(set(a.paths) - set(b.paths))[:5]) or "nothing"
            for a, b in ((wide, narrow), (narrow, wide))
        ]
        raise ValueError(
            "`target` must have parameters of the same paths as `base`, got"
            f" {only[0]} in `target` alone and {only[1]} in `base` alone"
        )


def _lines(found: list[tuple[str, Factors]], wide: Parameters) -> str:
    """A line for each kind and its factors, the kinds in the order of the docstring."""
    places: dict[tuple[str, Factors], list[int]] = {}
    for i, key in enumerate(found):
        places.setdefault(key, []).append(i)
    head = ["kind", *Factors._fields, "arrays", "parameters", "such as"]
    rows = []
    for (kind, factors), same in sorted(places.items(), key=lambda item: KINDS.index(item[0][0])):
        size = sum(wide.sizes[i] for i in same)
        numbers = [f"{factor:.4g}" for factor in factors]
        rows.append([kind, *numbers, str(len(same)), f"{size:,}", wide.paths[same[0]]])
    return tables.aligned([head, *rows])
