"""Every rule and every learning-rate-free method descends a quadratic and Rosenbrock's valley."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax
from lrax import controllers, lr_free

STEPS = 3000
HESSIAN = np.geomspace(10.0, 1000.0, 8)  # as steep as the valley


def quadratic(x):
    return jnp.sum(jnp.asarray(HESSIAN, x.dtype) * x**2) / 2


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


LOSSES = {"quadratic": (quadratic, np.ones(8)), "valley": (rosenbrock, np.array([-1.2, 1.0]))}


def over_adam(rule):
    return optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(0.03 * rule))


# Plain descent where a rule sets the rate by itself, and Adam's direction otherwise.
RULES = {
    "plateau": lambda: over_adam(controllers.plateau(factor=0.5, patience=100)),
    "greedy": lambda: over_adam(controllers.greedy(patience=50)),
    "velocity": lambda: over_adam(controllers.velocity()),
    "auto_cooldown": lambda: over_adam(controllers.auto_cooldown(500)),
    "back_off": lambda: over_adam(controllers.back_off()),
    "critical": lambda: lrax.scale_by_lr(controllers.critical(fraction=0.5, every=1, decay=0.0)),
    "additive": lambda: over_adam(controllers.hypergradient(1.0, 1e-4)),
    "multiplicative": lambda: over_adam(
        controllers.hypergradient(1.0, 1e-3, kind="multiplicative")
    ),
    "hdm": lambda: lrax.scale_by_lr(controllers.hypergradient(0.0, 0.1, kind="hdm")),
    "polyak": lambda: lrax.scale_by_lr(controllers.polyak()),
    "adgd": lambda: lrax.scale_by_lr(controllers.adgd(1e-4)),
    "barzilai_borwein": lambda: lrax.scale_by_lr(controllers.barzilai_borwein(1e-4)),
}
falling = lambda peak: lrax.warmup_cosine(peak, STEPS, 20)
FREE = {
    "prodigy": lambda: lr_free.prodigy(falling(1.0)),
    "dadapt_adam": lambda: lr_free.dadapt_adam(falling(1.0)),
    "dog": lr_free.dog,
    "momo": lambda: lr_free.momo(1.0),
    "momo_adam": lambda: lr_free.momo_adam(0.03),
    "schedule_free_sgd": lambda: lr_free.schedule_free_sgd(0.002),
    "schedule_free_adamw": lambda: lr_free.schedule_free_adamw(0.03, weight_decay=0.0),
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def descended(make, loss, start):
    """The parameters in training after all updates, and the optimizer's state."""
    optimizer = make()

    def body(carry, _):
        params, state = carry
        value, grad = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(
            grad, state, params, value=value, grad=grad, value_fn=loss, grad_fn=jax.grad(loss)
        )
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(body, (start, optimizer.init(start)), length=STEPS)[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", RULES | FREE)
def test_it_comes_near_the_minimum(name, kind):
    loss, start = LOSSES[kind]
    start = jnp.asarray(start, jnp.float32)
    params, state = descended((RULES | FREE)[name], loss, start)
    if name.startswith("schedule_free"):
        params = lr_free.schedule_free_eval_params(state, params)
    assert float(loss(params)) < 0.01 * float(loss(start))


def test_every_rule_and_every_method_is_in_the_tables():
    # Those that keep updates within bounds, and what begins a cooldown, decide no rate of their own.
    others = {"skip_spikes", "clip_spikes", "restore_after_spikes", "cooldown_on", "kl"}
    kinds = {"additive", "multiplicative", "hdm"}
    assert set(RULES) - kinds | {"hypergradient"} == set(controllers.__all__) - others
    helpers = {"polynomial_average", "schedule_free_eval_params"}
    assert set(FREE) == set(lr_free.__all__) - helpers
