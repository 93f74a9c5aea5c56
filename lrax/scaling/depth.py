"""Depth and width together: CompleteP for residual networks under AdamW."""

from __future__ import annotations

from typing import NamedTuple

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, numbers, plain


class CompleteP(NamedTuple):
    """What `complete_p` returns: factors on the hyperparameters of the base model."""

    hidden_lr: Number
    hidden_wd: Number
    hidden_bias_lr: Number
    residual: Number
    eps: Number


def complete_p(
    width_mult: ArrayLike, depth_mult: ArrayLike, *, alpha: ArrayLike = 1.0
) -> CompleteP:
    r"""Factors for a wider and deeper residual network under AdamW, by CompleteP.

    $$\begin{aligned}
      \text{hidden\_lr} &= m_N^{-1} m_L^{\alpha - 1}, &
      \text{hidden\_wd} &= m_N, &
      \text{hidden\_bias\_lr} &= m_L^{\alpha - 1}, \\
      \text{residual} &= m_L^{-\alpha}, &
      \text{eps} &= m_N^{-1} m_L^{-\alpha} &&
    \end{aligned}$$

    with m_N = `width_mult` and m_L = `depth_mult`. Use it to tune a small transformer and to train
    a wide and deep one with the same rate. Multiply, relative to the base model:

    - `hidden_lr`, `hidden_wd`: the rate and the weight decay of matrices in the residual blocks;
    - `hidden_bias_lr`: the rate of biases and normalisation in the blocks, which have no decay;
    - `residual`: the output of every block before it is added, x + residual * block(x);
    - `eps`: the epsilon of Adam for all parameters in the blocks.

    Embeddings, the last normalisation and the output layer keep their rates. Their epsilon is
    multiplied by 1 / m_N. The hidden matrices start with 1 / m_N of the variance, the input of the
    output layer is multiplied by 1 / m_N, and attention uses 1 / head size:
    `lrax.scaling.mup_multipliers` has these for width.

    The rules do not hold for networks without residual blocks that end in a sum, nor for optimizers
    outside Adam's family. They say nothing about the batch size and the length of the run,
    which usually grow with the model. At `alpha` below 1 depth transfers less well.

    Args:
      width_mult: The width divided by the base width, above 0.
      depth_mult: The number of residual blocks divided by that of the base model, above 0.
      alpha: How strongly the blocks are scaled down with depth, from 0.5 to 1. 1 is CompleteP; 0.5
        is the rule of earlier work.

    Returns:
      A `CompleteP` of `hidden_lr`, `hidden_wd`, `hidden_bias_lr`, `residual` and `eps`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> factors = lrax.scaling.complete_p(4, 2)
      >>> factors.hidden_lr, factors.hidden_wd, factors.hidden_bias_lr
      (0.25, 4.0, 1.0)
      >>> factors.residual, factors.eps
      (0.5, 0.125)

    Reference:
      Dey et al., "Don't be lazy: CompleteP enables compute-efficient deep transformers", arXiv
      2505.01618; the authors' code is EleutherAI/nanoGPT-mup, branch completep.
    """
    leaves = numbers(width_mult=width_mult, depth_mult=depth_mult, alpha=alpha)
    _require.positive(leaves, "width_mult", "depth_mult")
    _require.between(leaves, 0.5, 1, "alpha")
    width, depth, power = leaves.values()
    bias = depth ** (power - 1)
    residual = depth**-power
    return CompleteP(
        hidden_lr=plain(bias / width),
        hidden_wd=plain(width),
        hidden_bias_lr=plain(bias),
        residual=plain(residual),
        eps=plain(residual / width),
    )
