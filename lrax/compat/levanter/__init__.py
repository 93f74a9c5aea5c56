"""Levanter's `OptimizerConfig.lr_scheduler`, with the names of its configuration as arguments."""

from .scheduler import lr_scheduler

__all__ = ["lr_scheduler"]
