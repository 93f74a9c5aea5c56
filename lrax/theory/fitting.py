"""`fit_law`: the numbers of a loss-curve law, fitted to curves that were measured."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..schedules.schedule import Schedule
from .functional import functional, functional_law
from .laws import annealing, annealing_law, changes_of, multi_power, multi_power_law

Numbers = dict[str, float]

HUBER = 1e-3  # larger residuals of the logarithm count linearly, as in the authors' fit
# A curve is averaged over stretches, to at most `POINTS` values. Starting points are compared with
# `FEW` values, which takes a fifth of the time. The interval follows from the errors of `FEW`
# values, which have less noise: noise tells nothing of other schedules.
POINTS = 256
FEW = 48
LEAST = 8  # measured losses in a curve
# The error at the end of another schedule, in multiples of the errors on the given curves. It is
# measured on published curves of three sizes: with 2 the interval held 94 to 96 % of the ends for
# pairs and triples of curves and two laws. Holding out each curve in turn is a worse measure: one
# curve hardly determines what a law says of another.
FARTHER = 2.0
# Small changes of the rate are merged while a law is fitted, to about this number.
CHANGES = 1000
# Starting points: the share of the least loss that remains in the end, and the gain when the rate
# falls from its peak to 0, as a share of the fall of the loss.
FLOORS = (0.5, 0.9, 0.99)
GAINS = (0.05, 0.3)
# A few curves do not determine how a gain saturates: extreme numbers fit them as well and predict
# worse. So the fit is regularised towards the authors' starting values of `beta` and `gamma`, with
# this weight for each loss. `power` of the functional law has the value of `beta`, because it acts
# like `beta` of the multi-power law.
EXPECTED = {"beta": 0.5, "gamma": 0.5, "power": 0.5}
PRIOR_WEIGHT = 3.0
# Limits of the numbers, whose logarithms are fitted to rates with a largest sum of 1. Beyond these
# limits a law hardly changes.
SMALL = 1e-6
LARGE = 1e9
POWERS = (1e-2, 10.0)


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """A law of loss curves with the numbers that `fit_law` found.

    Attributes:
      name: The law: "annealing", "multi_power" or "fsl".
      numbers: Its numbers: the arguments of `annealing_law`, `multi_power_law` or `functional_law`.
      r2: The share of the variance of the given losses that the law explains, the mean over curves;
        1 is perfect. On other schedules it is lower.
      interval: `(low, high)`: with a confidence of 95 %, the loss at the end of another schedule is
        between these multiples of the prediction. It follows from the errors on the given curves,
        which are about half of those at the ends of others, and from the number of schedules. With
        one schedule it is `(0, inf)`, because one curve says nothing about others. It assumes that
        the given schedules differ, and that the others are much like them. On the published curves
        of `python -m tests.benchmarks.laws`, the interval of two curves held more than 99 % of the
        other ends for "annealing" and 96 % for "multi_power" and "fsl".
      steps: The updates of the longest given curve, up to its last measured loss.
    """

    name: str
    numbers: Numbers
    r2: float
    interval: tuple[float, float]
    steps: int

    def predict(self, schedule: Schedule | ArrayLike, steps: int | None = None) -> jax.Array:
        """The loss after each update of a schedule.

        Use it for schedules like the ones the law was fitted to: of the same task, optimizer and
        batch size, with a peak that is not above theirs. It can be differentiated in every rate.

        Args:
          schedule: A `Schedule`, or the rates of all updates, at least 0, shape `[steps]`.
          steps: How many updates of a `Schedule`, at least 1. By default as many as in the longest
            curve that was given.

        Returns:
          The losses, shape `[steps]`.

        Raises:
          ValueError: if a concrete rate is negative or not finite, all are 0, or `steps` is given
            for rates and is not their number.
          TypeError: if an argument is not as described.

        Example:
          >>> rates = np.geomspace(0.1, 0.01, 50)
          >>> curve = 1 + 0.3 * np.cumsum(rates) ** -0.5
          >>> law = lrax.theory.fit_law("annealing", [rates], [curve])
          >>> print(law.predict(rates)[-1].round(2), curve[-1].round(2))
          1.21 1.21
        """
        rates = rates_of("schedule", schedule, steps, self.steps)
        laws = {"annealing": annealing_law, "multi_power": multi_power_law, "fsl": functional_law}
        return laws[self.name](rates, **self.numbers)

    def final(self, rates: jax.Array) -> jax.Array:
        """The loss after the last update, without checks: much cheaper for traced `rates`."""
        last = np.array([np.shape(rates)[0] - 1])
        return _predicted(self.name, rates, last, changes_of(rates), **self.numbers)[0]


def fit_law(
    name: str,
    schedules: Sequence[Schedule | ArrayLike],
    losses: Sequence[ArrayLike],
    *,
    steps: Sequence[ArrayLike] | None = None,
) -> FittedLaw:
    r"""Fits a law of loss curves to some curves, so that it predicts those of other schedules.

    $$\min_\theta \sum \text{Huber}_{0.001}\big(\log \ell_s - \log L_s(\theta)\big)$$

    over all measured losses $\ell$, with every number of the law $L$ above 0. Use it to choose a
    schedule without training with it. Give it two or three curves of the same task with schedules
    that differ: a constant rate, a cosine, and a rate that drops in one step are the authors'
    choice. One schedule alone does not tell what a fall of the rate gains. `"annealing"` has five
    numbers; `"fsl"` has six and `"multi_power"` seven, and both are better if the curves are
    smooth. Curves hardly determine the `beta` of `"fsl"`, which stays near 2 unless they
    force another value. Its `D` is kept at 0, because curves do not show it apart from the signal.

    The laws hold after the warmup, and not for the first updates, when the loss falls from that of
    random parameters: exclude these, by NaN or by `steps`. The warmup still belongs to the
    schedules. SciPy's least squares searches from several starting points.

    Args:
      name: The law: "annealing" for `annealing_law`, "multi_power" for `multi_power_law`, "fsl" for
        `functional_law`.
      schedules: For each curve a `Schedule`, or the rates of all updates, at least 0.
      losses: For each curve the losses after the updates, above 0. NaN is a loss that was not
        measured.
      steps: For each curve the 0-based indices of the updates after which its losses were measured,
        ascending. `None` if there is a loss for each update.

    Returns:
      A `FittedLaw`, with `predict`, `interval` and `r2`.

    Raises:
      ValueError: if the lists are not equally long, a loss is not positive, a curve has fewer than
        8 measured losses at a rate above 0, or a number is out of its range.
      TypeError: if an argument is not as described.

    Example:
      >>> cosine = lrax.warmup_cosine(3e-4, steps=2000, warmup=100, end=3e-5)
      >>> step = lrax.multistep(3e-4, [1000], 0.3)
      >>> at = np.arange(100, 2000, 10)  # the updates after which the losses were measured
      >>> true = dict(L0=2.6, A=0.5, alpha=0.4, C=40.0, decay=0.99)
      >>> curves = [lrax.theory.annealing_law(s.values(2000), **true)[at] for s in (cosine, step)]
      >>> law = lrax.theory.fit_law("annealing", [cosine, step], curves, steps=[at, at])
      >>> wsd = lrax.wsd(3e-4, steps=2000, warmup=100, cooldown=400)
      >>> unseen = lrax.theory.annealing_law(wsd.values(2000), **true)
      >>> print(law.predict(wsd, 2000)[-1].round(3), unseen[-1].round(3))
      3.542 3.542

    Reference:
      Tissue, Wang, Wang. Scaling Law with Learning Rate Annealing. 2024, arXiv:2408.11029.
      Luo et al. A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules. 2025,
      arXiv:2503.12811.
      Li, Chen, Huang, Wang, Wu. Functional Scaling Laws in Kernel Regression: Loss Dynamics and
      Learning Rate Schedules. 2025, arXiv:2509.19189.
    """
    _require.choice("name", name, _LAWS)
    curves = _measured(schedules, losses, steps)
    longest = max(len(curve.rates) for curve in curves)
    unit = max(curve.rates.sum() for curve in curves)
    curves = [curve._replace(rates=curve.rates / unit) for curve in curves]
    few = [_thinned(curve, FEW) for curve in curves]
    found = [_nearest(name, few, start) for start in _starts(name, few)]
    best, _ = min(found, key=lambda pair: pair[1])
    many = [_thinned(curve, POINTS) for curve in curves]
    theta, _ = _nearest(name, many, best)
    return FittedLaw(
        name=name,
        numbers=_numbers(name, theta, unit),
        r2=float(np.mean([_explained(name, theta, curve) for curve in many])),
        interval=_interval(name, few, theta),
        steps=longest,
    )


class _Curve(NamedTuple):
    rates: np.ndarray  # [steps]
    at: np.ndarray  # [measured], after which updates
    losses: np.ndarray  # [measured]
    changes: np.ndarray  # at which updates the rate changes


def rates_of(
    name: str, schedule: Schedule | ArrayLike, steps: int | None, length: int
) -> np.ndarray | jax.Array:
    """The rates of a schedule, or the rates that were given, after checks."""
    if isinstance(schedule, Schedule):
        length = length if steps is None else _require.count("steps", steps, 1)
        rates = schedule.values(length)
        if np.ndim(rates) != 1:
            raise ValueError(f"`{name}` must have one rate for each update, got {np.shape(rates)}")
    else:
        rates = _require.real(**{name: schedule})[name]
        _require.vector({name: rates}, name)
        if steps is not None and _require.count("steps", steps, 1) != len(rates):
            raise ValueError(
                f"`{name}` must have as many rates as `steps`, got {len(rates)} and {steps}"
            )
    _require.nonnegative({name: rates}, name)
    if not isinstance(rates, Tracer) and not np.any(np.asarray(rates)):
        raise ValueError(f"`{name}` must have a rate above 0, got {schedule}")
    return rates


def _measured(schedules: Any, losses: Any, steps: Any) -> list[_Curve]:
    """The curves, once they are checked."""
    schedules = _require.listed("schedules", schedules)
    losses = _require.listed("losses", losses)
    if not schedules:
        raise ValueError("`schedules` must be at least one, got none")
    if len(losses) != len(schedules):
        raise ValueError(
            f"`schedules` and `losses` must be equally many, got {len(schedules)} and {len(losses)}"
        )
    counts = [None] * len(losses) if steps is None else _require.listed("steps", steps)
    if len(counts) != len(losses):
        raise ValueError(f"`steps` must be a list for each of {len(losses)} curves, got {steps!r}")
    curves = [_curve(*parts) for parts in zip(schedules, losses, counts, strict=True)]
    # Equally many changes, so that curves share compiled programs: the last change is repeated.
    most = max(1, *(len(curve.changes) for curve in curves))
    return [curve._replace(changes=_repeated(curve.changes, most)) for curve in curves]


def _repeated(changes: np.ndarray, length: int) -> np.ndarray:
    last = changes[-1:] if len(changes) else [0]
    return np.concatenate([changes, np.repeat(last, length - len(changes))]).astype(np.int64)


def _curve(schedule: Any, losses: Any, counts: Any) -> _Curve:
    values = _require.as_numbers(losses)
    if values is None or values.ndim != 1:
        raise TypeError(f"`losses` must hold a list of real numbers for each curve, got {losses!r}")
    known = np.isfinite(values) | np.isinf(values)
    values = values.astype(np.float64)
    if not np.all((values > 0) & (values < np.inf) | ~known):
        raise ValueError(f"`losses` must be finite and positive, or NaN, got {losses}")
    at = _counts(counts, len(values))
    rates = rates_of("schedules", schedule, None, int(at[-1]) + 1 if len(at) else 1)
    if isinstance(rates, Tracer):
        raise TypeError(f"`schedules` must be concrete, got {schedule!r}")
    rates = np.asarray(rates, np.float64)
    if len(at) and at[-1] >= len(rates):
        raise ValueError(
            f"`losses` must be of the {len(rates)} updates of its schedule in `schedules`, got one"
            f" after {at[-1]} updates"
        )
    # Before the first rate above 0 the laws have an infinite loss.
    known &= np.cumsum(rates)[at] > 0
    if known.sum() < LEAST:
        raise ValueError(
            f"`losses` must have at least {LEAST} measured values for each curve, got {known.sum()}"
        )
    return _Curve(rates, at[known], values[known], _main_changes(rates))


def _main_changes(rates: np.ndarray) -> np.ndarray:
    """The updates at which the sum of all changes has grown by another 1 / `CHANGES` of it."""
    changes = changes_of(rates)
    made = np.cumsum(np.abs(np.diff(rates)))[changes - 1]
    parts = np.floor(CHANGES * made / made[-1:])
    return changes[np.diff(parts, prepend=-1) > 0]


def _counts(counts: Any, length: int) -> np.ndarray:
    if counts is None:
        return np.arange(length)
    at = _require.as_numbers(counts)
    if at is None or at.ndim != 1 or at.dtype.kind not in "iu":
        raise TypeError(f"`steps` must hold a list of whole numbers for each curve, got {counts!r}")
    if len(at) != length or np.any(at < 0) or np.any(np.diff(at) <= 0):
        raise ValueError(
            f"`steps` must hold ascending indices of updates, one for each of {length} losses,"
            f" got {counts}"
        )
    return at


def _thinned(curve: _Curve, most: int) -> _Curve:
    """The curve averaged over stretches of successive losses, each at its middle."""
    if len(curve.at) <= most:
        return curve
    parts = np.array_split(np.arange(len(curve.at)), most)
    at = np.array([curve.at[part[len(part) // 2]] for part in parts])
    return curve._replace(at=at, losses=np.array([curve.losses[part].mean() for part in parts]))


# For each law: its numbers in the order of the vector that is fitted.
_LAWS: dict[str, tuple[str, ...]] = {
    "annealing": ("L0", "A", "alpha", "C", "left"),  # `left` is 1 - decay
    "multi_power": ("L0", "A", "alpha", "B", "C", "beta", "gamma"),
    "fsl": ("L0", "A", "alpha", "B", "C", "power"),  # `power` is 1 - 1 / beta
}
_BOUNDS = {"alpha": POWERS, "beta": POWERS, "gamma": POWERS, "left": (SMALL, 1.0)}
_BOUNDS |= {"power": (1e-2, 0.99)}


def _predicted(name: str, rates: Any, at: Any, changes: Any, **numbers: Any) -> jax.Array:
    if name == "annealing":
        return annealing(rates, **numbers)[at]
    if name == "fsl":
        return functional(rates, **numbers, D=0.0, at=at, pieces=changes)
    return multi_power(rates, **numbers, at=at, changes=changes)


@functools.partial(jax.jit, static_argnums=0)
def _compared(name: str, theta: jax.Array, rates: Any, at: Any, losses: Any, changes: Any) -> Any:
    """The derivatives of one curve's residuals in all numbers, and the residuals."""

    def residuals(theta):
        numbers = dict(zip(_LAWS[name], jnp.exp(theta), strict=True))
        if "left" in numbers:
            numbers["decay"] = 1 - numbers.pop("left")
        if "power" in numbers:
            numbers["beta"] = 1 / (1 - numbers.pop("power"))
        found = _predicted(name, rates, at, changes, **numbers)
        # During the search, a law whose falls gain too much may become negative.
        errors = jnp.log(jnp.maximum(found, 1e-3 * losses)) - jnp.log(losses)
        return errors, errors

    return jax.jacfwd(residuals, has_aux=True)(theta)


