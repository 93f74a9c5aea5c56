"""Forms of weight decay: the conversion between them, and the balance that decay leads to."""

from __future__ import annotations

from typing import NamedTuple

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, numbers, plain

FORMS = ("adamw", "independent", "corrected", "l2")


class DecayForms(NamedTuple):
    """What `decay_forms` returns: one decay, as a number for each form."""

    adamw: Number
    independent: Number
    corrected: Number
    l2: Number


class DecayBalance(NamedTuple):
    """What `decay_balance` returns: the size and rotation at which AdamW's weights settle."""

    rms: Number
    angle: Number


def decay_forms(
    lr: ArrayLike, weight_decay: ArrayLike, *, form: str = "adamw", momentum: ArrayLike = 0.0
) -> DecayForms:
    r"""One weight decay as the number that each form of it takes.

    The forms differ in what an update at the rate lr_t subtracts from the weights w:

    | form | subtracted | its number, from that of "adamw" | in Optax |
    |---|---|---|---|
    | adamw | lr_t d w | d | `optax.adamw(schedule, weight_decay=d)` |
    | independent | (lr_t / lr) d w | lr d | `optax.adamw(schedule, weight_decay=d / lr)` |
    | corrected | (lr_t^2 / lr) d w | d | `lrax.scaling.corrected_decay` |
    | l2 | with the gradient | (1 - momentum) d | `add_decayed_weights(d)` before `sgd(schedule)` |

    where d is the decay of "adamw", and `lr` the peak of the schedule. Use it to carry a decay from
    one framework or paper to another. At the peak all forms subtract the same. The form decides
    what happens when the peak rate changes: with the number of "independent" kept, the time over
    which weights are forgotten stays, and with that of "adamw" it changes with the rate.
    "corrected" is AdamC, for layers that a normalisation follows.

    The conversion has limits. Away from the peak, "corrected" decays less than the others do.
    "l2" is for SGD, with heavy-ball momentum as in `optax.sgd(schedule, momentum)`, and for
    `lr * weight_decay` far below 1 - momentum. L2 regularisation under Adam has no equivalent here,
    because Adam divides it by the second moment. The paper of AdamW has the independent form;
    AdamW of PyTorch, Optax and Keras has the form "adamw".

    Args:
      lr: The rate, at the peak of its schedule, above 0.
      weight_decay: The decay, at least 0, as the number of `form`.
      form: "adamw", "independent", "corrected" or "l2".
      momentum: For "l2" only: the momentum of SGD, at least 0 and below 1.

    Returns:
      A `DecayForms` of `adamw`, `independent`, `corrected` and `l2`.

    Raises:
      ValueError: if a concrete number is out of its range, `form` is unknown, or shapes do not
        broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> lrax.scaling.decay_forms(0.001, 0.1)
      DecayForms(adamw=0.1, independent=0.0001, corrected=0.1, l2=0.1)
      >>> decay = lrax.scaling.decay_forms(0.002, 1e-4, form="independent")
      >>> optimizer = optax.adamw(lrax.cosine(0.002, steps=1000), weight_decay=decay.adamw)

    Reference:
      Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101; Wortsman et
      al., "Small-scale proxies for large-scale transformer training instabilities", arXiv
      2309.14322, for "independent"; Defazio, "Why gradients rapidly increase near the end of
      training", arXiv 2506.02285, for "corrected".
    """
    _require.choice("form", form, FORMS)
    leaves = numbers(lr=lr, weight_decay=weight_decay, momentum=momentum)
    _require.positive(leaves, "lr")
    _require.nonnegative(leaves, "weight_decay")
    _require.below_one(leaves, "momentum")
    given = leaves["weight_decay"]
    left = 1 - leaves["momentum"]
    shares = {"independent": leaves["lr"], "l2": left}
    adamw = given / shares[form] if form in shares else given
    return DecayForms(
        adamw=plain(adamw),
        independent=plain(leaves["lr"] * adamw),
        corrected=plain(adamw),
        l2=plain(left * adamw),
    )


def decay_balance(lr: ArrayLike, weight_decay: ArrayLike, *, b1: ArrayLike = 0.9) -> DecayBalance:
    r"""The size and the rotation at which AdamW holds the weights of a normalised layer.

    $$\text{rms} = \sqrt{\frac{\text{lr}}{2 \, \text{weight\_decay}}}, \qquad
      \text{angle} = \sqrt{2 \, \text{lr} \cdot \text{weight\_decay} \,
        \frac{1 - \text{b1}}{1 + \text{b1}}}$$

    Updates make the weights grow, and decay shrinks them. Where a normalisation follows, the two
    balance after a few times 1 / (2 lr weight_decay) updates, whatever the gradients are. Then each
    update turns the weights by `angle` radians. Use it to see what a pair of rate and decay does:
    pairs with the same product turn weights equally fast, so a lower rate needs a higher decay.
    `angle` is also a first rate for `lrax.scale_by_hyperball` after Adam with the same `b1`. As the
    rate falls, so does `rms`, and gradients grow by its inverse. `lrax.scaling.corrected_decay`
    keeps `rms` constant.

    The formulas do not hold where gradients of successive updates point the same way (`rms` is
    then larger), nor for weights that no normalisation follows. They need `lr * weight_decay` far
    below 1. With a schedule, the balance follows only if the rate changes
    more slowly than the weights are forgotten (`decay_timescale`).

    Args:
      lr: The rate, above 0.
      weight_decay: The decay of AdamW as in `optax.adamw`, above 0.
      b1: The decay of the first moment, at least 0 and below 1.

    Returns:
      A `DecayBalance` of `rms`, of the weights, and `angle`, in radians per update.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> balance = lrax.scaling.decay_balance(0.001, 0.1)
      >>> print(f"{balance.rms:.3f} {balance.angle:.5f}")
      0.071 0.00324

    Reference:
      Kosson, Messmer and Jaggi, "Rotational equilibrium: how weight decay balances learning across
      neural networks", arXiv 2305.17212; Defazio, arXiv 2506.02285.
    """
    leaves = numbers(lr=lr, weight_decay=weight_decay, b1=b1)
    _require.positive(leaves, "lr", "weight_decay")
    _require.below_one(leaves, "b1")
    lr, weight_decay, b1 = leaves["lr"], leaves["weight_decay"], leaves["b1"]
    turned = 2 * lr * weight_decay * (1 - b1) / (1 + b1)
    return DecayBalance(rms=plain((lr / (2 * weight_decay)) ** 0.5), angle=plain(turned**0.5))
