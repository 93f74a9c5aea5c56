"""The rate as a function of feedback: rules for `lrax.scale_by_lr`."""

from .plateau import plateau

__all__ = ["plateau"]
