"""Muon's conventions: the factor of each on the orthogonalised update of a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jax.typing import ArrayLike

from .. import _require
from .matrices import Axes, Matrix, matrices
from .numbers import Number, numbers, plain
from .parameters import Parameters, Tree, parameters
from .table import Multipliers

CONVENTIONS = ("orthogonal", "original", "match_rms_adamw", "consistent_rms", "spectral")


def muon_multipliers(
    params: Tree,
    convention: str,
    *,
    relative_to: str = "orthogonal",
    layout: str = "in_out",
    rms: float | None = None,
    axes: Axes | None = None,
) -> Multipliers:
    r"""The factors on the orthogonalised updates of matrices, by a convention of Muon.

    | convention | multiplier | keeps | who has it |
    |---|---|---|---|
    | orthogonal | 1 | the spectral norm, 1 | Optax's `scale_by_muon`, since 0.2.7 |
    | original | max(1, out / in)^1/2 | | Jordan; the default of PyTorch and Optax; timm |
    | match_rms_adamw | 0.2 max(in, out)^1/2 | the RMS, 0.2 | Moonlight; PyTorch, timm |
    | consistent_rms | `rms` max(in, out)^1/2 | the RMS, `rms` | `optax.contrib.muon` |
    | spectral | (out / in)^1/2 | the norm from RMS to RMS, 1 | Bernstein; Dion, timm "rms_to_rms" |

    for a matrix with `in` inputs and `out` outputs. The kernel of a convolution is flattened:
    `in` is the size of its window times its input channels, as in Jordan's and timm's
    implementations. Use it to see which convention a rate belongs to, and to run one convention
    with an optimizer that has another: with `relative_to`, the multipliers are those of
    `convention` divided by those of `relative_to`, as in the example. `muon_rate` converts a rate
    for one shape.

    "match_rms_adamw" takes the rate and the decay of AdamW, and its rate has to fall with the width
    as AdamW's does. "spectral" keeps the best rate over widths. "original" is in between: it equals
    "spectral" where out >= in.

    The table does not apply to embeddings and output layers, which Muon is not meant for, and for
    kernels of attention with an axis of heads, unless `axes` tells which side the heads are on.
    Newton-Schulz iterations leave singular values between 0.7 and 1.2, so norms differ from those
    of the table by up to 30 %.

    Args:
      params: The parameters, or their shapes as `jax.eval_shape` returns them.
      convention: The convention that is wanted.
      relative_to: The convention that the optimizer has.
      layout: "in_out" for kernels (..., in, out), as in Flax and Haiku. "out_in" for (out, in, ...)
        as in Equinox and PyTorch.
      rms: For "consistent_rms" only, and needed there: the RMS, above 0.
      axes: `{pattern: (input axes, output axes)}` for parameters that the layout does not fit. The
        pattern is searched in the path, as in `lrax.scaling.groups`. A side is an int or several;
        axes on neither side count matrices in a stack. `optax.contrib.MuonDimensionNumbers` is such
        a pair.

    Returns:
      A tree like `params`, of Python floats: for `lrax.scale_by_multipliers`. Parameters with one
      axis or none, and those with "bias" as a part of their path, have 1.

    Raises:
      ValueError: if an option is unknown, a pattern catches nothing, an axis is not there, `rms` is
        missing or not positive, or an axis has length 0.
      TypeError: if an argument is not as described.

    Example:
      >>> params = {"up": jnp.ones((256, 1024)), "down": jnp.ones((1024, 256)), "b": jnp.ones(256)}
      >>> lrax.scaling.muon_multipliers(params, "original")
      {'b': 1.0, 'down': 1.0, 'up': 2.0}
      >>> lrax.scaling.muon_multipliers(params, "spectral")
      {'b': 1.0, 'down': 0.5, 'up': 2.0}
      >>> spectral = lrax.scaling.muon_multipliers(params, "spectral", relative_to="original")
      >>> optimizer = optax.chain(
      ...     optax.contrib.muon(0.02),
      ...     lrax.scale_by_multipliers(spectral),
      ... )

    Reference:
      Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; Liu et al.,
      "Muon is scalable for LLM training", arXiv 2502.16982; Yang et al., "A spectral condition for
      feature learning", arXiv 2310.17813.
    """
    found = parameters("params", params)
    _conventions("params", found, rms, convention=convention, relative_to=relative_to)
    multipliers = [
        _multiplier(matrix, convention, rms) / _multiplier(matrix, relative_to, rms)
        for matrix in matrices(found, layout, axes)
    ]
    return found.structure.unflatten(multipliers)


def muon_rate(
    lr: ArrayLike,
    shape: Sequence[int],
    *,
    from_: str,
    to: str,
    layout: str = "in_out",
    rms: float | None = None,
) -> Number:
    r"""The rate in one convention of Muon from that in another, for a matrix of some shape.

    $$\text{lr} \cdot \frac{m_\text{from\_}}{m_\text{to}}$$

    with the multipliers m of `muon_multipliers`, so that the update stays the same. Use it to carry
    a rate from one library to another. The factor depends on the shape, so take the shape that most
    parameters have. `muon_multipliers` with `relative_to` is exact for all of them.

    The weight decay is not converted. Libraries multiply it by the rate without the multiplier. To
    keep rate times decay, multiply the decay by `lr` / the new rate.

    Args:
      lr: The rate in the convention `from_`, at least 0.
      shape: The shape of the matrix, or of the kernel of a convolution: two or more ints.
      from_: The convention of `lr`: "orthogonal", "original", "match_rms_adamw", "consistent_rms"
        or "spectral".
      to: The convention that is wanted, one of the same.
      layout: "in_out" or "out_in", as in `muon_multipliers`.
      rms: For "consistent_rms" only, and needed there: the RMS, above 0.

    Returns:
      The rate in the convention `to`.

    Raises:
      ValueError: if an option is unknown, `shape` has fewer than two axes or one of length 0, `rms`
        is missing or not positive, or a concrete `lr` is negative or not finite.
      TypeError: if an argument is not as described.

    Example:
      >>> lrax.scaling.muon_rate(3e-4, (1024, 4096), from_="match_rms_adamw", to="original")
      0.00192

    Reference:
      As for `muon_multipliers`.
    """
    leaves = numbers(lr=lr)
    _require.nonnegative(leaves, "lr")
    lengths = tuple(
        _require.count("shape", length, 1) for length in _require.listed("shape", shape)
    )
    if len(lengths) < 2:
        raise ValueError(f"`shape` must have at least two axes, got {shape!r}")
    found = Parameters([""], [lengths], None)
    _conventions("shape", found, rms, from_=from_, to=to)
    (matrix,) = matrices(found, layout, None)
    factor = _multiplier(matrix, from_, rms) / _multiplier(matrix, to, rms)
    return plain(leaves["lr"] * factor)


def _conventions(name: str, found: Parameters, rms: object, **words: str) -> None:
    for argument, word in words.items():
        _require.choice(argument, word, CONVENTIONS)
    if (rms is None) == ("consistent_rms" in words.values()):
        raise ValueError(f"`rms` must be given for 'consistent_rms', and for it alone, got {rms!r}")
    if rms is not None:
        _require.positive({"rms": _require.number("rms", rms)}, "rms")
    for path, shape in zip(found.paths, found.shapes, strict=True):
        if 0 in shape:
            raise ValueError(f"`{name}` must have no axis of length 0, got {shape} at {path!r}")


def _multiplier(matrix: Matrix, convention: str, rms: float | None) -> float:
    if not matrix.inputs:
        return 1.0
    fan_in, fan_out = matrix.fan_in, matrix.fan_out
    # The sides are those of the flattened kernel of a convolution. Some releases of Muon took its
    # last two axes, kh / kw in PyTorch, for the sides of the matrix.
    if convention == "original":
        return math.sqrt(max(1.0, fan_out / fan_in))
    if convention == "spectral":
        return math.sqrt(fan_out / fan_in)
    if convention == "orthogonal":
        return 1.0
    return (0.2 if convention == "match_rms_adamw" or rms is None else rms) * math.sqrt(
        max(fan_in, fan_out)
    )
