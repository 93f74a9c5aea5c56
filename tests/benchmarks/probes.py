"""How exact the probes are, and what they cost: `python -m tests.benchmarks.probes`.

The truth is dense, in float64: the whole Hessian of a small network on scikit-learn's digits, a
scan of the loss along the update, the covariance of all single gradients. The network is looked at
before training and after some updates of Adam. Costs are counts of losses, of gradients and of
products of the Hessian with a vector, which cost two to three gradients each.
"""

import argparse
import functools

import jax
import numpy as np
import optax
from jax import experimental, numpy as jnp
from jax.flatten_util import ravel_pytree

import lrax
from lrax import probes

HIDDEN = 8
BATCH = 256
UPDATES = 100
RATE = 1e-2
KEY = jax.random.key(0)


def data():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return jnp.asarray(images[:BATCH] / 16.0), jnp.asarray(labels[:BATCH])


def network(params, x):
    return jnp.tanh(x @ params["w"] + params["b"][None]) @ params["v"]


def cross_entropy(outputs, labels):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def initial(inputs):
    first, second = jax.random.split(KEY)
    return {
        "w": jax.random.normal(first, (inputs, HIDDEN)) / np.sqrt(inputs),
        "b": jnp.zeros(HIDDEN),
        "v": jax.random.normal(second, (HIDDEN, 10)) / np.sqrt(HIDDEN),
    }


def trained(loss, params):
    """The parameters and the state of Adam after some updates."""
    adam = optax.adam(RATE)

    def step(carry, _):
        params, state = carry
        updates, state = adam.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, adam.init(params)), None, UPDATES)[0]


def error(found, truth):
    percent = 100 * abs(float(found) / float(truth) - 1)
    return f"{percent:.2g} %" if percent > 1e-9 else "rounding"


def curvatures(loss, outputs, model, params, state, products):
    """Rows of the sharpness in all of its forms, by several numbers of Hessian products."""
    flat, unravel = ravel_pytree(params)
    hessian = jax.jit(jax.hessian(lambda flat: loss(unravel(flat))))(flat)
    top = lambda matrix: np.linalg.eigvalsh(np.asarray(matrix))[-1]
    divisors = probes.preconditioner(state)
    root = jnp.sqrt(ravel_pytree(divisors)[0])
    jacobian = jax.jit(jax.jacobian(lambda flat: model(unravel(flat)).ravel()))(flat)
    shape = model(params).shape
    inner = jax.jit(jax.hessian(lambda out: outputs(out.reshape(shape))))(model(params).ravel())
    find = functools.partial(probes.sharpness, params=params, key=KEY)
    for steps in products:
        cost = f"1 gradient, {steps} products"
        forms = {
            "`sharpness`": (find(loss, steps=steps), top(hessian)),
            "with `low_memory`": (find(loss, steps=steps, low_memory=True), top(hessian)),
            "with Adam's `preconditioner`": (
                find(loss, steps=steps, preconditioner=divisors),
                top(hessian / jnp.outer(root, root)),
            ),
            "with `model` (Gauss-Newton)": (
                find(outputs, steps=steps, model=model),
                top(jacobian.T @ inner @ jacobian),
            ),
        }
        yield from ((name, cost, error(*pair)) for name, pair in forms.items())
    gradient = ravel_pytree(jax.grad(loss)(params))[0]
    truth = gradient @ hessian @ gradient / (gradient @ gradient)
    found = probes.directional_sharpness(loss, params)
    yield "`directional_sharpness`", "1 gradient, 1 product", error(found, truth)


