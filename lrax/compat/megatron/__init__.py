"""Megatron-LM's `OptimizerParamScheduler`: the rate, and the weight decay beside it.

Megatron counts its durations in samples, and adds a global batch to the count in every update.
Divide them by the size of the batch: the rates of the updates are the same.
"""

from .scheduler import OptimizerParamScheduler, weight_decay

__all__ = ["OptimizerParamScheduler", "weight_decay"]