def _residuals(name: str, theta: np.ndarray, curves: list[_Curve]) -> tuple[np.ndarray, np.ndarray]:
    """The residuals of all curves, and their slopes in the logarithms of the numbers."""
    theta = np.asarray(theta, _require.float_dtype())
    pairs = [_compared(name, theta, *map(_device, curve)) for curve in curves]
    slopes, errors = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return errors.astype(np.float64), slopes.astype(np.float64)


def _device(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.int32 if values.dtype.kind == "i" else _require.float_dtype())


def _nearest(name: str, curves: list[_Curve], start: np.ndarray) -> tuple[np.ndarray, float]:
    """The numbers with the least Huber loss near a starting point, as logarithms; the loss."""
    from scipy import optimize  # imported here because it takes long

    limits = [_BOUNDS.get(number, (SMALL * SMALL, LARGE)) for number in _LAWS[name]]
    low, high = np.log(limits).T
    expected = [i for i, number in enumerate(_LAWS[name]) if number in EXPECTED]
    center = np.log([EXPECTED[_LAWS[name][i]] for i in expected])
    weight = PRIOR_WEIGHT * HUBER * np.sqrt(sum(len(curve.at) for curve in curves))
    prior_slopes = weight * np.eye(len(low))[expected]

    @functools.lru_cache(maxsize=1)  # SciPy asks for the residuals first, and then for the slopes
    def both(numbers):
        errors, slopes = _residuals(name, np.array(numbers), curves)
        prior_errors = weight * (np.array(numbers)[expected] - center)
        return np.append(errors, prior_errors), np.concatenate([slopes, prior_slopes])

    found = optimize.least_squares(
        lambda theta: both(tuple(theta))[0],
        np.clip(start, low + 1e-6, high - 1e-6),
        jac=lambda theta: both(tuple(theta))[1],  # pyright: ignore[reportArgumentType]
        bounds=(low, high),
        loss="huber",
        f_scale=HUBER,
        x_scale="jac",
        max_nfev=200,
    )
    return found.x, float(found.cost)


