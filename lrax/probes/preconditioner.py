"""`preconditioner`: what an adaptive optimizer divides each gradient by."""

from __future__ import annotations

from typing import Any

import optax
from jax.typing import ArrayLike

from .second_moments import checked, merged, read

Tree = Any


def preconditioner(
    opt_state: optax.OptState,
    *,
    b2: ArrayLike | None = None,
    eps: ArrayLike | None = None,
    eps_root: ArrayLike | None = None,
) -> Tree:
    r"""What an adaptive optimizer divides the gradient of each parameter by, from its state.

    $$P = \sqrt{\hat\nu + \text{eps\_root}} + \text{eps}, \qquad
      \hat\nu = \nu / (1 - b_2^t)$$

    in the case of Adam, where $\nu$ is the moving average of the squared gradients after $t$
    updates. Use it as the `preconditioner` of `lrax.probes.sharpness`. It reads the states of Adam
    and AdamW, AMSGrad, AdaBelief, AdEMAMix, Adan, NovoGrad, RMSProp (also centered, also with bias
    correction) and Adagrad, under any nesting of `chain`, `partition`, `masked`, `MultiSteps`,
    `inject_hyperparams` and the like. It does not read Adafactor, whose second moments are
    factored.

    It misleads if a constant is not the optimizer's own. A state does not hold `b2` and `eps`,
    unless it is one of `optax.inject_hyperparams`, whose values are read. Yogi, RAdam and Adamax
    have the class of Adam's state and are read as Adam. For Yogi pass its `eps`, by default 1e-3.
    RAdam does not divide at all in its first updates. Adamax has no square root, so it is read
    wrongly. If a state was restored as a mapping with the fields `count`, `mu` and `nu`, it is read
    as Adam's, because those of AdaBelief and NovoGrad have the same fields.

    Args:
      opt_state: An optimizer state, after at least one update.
      b2: Decay of the second moment, from 0 to 1: `decay` of RMSProp and `b3` of Adan. By default
        the value that the state holds, or else Optax's default.
      eps: A number added to the root, at least 0. By default as for `b2`.
      eps_root: A number added inside of the root, at least 0: `eps` of RMSProp and Adagrad. By
        default as for `b2`.

    Returns:
      A tree like the parameters, in float32 or better. Parameters whose updates are not divided
      have an `optax.MaskedNode` in their place; `lrax.probes.sharpness` refuses such a tree. NaN
      before the first update if the optimizer corrects a bias. Infinite where the sum of Adagrad
      is still zero.

    Raises:
      ValueError: if the state holds no second moments, or two of them for the same parameters, or a
        concrete constant is out of its range.
      TypeError: if a constant is not a number.

    Example:
      >>> optimizer = optax.adam(1e-3)
      >>> params = jnp.array([1.0, -2.0])
      >>> _, state = optimizer.update(jnp.array([0.5, -0.25]), optimizer.init(params))
      >>> print(lrax.probes.preconditioner(state))
      [0.5  0.25]

    Reference:
      Cohen et al., "Adaptive gradient methods at the edge of stability", arXiv 2207.14484.
    """
    given = checked(b2=b2, eps=eps, eps_root=eps_root)
    trees = [part.divisors for part in read(opt_state, given) if part.has_moments]
    if not trees:
        raise ValueError(
            "`opt_state` must hold second moments, as those of Adam and RMSProp do, got a state"
            " without any"
        )
    return merged(trees)
