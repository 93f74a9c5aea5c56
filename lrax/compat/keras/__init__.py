"""The schedules of Keras 3 (`keras.optimizers.schedules`), by name, argument and default.

Keras rounds to float32, its cosines on some backends even under float64; here its formulas are
exact. Its `name` is accepted and not used, so that
`lrax.compat.keras.CosineDecay(**schedule.get_config())` translates a schedule.
"""

from .cosine import CosineDecay, CosineDecayRestarts
from .decays import ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
]
