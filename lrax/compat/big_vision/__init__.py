"""big_vision's `create_learning_rate_schedule`, under its own argument names."""

from .schedule import cooldown_factor, create_learning_rate_schedule

__all__ = ["cooldown_factor", "create_learning_rate_schedule"]
