"""What one measurement says of the rate: pure functions of a loss, parameters and states.

All of them can be compiled and mapped over lanes. None takes a `Step`. A monitor is a function of a
step that calls one:

    sharp = lambda step: lrax.probes.directional_sharpness(
        lambda params: task.loss(params, step.batch), step.params
    )
    lrax.sweep(task, optax.sgd, rates, steps=1000, monitors={"sharp": sharp}, record_every=20)
"""

from .critical_rate import critical_rate
from .curves import diverged_at, smooth
from .effective_rates import effective_rates
from .landscape import landscape
from .noise_scale import critical_batch, noise_scale
from .preconditioner import preconditioner
from .sharpness import directional_sharpness, sharpness
from .stability import max_stable_rate

__all__ = [
    "critical_batch",
    "critical_rate",
    "directional_sharpness",
    "diverged_at",
    "effective_rates",
    "landscape",
    "max_stable_rate",
    "noise_scale",
    "preconditioner",
    "sharpness",
    "smooth",
]