def _starts(name: str, curves: list[_Curve]) -> list[np.ndarray]:
    """Starting points: a line through the logarithms for each share that may remain in the end."""
    losses = np.concatenate([curve.losses for curve in curves])
    log_time = np.log(np.concatenate([np.cumsum(curve.rates)[curve.at] for curve in curves]))
    peak = max(curve.rates.max() for curve in curves)
    fallen = np.ptp(losses) + 1e-3 * losses.min()
    steps = max(len(curve.rates) for curve in curves)
    starts = []
    for share in FLOORS:
        floor = share * losses.min()
        slope, height = np.polyfit(log_time, np.log(losses - floor), 1)
        alpha = max(-slope, 0.05)
        first = [floor, np.exp(height), alpha]
        for gain in GAINS:
            if name == "annealing":
                # A fall of the rate has gained all that it gains after a tenth of the steps.
                left = 10 / steps
                starts.append([*first, gain * fallen / peak * left, min(left, 0.5)])
            elif name == "fsl":
                # The unit of time, 1 / C, is a tenth of the time at the first measured loss.
                unit = 10 * np.exp(-log_time.min())
                noise = gain * fallen / peak
                starts.append([floor, np.exp(height) * unit**alpha, alpha, noise, unit, 0.5])
            else:
                starts.append([*first, gain * fallen / peak, 10 * peak**0.5, 0.5, 0.5])
    return [np.log(start) for start in starts]


