"""MaxText's `create_learning_rate_schedule`, with the names of its configuration as arguments."""

from .schedule import create_learning_rate_schedule

__all__ = ["create_learning_rate_schedule"]
