"""Probes: pure functions, each of which measures one thing that bears on the learning rate.

They take a loss and parameters, an optimizer state, gradients, or a curve of losses. All of them
work under `jax.jit` and `jax.vmap`. None takes a `Step`. To use a probe as a monitor, write a
function of a step that calls it:

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