def _numbers(name: str, theta: np.ndarray, unit: float) -> Numbers:
    """The law's numbers for rates as they were given."""
    found = dict(zip(_LAWS[name], np.exp(theta), strict=True))
    if name == "fsl":
        found["B"] /= unit
        found["C"] /= unit
        found["beta"] = 1 / (1 - found.pop("power"))
        return {key: float(value) for key, value in found.items()}
    found["A"] *= unit ** found["alpha"]
    if name == "annealing":
        found["C"] /= unit
        found["decay"] = 1 - found.pop("left")
    else:
        found["B"] /= unit
        found["C"] *= unit ** (found["gamma"] - 1)
    return {key: float(value) for key, value in found.items()}


def _explained(name: str, theta: np.ndarray, curve: _Curve) -> float:
    log_ratio, _ = _residuals(name, theta, [curve])
    error = curve.losses * np.expm1(log_ratio)
    return 1 - np.sum(error**2) / max(np.sum((curve.losses - curve.losses.mean()) ** 2), 1e-300)


def _interval(name: str, curves: list[_Curve], theta: np.ndarray) -> tuple[float, float]:
    """Multiples of a prediction, by the size of the errors that the best numbers leave."""
    from scipy import stats

    schedules = len({curve.rates.tobytes() for curve in curves})
    if schedules == 1:
        return 0.0, np.inf
    # A spike of the loss, which reaches over two stretches at most, is not an error of the law.
    errors = np.concatenate([_smoothed(_residuals(name, theta, [curve])[0]) for curve in curves])
    # As in a regression, each fitted number takes one degree of freedom.
    size = np.sqrt(np.sum(errors**2) / (len(errors) - len(theta)))
    half = stats.t.ppf(0.975, schedules) * FARTHER * size
    return float(np.exp(-half)), float(np.exp(half))


def _smoothed(errors: np.ndarray) -> np.ndarray:
    """The median of each error and the two on both sides."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(errors, 2, mode="edge"), 5)
    return np.median(around, axis=1)