def critical(loss, params):
    """Rows of the critical rate, from guesses that are off by some factors."""
    update = jax.tree.map(lambda leaf: -leaf, jax.grad(loss)(params))
    moved = lambda rate: jax.tree.map(lambda leaf, step: leaf + rate * step, params, update)
    along = jax.jit(jax.vmap(lambda rate: loss(moved(rate))))
    rates = np.geomspace(1e-3, 1e3, 20_001)
    truth = rates[np.argmax(np.asarray(along(rates)) > loss(params))]
    find = lambda guess: probes.critical_rate(loss, params, update, guess=guess)
    for factor in (1.2, 3, 10, 100):
        found = [find(truth * factor), find(truth / factor)]
        cost = max(int(each.evaluations) for each in found)
        wrong = max(abs(float(each.rate) / truth - 1) for each in found)
        words = f"`critical_rate`, guess off by {factor}"
        yield words, f"{cost} losses", f"{100 * wrong:.2g} %"


def noise(loss_of, params, x, labels):
    """Rows of the noise scale: the spread over draws of micro-batches."""
    each = jax.vmap(jax.grad(loss_of), in_axes=(None, 0, 0))
    single = jax.jit(each)(params, x[:, None], labels[:, None])
    flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])(single)
    mean = flat.mean(0)
    truth = jnp.sum((flat - mean[None]) ** 2) / len(flat) / jnp.sum(mean**2)
    size = 8
    for parts in (8, 64, 512):
        draws = jax.random.randint(KEY, (200, parts, size), 0, len(flat))
        measured = jax.lax.map(lambda draw: probes.noise_scale(flat[draw].mean(1), size), draws)
        off = np.abs(np.asarray(measured.scale) / float(truth) - 1)
        known = np.isfinite(off)
        words = f"median {100 * np.median(off[known]):.0f} %, NaN in {100 * np.mean(~known):.0f} %"
        yield f"`noise_scale` of {parts} micro-batches of {size}", f"{parts} gradients", words


def effective(params, loss):
    """The row of the effective rates: against the update that Adam makes."""
    params, state = trained(loss, params)
    gradient = jax.grad(loss)(params)
    updates, state = optax.adam(RATE).update(gradient, state, params)
    found = probes.effective_rates(state, RATE)
    means = jax.tree.map(lambda leaf: leaf / (1 - 0.9 ** (UPDATES + 1)), state[0].mu)
    wrong = jax.tree.map(
        lambda update, rate, mean: jnp.max(jnp.abs(update + rate * mean)) / RATE,
        updates,
        found.rates,
        means,
    )
    worst = max(float(leaf) for leaf in jax.tree.leaves(wrong))
    yield "`effective_rates` of Adam", "none", f"{100 * worst:.2g} % of the rate"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--products", type=int, nargs="+", default=(5, 10, 20), metavar="COUNT")
    options = parser.parse_args(arguments)
    rows = []
    # JAX 0.7 keeps it among its experiments.
    x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64
    with x64(True):
        x, labels = data()
        of = lambda params, x, labels: cross_entropy(network(params, x), labels)
        loss = lambda params: of(params, x, labels)
        outputs = lambda out: cross_entropy(out, labels)
        model = lambda params: network(params, x)
        start = initial(x.shape[1])
        after, state = trained(loss, start)
        # The state that Adam has after one update stands for the beginning.
        adam = optax.adam(RATE)
        first = adam.update(jax.grad(loss)(start), adam.init(start))[1]
        for name, params, moments in (("before", start, first), ("after", after, state)):
            found = curvatures(loss, outputs, model, params, moments, options.products)
            rows += [(name, *row) for row in found]
            rows += [(name, *row) for row in critical(loss, params)]
            rows += [(name, *row) for row in noise(of, params, x, labels)]
        rows += [("after", *row) for row in effective(start, loss)]
    print(f"lrax {lrax.__version__}, jax {jax.__version__}, float64, {BATCH} digits, ", end="")
    print(f"{sum(leaf.size for leaf in jax.tree.leaves(start))} parameters, {UPDATES} updates\n")
    merged = {}
    for when, probe, cost, wrong in rows:
        merged.setdefault((probe, cost), {})[when] = wrong
    print("| probe | cost | error before training | after |\n|---|---|---|---|")
    for (probe, cost), wrong in merged.items():
        print(f"| {probe} | {cost} | {wrong.get('before', '')} | {wrong.get('after', '')} |")
    return merged


if __name__ == "__main__":
    main()
