"""What one measurement says of the rate: pure functions of losses, parameters and states."""

from .critical_rate import critical_rate
from .sharpness import directional_sharpness, sharpness

__all__ = ["critical_rate", "directional_sharpness", "sharpness"]
