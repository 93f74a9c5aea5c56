"""A small reinforcement learner: PPO on a walk that pays for being in the middle."""

import jax
import optax
from jax import numpy as jnp

import lrax

ENVS, HORIZON, ROLLOUTS = 8, 32, 40


def chain_step(key, state, action):
    """A walk that pays one for each moment near the middle; the action pushes left or right."""
    place, speed = state
    speed = 0.9 * speed + 0.2 * (2.0 * action - 1.0) + 0.05 * jax.random.normal(key)
    place = place + 0.2 * speed
    over = jnp.abs(place) > 1.0
    place, speed = jnp.where(over, 0.5 * jnp.sign(speed), place), jnp.where(over, 0.0, speed)
    return (place, speed), jnp.where(jnp.abs(place) < 0.3, 1.0, 0.0)


def falling(learning_rate):
    return lrax.linear(learning_rate, 0.0, 2 * ROLLOUTS)


def ppo(hyperparams, key, rate=falling, epochs=2):
    """A small PPO: its environments, its updates and its rate in one program.

    Args:
      hyperparams: Arguments of `rate`.
      key: Of everything random.
      rate: What decides the rate.
      epochs: Updates for each rollout.
    """
    optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(rate(**hyperparams)))
    policy = lambda params, states: jax.nn.log_softmax(
        jnp.tanh(states @ params["w"]) @ params["policy"]
    )
    seen = lambda state: jnp.stack([*state, jnp.ones_like(state[0])], -1)

    def rollout(params, state, key):
        def act(state, key):
            choose, move = jax.random.split(key)
            logs = policy(params, seen(state))
            action = jax.random.categorical(choose, logs)
            keys = jax.random.split(move, ENVS)
            after, reward = jax.vmap(chain_step)(keys, state, action)
            return after, (seen(state), action, logs, reward)

        return jax.lax.scan(act, state, jax.random.split(key, HORIZON))

    def loss(params, data, gains):
        states, actions, before, _ = data
        logs = policy(params, states)
        moved = jnp.take_along_axis(logs - before, actions[..., None], -1)[..., 0]
        ratio = jnp.exp(moved)
        divergence = (jnp.exp(before) * (before - logs)).sum(-1).mean()
        return -jnp.minimum(ratio * gains, jnp.clip(ratio, 0.8, 1.2) * gains).mean(), divergence

    def update(carry, key):
        params, state, opt_state = carry
        state, data = rollout(params, state, key)
        ahead = lambda later, reward: (reward + 0.9 * later,) * 2
        _, gains = jax.lax.scan(ahead, jnp.zeros(ENVS), data[3], reverse=True)
        gains = (gains - gains.mean()) / (gains.std() + 1e-6)
        for _ in range(epochs):
            grads, divergence = jax.grad(loss, has_aux=True)(params, data, gains)
            updates, opt_state = optimizer.update(grads, opt_state, params, kl=divergence)
            params = optax.apply_updates(params, updates)
        record = {"return": data[3].mean(), "kl": divergence, "rate": lrax.get_lr(opt_state)}
        return (params, state, opt_state), record

    first, second, rest = jax.random.split(key, 3)
    params = {
        "w": 0.5 * jax.random.normal(first, (3, 16)),
        "policy": 0.01 * jax.random.normal(second, (16, 2)),
    }
    start = jnp.full(ENVS, 0.5), jnp.zeros(ENVS)
    carry = params, start, optimizer.init(params)
    _, curves = jax.lax.scan(update, carry, jax.random.split(rest, ROLLOUTS))
    return {**curves, "final_return": curves["return"][-8:].mean()}
