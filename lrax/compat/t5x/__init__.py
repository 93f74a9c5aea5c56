"""t5x's `create_learning_rate_scheduler`: a product of factors, named in a string."""

from .scheduler import create_learning_rate_scheduler

__all__ = ["create_learning_rate_scheduler"]
