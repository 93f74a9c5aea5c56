"""`fit`: a power law of the best rate, from your own sweeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _require
from ..display import tables
from .law import Law, Priors
from .optima import as_setting, pairs
from .published import POWER_SD, POWERS
from .setting import AXES, Setting

Result = Any  # a SweepResult, a Found, an Optimum, (rate, low, high), or a number

# The optima disagree with the law if their mean square residual, in units of their standard
# deviations, is above this. Of laws that hold, one in twenty is above it with 4 degrees of freedom.
MISFIT = 2.37


class Predicted(NamedTuple):
    """What `Fit.predict` returns: the rate, and the 95 % interval of the best rate."""

    rate: float
    low: float
    high: float


class Exponent(NamedTuple):
    """The power of a field of the setting by which the best rate grows, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Fit:
    """What `fit` returns: a law of the best rate. It prints as a table.

    Attributes:
      exponents: `{field: (value, low, high)}` for each field of the settings that varies or has a
        prior, with 95 % intervals.
      settings: The settings of the results.
      rates: The best rates of the results, `[results]`.
      misfit: The mean square residual of the optima in units of their standard deviations; about 1
        or less if the law holds. NaN for bare numbers, and if no degrees of freedom are left.
    """

    exponents: dict[str, Exponent]
    settings: list[Setting]
    rates: np.ndarray
    misfit: float
    _law: Law

    def predict(self, setting: Setting) -> Predicted:
        """The best rate in another setting, with its interval.

        The interval holds if the law does. `warnings(setting)` lists what speaks against the law.

        Args:
          setting: The setting, with a value for each field of `exponents`. Other fields must be as
            in the results.

        Returns:
          `(rate, low, high)`: the rate and the ends of its 95 % interval.

        Raises:
          ValueError: if a field is missing, or a fixed one differs from the results.
          TypeError: if `setting` is not a `Setting`.
        """
        row = self._law.row(as_setting("setting", setting))
        return Predicted(*self._law.interval(row))

    def warnings(self, setting: Setting) -> list[str]:
        """Sentences: why the interval of a prediction may be wrong. An empty list is a good sign.

        Args:
          setting: As for `predict`.
        """
        self._law.row(as_setting("setting", setting))
        found = []
        for name in self.exponents:
            known = [getattr(each, name) for each in self.settings]
            low, high, value = min(known), max(known), getattr(setting, name)
            if value > high:
                words = f"{value / high:.3g} times the largest of the results, {high:g}"
            elif value < low:
                words = f"1/{low / value:.3g} of the least of the results, {low:g}"
            else:
                continue
            found.append(f"extrapolates: {name} {value:g} is {words}")
            if len(set(known)) < 3:
                found.append(
                    f"{len(set(known))} value{'s' * (len(set(known)) > 1)} of {name} cannot show"
                    " whether the law bends"
                )
        if self.misfit > MISFIT:
            found.append(
                f"the optima disagree with a power law: their residuals are {self.misfit**0.5:.2g}"
                " times as large as their intervals say"
            )
        return found

    def __str__(self) -> str:
        rows = [["field", "exponent", "from", "to", "results"]]
        for name, (value, low, high) in self.exponents.items():
            known = sorted({getattr(each, name) for each in self.settings})
            texts = ", ".join(f"{value:g}" for value in known)
            rows.append([name, f"{value:+.3f}", f"{low:+.3f}", f"{high:+.3f}", texts])
        return tables.aligned(rows)

    __repr__ = __str__


