"""`lora`: a first rate for low-rank adapters from the rate of full fine-tuning."""

from __future__ import annotations

from typing import NamedTuple

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, numbers, plain

SCALINGS = ("rank", "sqrt_rank")


class Lora(NamedTuple):
    """What `lora` returns: the factor on the adapter's output, and the rates of its matrices."""

    scale: Number
    a_lr: Number
    b_lr: Number


def lora(
    full_rate: ArrayLike,
    *,
    rank: ArrayLike,
    alpha: ArrayLike = 32.0,
    scaling: str = "rank",
    ratio: ArrayLike = 10.0,
    b_over_a: ArrayLike = 1.0,
) -> Lora:
    r"""A first rate for low-rank adapters (LoRA), and the scale that it belongs to.

    $$W + \text{scale} \cdot B A, \qquad
      \text{scale} = \text{alpha} / \text{rank}, \qquad
      \text{a\_lr} = \text{ratio} \cdot \text{full\_rate}, \qquad
      \text{b\_lr} = \text{b\_over\_a} \cdot \text{a\_lr}$$

    or scale = alpha / sqrt(rank) with `scaling="sqrt_rank"`. Use it as the middle of a search, from
    `ratio` 5 to 20. It is a prior and not a law: the factor of 10 was measured, without a theory.

    It was measured under these conditions, and is valid for no others:

    - Adam with a constant rate, on language models of 1 to 70 billion parameters, fine-tuned with
      supervision and by reinforcement learning;
    - adapters on all layers, those of MLPs and experts too. Adapters on attention alone are worse
      at every rate;
    - `alpha` 32 with `scaling="rank"`. The best rate then hardly depends on the rank. With another
      `alpha`, keep `alpha * b_lr`, which decides the first updates. With "sqrt_rank" the best rate
      may fall with the rank;
    - A starts with random numbers of the variance 1 / (3 in), and B with zeros;
    - runs of some hundred updates or more. Below 100, a `ratio` of 15 was better: B begins at zero
      and has a way to go;
    - batches that are not large: adapters lose more by large batches than full fine-tuning does.

    `b_over_a` above 1 is LoRA+, which gives B a higher rate because it begins at zero: 16 is its
    authors' choice, with `ratio` halved.

    Args:
      full_rate: The rate that is good for all parameters, at least 0.
      rank: The rank of the adapters, at least 1.
      alpha: The numerator of the scale, above 0.
      scaling: "rank" for alpha / rank, or "sqrt_rank" for alpha / sqrt(rank), as in rsLoRA.
      ratio: The rate of adapters divided by that of full fine-tuning, above 0.
      b_over_a: The rate of B divided by that of A, above 0.

    Returns:
      A `Lora` of `scale`, `a_lr` and `b_lr`.

    Raises:
      ValueError: if a concrete number is out of its range, `scaling` is unknown, or shapes do not
        broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> lrax.scaling.lora(2e-5, rank=16)
      Lora(scale=2.0, a_lr=0.0002, b_lr=0.0002)
      >>> plus = lrax.scaling.lora(2e-5, rank=16, ratio=5, b_over_a=16)
      >>> optimizer = optax.partition(
      ...     {"a": optax.adam(plus.a_lr), "b": optax.adam(plus.b_lr)},
      ...     {"lora_a": "a", "lora_b": "b"},
      ... )

    Reference:
      Hu et al., "LoRA", arXiv 2106.09685; Schulman et al., "LoRA without regret", Thinking Machines
      Lab, 2025, and its `tinker_cookbook.hyperparam_utils`; Hayou et al., "LoRA+", arXiv
      2402.12354; Kalajdzievski, "A rank stabilization scaling factor", arXiv 2312.03732; on other
      initialisations and scalings: Chen et al., arXiv 2602.06204.
    """
    _require.choice("scaling", scaling, SCALINGS)
    leaves = numbers(full_rate=full_rate, rank=rank, alpha=alpha, ratio=ratio, b_over_a=b_over_a)
    _require.nonnegative(leaves, "full_rate")
    _require.at_least(leaves, 1, "rank")
    _require.positive(leaves, "alpha", "ratio", "b_over_a")
    divisor = leaves["rank"] if scaling == "rank" else leaves["rank"] ** 0.5
    a_lr = leaves["ratio"] * leaves["full_rate"]
    return Lora(
        scale=plain(leaves["alpha"] / divisor),
        a_lr=plain(a_lr),
        b_lr=plain(leaves["b_over_a"] * a_lr),
    )
