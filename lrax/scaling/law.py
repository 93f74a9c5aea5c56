"""The arithmetic of `fit`: a weighted linear law of logarithms, and a bootstrap of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..sweeps.optimum import CONFIDENCE, QUANTILE
from .optima import Optimum
from .setting import AXES, Setting

Priors = dict[str, tuple[float, float]]  # {field: (mean, standard deviation)}

DRAWS = 4000  # of the bootstrap
SEED = 0  # of the bootstrap, so that the same results give the same interval
# Where the optima disagree with the law, intervals grow with the mean square residual. In that mean
# the optima's own intervals count as this many residuals of the size that they state. Otherwise one
# residual, large by chance, would make intervals too wide.
TRUST = 1.0
# Singular values below this share of the largest one are rounding.
RANK = 1e-9


class Law(NamedTuple):
    """The fitted law.

    Attributes:
      names: The fields that have an exponent.
      center: The mean logarithms of these fields.
      constant: `{field: value}` of the other fields, as in all results.
      coefficients: The law: the log rate at the center, and the exponents.
      draws: The coefficients of each draw of the bootstrap, `[draws, 1 + names]`; None for bare
        numbers without a degree of freedom, which say nothing of their errors.
      misfit: As in `Fit`.
    """

    names: list[str]
    center: np.ndarray
    constant: dict[str, float | None]
    coefficients: np.ndarray
    draws: np.ndarray | None
    misfit: float

    @classmethod
    def of(
        cls,
        settings: list[Setting],
        optima: list[Optimum],
        names: list[str],
        priors: Priors,
    ) -> Law:
        """Fits the law to optima.

        Args:
          settings: Their settings.
          optima: The best rates, all with intervals or none.
          names: The fields that have an exponent.
          priors: Priors of some of these exponents.

        Raises:
          ValueError: if the settings do not determine an exponent.
        """
        logs = np.log([[getattr(each, name) for name in names] for each in settings])
        center = logs.mean(axis=0)
        # The rows of the optima, then those of the priors, which are measurements of an exponent.
        design = np.column_stack([np.ones(len(settings)), logs - center])
        known = [name for name in names if name in priors]
        prior_rows = np.zeros((len(known), len(names) + 1))
        prior_rows[np.arange(len(known)), [1 + names.index(name) for name in known]] = 1.0
        _require_determined(np.vstack([design, prior_rows]), names)
        y = np.log([optimum.rate for optimum in optima])
        means = np.array([priors[name][0] for name in known])
        below, above = _errors(optima, y)
        sd = np.concatenate([(below + above) / 2, [priors[name][1] for name in known]])
        rows = np.vstack([design, prior_rows]) / sd[:, None]
        # [1 + names, rows]: the coefficients as a linear function of the measurements.
        solve = np.linalg.pinv(rows, rcond=RANK * 1e-3) / sd
        measured = np.concatenate([y, means])
        coefficients = solve @ measured
        residuals = (measured - np.vstack([design, prior_rows]) @ coefficients) / sd
        freedom = len(measured) - len(coefficients)
        misfit = float(residuals @ residuals / freedom) if freedom else math.nan
        constant = {name: getattr(settings[0], name) for name in AXES if name not in names}
        law = cls(names, center, constant, coefficients, None, misfit)
        random = np.random.default_rng(SEED)
        if optima[0].low is None:
            if not freedom:
                return law
            # The standard deviations were set to 1, so they are estimated from the residuals alone.
            scale = misfit * freedom / random.chisquare(freedom, (DRAWS, 1))
            law = law._replace(misfit=math.nan)
        else:
            # Small residuals make no interval narrower than the optima's own.
            pooled = (TRUST + residuals @ residuals) / (TRUST + freedom)
            scale = np.full((DRAWS, 1), max(1.0, pooled))
        # Where the true values may lie: a normal distribution, with a width of its own on each
        # side. With bare numbers it is Student's, because the scale is not known.
        normal = random.standard_normal((DRAWS, len(measured)))
        narrow = np.concatenate([below, sd[len(below) :]])
        wide = np.concatenate([above, sd[len(above) :]])
        moved = measured + np.sqrt(scale) * normal * np.where(normal < 0, narrow, wide)
        return law._replace(draws=moved @ solve.T)

    def row(self, setting: Setting) -> np.ndarray:
        """A setting as a row of the design."""
        for name, value in self.constant.items():
            given = getattr(setting, name)
            if given is not None and given != value:
                were = "not given" if value is None else f"{value:g}"
                raise ValueError(
                    f"`setting` must have the {name} of all results, which was {were}: they do not"
                    f" tell how the rate depends on it, got {given:g}"
                )
        given = [getattr(setting, name) for name in self.names]
        if None in given:
            raise ValueError(
                f"`setting` must have a value for each of {', '.join(self.names)}, got {setting}"
            )
        return np.array([1.0, *(np.log(given) - self.center)])

    def ends(self, row: np.ndarray) -> tuple[float, float, float]:
        """A linear function of the coefficients, with its interval."""
        value = float(row @ self.coefficients)
        if self.draws is None:
            return value, -math.inf, math.inf
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(self.draws @ row, [tail, 1 - tail])
        return value, min(float(low), value), max(float(high), value)

    def interval(self, row: np.ndarray) -> tuple[float, float, float]:
        """The rate and its interval."""
        value, low, high = self.ends(row)
        return math.exp(value), math.exp(low), math.exp(high)


def _errors(optima: list[Optimum], y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The standard deviations of log rates, below and above; 1 where they are not known."""
    if optima[0].low is None:
        return np.ones(len(y)), np.ones(len(y))
    low, high = np.log(np.array([optimum[1:] for optimum in optima], np.float64)).T
    # An interval of no width would have all the weight, and a division by 0.
    least = 1e-6
    return np.maximum(y - low, least) / QUANTILE, np.maximum(high - y, least) / QUANTILE


def _require_determined(rows: np.ndarray, names: list[str]) -> None:
    """Requires settings that determine the exponent of each field."""
    size = np.linalg.norm(rows, axis=0)
    _, values, directions = np.linalg.svd(rows / np.where(size > 0, size, 1.0))
    rank = int(np.sum(values > RANK * values[0]))
    free = np.abs(directions[rank:, 1:]).max(axis=0, initial=0.0)
    mixed = [name for name, share in zip(names, free, strict=True) if share > 1e-6]
    if mixed:
        what = f"the exponents of {' and '.join(mixed)}"
        why = "these fields change together" if len(mixed) > 1 else "there are too few of them"
        raise ValueError(
            f"`results` must determine {what}, but {why}: add a setting in which one of them"
            " changes alone, or give one of them in `priors`"
        )