def fit(
    results: Sequence[tuple[Setting, Result]],
    *,
    priors: Mapping[str, tuple[float, float] | str] | None = None,
) -> Fit:
    r"""Fits a power law of the best rate to the optima of your own sweeps.

    $$\log \text{rate} = c + a_N \log N + a_L \log L + a_B \log B + a_D \log D$$

    with the fields of the setting that vary: width N, depth L, batch B and tokens D. The optima are
    weighted by their intervals. For the intervals of the law, optima are drawn from their own
    intervals 4000 times, and the law is fitted to each draw. The intervals of the law are wider
    where the optima disagree with it by more than their own intervals say.

    Use it where published rules disagree, above all for the horizon, where their exponents have
    both signs. Sweep three or more small settings that span a factor of 4 in each field that will
    grow, with at least three seeds, and predict the large one. Take the rate, and train at `low`
    and `high` too if that can be paid for.

    The fit is not valid where the best rate does not follow a power law: near the critical batch,
    at the limit of stability, in very narrow networks. `warnings(setting)` says what the results
    show of that.

    Args:
      results: Pairs of a `lrax.scaling.Setting` and the best rate in it: the `SweepResult` of a
        sweep over the rate alone, what `lrax.find` returned, an `Optimum`, a tuple `(rate, low,
        high)` with the 95 % interval, or a bare number. If one is a bare number, all must be:
        then their errors are taken as equal, and estimated from the residuals.
      priors: Exponents from elsewhere, `{field: (mean, standard deviation)}`, such as `{"tokens":
        (-0.3, 0.1)}`. They count like a measurement of the exponent. A field with a prior need not
        vary in the results. For tokens, the name of a published law in the table of
        `lrax.scaling.horizon` will do, such as `{"tokens": "bjorck"}`: its exponent is the mean.
        No source gives a standard deviation. 0.3 is taken, about that of the table's six exponents,
        which differ by their conditions. So results that span a factor of 4 outweigh the prior.

    Returns:
      A `Fit` with `predict(setting) -> (rate, low, high)`, `warnings(setting)` and `exponents`.
      With bare numbers and no more of them than unknowns, ends of intervals are infinite.

    Raises:
      ValueError: if the settings do not determine an exponent, an optimum is at the edge of its
        grid, or a number is out of its range.
      TypeError: if an argument is not as described.

    Example:
      >>> setting = lambda width, tokens: lrax.scaling.Setting(width=width, tokens=tokens)
      >>> law = lrax.scaling.fit(
      ...     [
      ...         (setting(64, 1e6), (0.0100, 0.0090, 0.0110)),
      ...         (setting(128, 1e6), (0.0051, 0.0046, 0.0056)),
      ...         (setting(64, 4e6), (0.0066, 0.0060, 0.0072)),
      ...         (setting(256, 1e6), (0.0025, 0.0022, 0.0028)),
      ...     ]
      ... )
      >>> round(law.exponents["width"].value, 1), round(law.exponents["tokens"].value, 1)
      (-1.0, -0.3)
      >>> rate, low, high = law.predict(setting(512, 4e6))
      >>> bool(low < rate < high < 0.0015)
      True
      >>> law.warnings(setting(512, 1e6))
      ['extrapolates: width 512 is 2 times the largest of the results, 256']

      One setting, and a published law for the tokens:

      >>> one = [(setting(64, 1e6), (0.0100, 0.0090, 0.0110))]
      >>> law = lrax.scaling.fit(one, priors={"tokens": "bjorck"})
      >>> print(f"{law.predict(setting(64, 4e6)).rate:.4f}")
      0.0064

    Reference:
      The form of the law is that of Bi et al., "DeepSeek LLM", arXiv 2401.02954, and of Li et al.,
      "Predictable scale", arXiv 2503.04715. Birge, "The calculation of errors by the method of
      least squares" (1932), for intervals that grow with the residuals.
    """
    settings, optima = pairs(results)
    known = _priors(priors, settings)
    names = _varying(settings, known)
    bare = [optimum.low is None for optimum in optima]
    if any(bare) and not all(bare):
        raise ValueError("`results` must all have intervals, or all be bare numbers, got both")
    if all(bare) and known:
        raise ValueError(
            "`results` must have intervals, (rate, low, high), where `priors` are given: without"
            " them nothing says how much a measured exponent weighs against a prior"
        )
    law = Law.of(settings, optima, names, known)
    exponents = {}
    for i, name in enumerate(names, 1):
        unit = np.zeros(len(names) + 1)
        unit[i] = 1.0
        exponents[name] = Exponent(*law.ends(unit))
    rates = np.array([optimum.rate for optimum in optima])
    return Fit(exponents=exponents, settings=settings, rates=rates, misfit=law.misfit, _law=law)


def _varying(settings: list[Setting], priors: Priors) -> list[str]:
    """The fields that have an exponent."""
    names = []
    for name in AXES:
        values = {getattr(setting, name) for setting in settings}
        if None in values and len(values) > 1:
            raise ValueError(
                f"`results` must have a {name} in all settings or in none, got"
                f" {[getattr(setting, name) for setting in settings]}"
            )
        if name in priors and None in values:
            raise ValueError(f"`priors` must be of fields that the settings have, got {name!r}")
        if len(values) > 1 or name in priors:
            names.append(name)
    if not names:
        raise ValueError(
            "`results` must differ in a field of their settings, or have one with `priors`, got"
            f" {len(settings)} of {settings[0]}"
        )
    return names


def _priors(priors: _require.Unchecked, settings: list[Setting]) -> Priors:
    if priors is None:
        return {}
    if not isinstance(priors, Mapping):
        raise TypeError(
            "`priors` must be {field: (mean, standard deviation)} or {'tokens': name}, got"
            f" {priors!r}"
        )
    found = {}
    for name, pair in priors.items():
        _require.choice("priors", name, AXES)
        if isinstance(pair, str):
            found[name] = _published(name, pair, settings)
            continue
        pair = _require.listed(f"priors[{name!r}]", pair)
        if len(pair) != 2:
            raise ValueError(f"`priors[{name!r}]` must be (mean, standard deviation), got {pair}")
        mean, sd = (_require.number(f"priors[{name!r}]", value) for value in pair)
        _require.finite({"priors": mean}, "priors")
        _require.positive({"priors": sd}, "priors")
        found[name] = (mean, sd)
    return found


def _published(field: str, law: str, settings: list[Setting]) -> tuple[float, float]:
    """The prior by the name of a published law."""
    if field != "tokens":
        raise ValueError(
            f"`priors[{field!r}]` must be (mean, standard deviation), because the published laws"
            f" with a name are of tokens, got {law!r}"
        )
    _require.choice("priors['tokens']", law, POWERS)
    # The exponent of this fit is at a fixed batch if the settings have one.
    if not POWERS[law].fixed_batch and any(each.batch is not None for each in settings):
        raise ValueError(
            "`priors['tokens']` must be a law for a fixed batch where the settings of `results`"
            f" have one, got {law!r}: {POWERS[law].condition}"
        )
    return POWERS[law].exponent, POWER_SD
