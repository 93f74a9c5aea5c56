"""`lrax.suggest`: the rate that a range test suggests."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from . import descent, peers
from .peers import Curve


class Method(NamedTuple):
    """A package's way to a rate.

    Attributes:
      rule: Chooses the index of a rate.
      words: What the package needs, for the error message if it refuses.
      divisor: What the chosen rate is divided by.
      drops: True if only the losses that are not finite are dropped; False if the curve is cut
        off at the first of them.
      shifts: Whether the package applies an index among the kept losses to the list of all rates.
        Its rate is then too low if earlier losses were dropped.
      ends: Whether the package needs a `skip_end` of at least 1. Lightning slices the losses by
        `[skip_begin:-skip_end]`, which leaves none if `skip_end` is 0.
    """

    rule: Callable[[ModuleType, Curve], Any]
    words: str
    divisor: float = 1.0
    drops: bool = False
    shifts: bool = False
    ends: bool = False


PEERS = {
    "valley": Method(peers.valley, "a finite loss"),
    "slide": Method(peers.slide, f"{peers.APART + 1} finite losses"),
    "minimum": Method(peers.minimum, "a finite loss", divisor=10.0),
    "steep": Method(peers.steep, "2 finite losses"),
    "torch_lr_finder": Method(peers.steepest, "2 finite losses"),
    "lightning": Method(peers.by_rate, "2 finite losses", drops=True, ends=True),
    "lightning_252": Method(peers.steepest, "2 finite losses", drops=True, shifts=True, ends=True),
    "ignite": Method(peers.falling, "3 losses up to the lowest one"),
}
METHODS = ("lrax", *PEERS)


def suggest(
    rates: ArrayLike,
    losses: ArrayLike,
    method: str = "lrax",
    *,
    skip_start: int = 0,
    skip_end: int = 0,
) -> float | jax.Array:
    r"""The learning rate that a range test suggests, by lrax's rule or by another package's.

    $$\eta = \tfrac12 \, \text{rates}[\arg\min_t s_t], \quad
    s_t = \frac{\sum_i \beta^{|t - i|} \ell_i}{\sum_i \beta^{|t - i|}}, \quad \beta = 0.9$$

    Use it on the rates and losses of `lrax.range_test`, or of a loop of your own with
    `lrax.range_ramp`. The default refuses where the loss does not fall by more than its noise. A
    range test is a first guess, often off by a factor of two and sometimes by more: let a
    `lrax.sweep` around it decide.

    | `method` | rate | package |
    |---|---|---|
    | `"lrax"` | half of the rate of the lowest smoothed loss | |
    | `"valley"` | about halfway along the longest run of falling losses | fastai's default |
    | `"slide"` | where the slope begins to settle, seen from the end | fastai |
    | `"minimum"` | a tenth of the rate of the lowest loss | fastai |
    | `"steep"` | steepest descent in the logarithm of the rate | fastai |
    | `"torch_lr_finder"` | steepest descent from index to index | torch-lr-finder |
    | `"lightning"` | steepest descent in the rate itself | Lightning since 2.5.3 |
    | `"lightning_252"` | steepest descent from index to index | Lightning before 2.5.3 |
    | `"ignite"` | steepest descent before the lowest loss | ignite's `FastaiLRFinder` |

    A package's method gives that package's number, however bad. `"lightning"` favours the lowest
    rates by decades, and `"valley"` gives the first rate of a curve that only rises. The packages
    smooth the curve before they apply these rules, so smooth it first (`lrax.probes.smooth`).

    Args:
      rates: `[n]`, rates in ascending order, above 0.
      losses: `[n]`, the loss at each rate. After the skips, the curve is cut off at the first loss
        that is not finite. Lightning's methods only drop such losses.
      method: A name from the table.
      skip_start: Points to leave out at the start, at least 0. The packages' defaults are `n // 10`
        (fastai) and 10 (Lightning, torch-lr-finder).
      skip_end: Points to leave out at the end, at least 0. The packages' defaults are 5 (fastai,
        torch-lr-finder) and 1 (Lightning, which needs at least 1).

    Returns:
      The rate: a float, in double precision; or a JAX scalar if `rates` or `losses` is traced. A
      traced call gives NaN if the method refuses.

    Raises:
      ValueError: if the method refuses: the package raises an error or returns None, or with
        "lrax" the loss does not fall. Also if `rates` and `losses` are not two lists of the same
        length, `rates` are not positive and ascending, `method` is unknown, or a skip is negative.
      TypeError: if an argument is not as described.

    Example:
      >>> rates = lrax.log_grid(1e-5, 10.0, 61)
      >>> losses = 2.0 - rates / (rates + 0.01) + 3.0 * rates**2
      >>> for method in ("lrax", "minimum", "valley"):
      ...     print(f"{method}: {lrax.suggest(rates, losses, method):.2g}")
      lrax: 0.032
      minimum: 0.01
      valley: 0.00063

    Reference:
      Smith. Cyclical Learning Rates for Training Neural Networks. 2015, arXiv:1506.01186. The
      packages' own code: fastai 2.8, Lightning 2.6 and 2.5.2, ignite 0.5, torch-lr-finder 0.2.
    """
    _require.choice("method", method, METHODS)
    skip_start = _require.count("skip_start", skip_start, 0)
    skip_end = _require.count("skip_end", skip_end, 0)
    xp, all_rates, all_losses = _checked(rates, losses)
    part = slice(skip_start, max(len(all_rates) - skip_end, skip_start))
    cut = Curve(all_rates[part], all_losses[part], 0)
    if method == "lrax":
        curve, _ = valid(xp, cut, drops=False)
        found = descent.read(xp, curve)
        if xp is jnp:
            if len(curve.rates) == 0:
                return jnp.full((), jnp.nan, _require.float_dtype())
            rate = descent.SHARE * curve.rates[found.index]
            return jnp.where(found.no_descent, jnp.nan, rate)
        why = refusal(found, curve)
        if why:
            raise ValueError(why)
        return float(descent.SHARE * curve.rates[found.index])
    return _of_peer(xp, method, cut, all_rates, skip_start, skip_end)


def refusal(found: descent.Reading, curve: Curve) -> str:
    """Why `"lrax"` suggests no rate; "" if it suggests one."""
    if found.few:
        return (
            f"`losses` must have at least {descent.FEWEST} finite values before the first one that"
            f" is not finite, after the skips, got {curve.count}"
        )
    if not found.no_descent:
        return ""
    low, high = curve.rates[0], curve.rates[int(curve.count) - 1]
    if found.hit_lower_edge:
        return (
            "`losses` must fall somewhere by more than their noise, got a curve that only rises"
            f" from the rate {low:.2g} on: begin the range test at a lower rate"
        )
    return (
        "`losses` must fall somewhere by more than their noise, got a curve that is flat from the"
        f" rate {low:.2g} to {high:.2g}: widen the range, take more steps, or look for why the task"
        " does not learn"
    )


def valid(xp: ModuleType, curve: Curve, drops: bool) -> tuple[Curve, Any]:
    """Puts the losses that count in front, and keeps the length, which tracing requires.

    Returns:
      The curve, and `[n]`, the old index of each of its losses. The losses that do not count are 0,
      so that nothing is computed with a NaN.
    """
    finite = xp.isfinite(curve.losses)
    if drops:
        order = xp.argsort(~finite, stable=True)
        rates, losses = curve.rates[order], curve.losses[order]
        count = xp.sum(finite)
    else:
        order = np.arange(len(curve.losses))
        rates, losses = curve.rates, curve.losses
        count = xp.sum(xp.cumsum(~finite) == 0)
    counted = np.arange(len(losses)) < count
    return Curve(rates, xp.where(counted, losses, 0), count), order


def _of_peer(
    xp: ModuleType, name: str, cut: Curve, all_rates: Any, skip_start: int, skip_end: int
) -> float | jax.Array:
    """The rate that a package suggests."""
    method = PEERS[name]
    if len(cut.rates) == 0 or (method.ends and skip_end == 0):
        index = xp.asarray(-1)
        order = np.zeros(1, int)
    else:
        curve, order = valid(xp, cut, method.drops)
        index = method.rule(xp, curve)
    refused = index < 0
    # A traced call cannot stop here if the method refuses. It takes index 0, and returns NaN below.
    at = xp.maximum(index, 0)
    at = skip_start + (at if method.shifts else xp.asarray(order)[at])
    rate = all_rates[xp.minimum(at, len(all_rates) - 1)] / method.divisor
    if xp is jnp:
        return jnp.where(refused, jnp.nan, rate)
    if refused:
        if method.ends and skip_end == 0:
            raise ValueError(f"`skip_end` must be at least 1 for {name!r}, as in Lightning, got 0")
        raise ValueError(
            f"`losses` must have {method.words} for {name!r}, after the skips, got"
            f" {_shown(cut.losses)}"
        )
    return float(rate)


def _checked(rates: Any, losses: Any) -> tuple[ModuleType, Any, Any]:
    """Checks both lists. Returns NumPy, or JAX if one is traced, and the lists as its arrays."""
    xp = jnp if isinstance(rates, Tracer) or isinstance(losses, Tracer) else np
    found = {}
    for name, value in (("rates", rates), ("losses", losses)):
        numbers = value if isinstance(value, Tracer) else _require.as_numbers(value)
        if numbers is None or not jnp.issubdtype(numbers.dtype, jnp.number):
            raise TypeError(f"`{name}` must be a list of real numbers, got {value!r}")
        if isinstance(numbers, np.ndarray):
            numbers = numbers.astype(np.float64)
        found[name] = numbers
    _require.vector(found, "rates", "losses")
    _require.positive(found, "rates")
    _require.ascending(found, "rates")
    dtype = _require.float_dtype() if xp is jnp else np.float64
    return xp, xp.asarray(found["rates"], dtype), xp.asarray(found["losses"], dtype)


def _shown(losses: np.ndarray) -> str:
    """The losses as text, in brief."""
    return np.array2string(losses, threshold=8, edgeitems=3, precision=4)
