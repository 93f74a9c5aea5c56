"""How the best rate moves with batch, width, depth and length: `python -m tests.benchmarks.transfer`.

Small networks are swept over their rate at several sizes. Rates are half an octave apart, and a
sweep whose best rate is at an edge goes on that way. A best rate is the vertex of a parabola with
its 95 % interval by the seeds, 8 on digits and 3 on text; exponents are those of
`lrax.scaling.fit`. All runs have a warmup of a tenth and a cosine to zero. `--only` takes some of
the experiments:

- batch: text by momentum and by Adam, with the number of examples fixed;
- width: digits by Adam, with and without muP;
- depth: digits by a residual network and Adam, with and without CompleteP;
- horizon: text by Adam, with the batch fixed;
- fit: three small settings predict one that is 16 times as large, in width and in length;
- joint: `transfer` over width, batch and length at once, beside copying the rate;
- coordinates: how far the layers of digits move at several widths, with and without muP.
"""

import argparse
import dataclasses
import functools
import time
import warnings
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import lax, nn, numpy as jnp

import lrax
from lrax import scaling
from lrax.scaling import Setting
from lrax.sweeps.optimum import Optimum, optimum
from lrax.tasks import losses

EXTENSIONS = 4  # how often a sweep goes on beyond an edge


class Size(NamedTuple):
    """How large the experiments are."""

    seeds: int = 3
    half: int = 4  # rates on each side of the first guess, half an octave apart
    batches: tuple[int, ...] = (2, 8, 32, 128)
    examples: int = 6400
    widths: tuple[int, ...] = (64, 256, 1024)
    narrow: tuple[int, ...] = (16, 32, 64, 1024)
    depths: tuple[int, ...] = (2, 8, 32)
    # Digits are trained in few updates, before networks know their examples by heart. Then the
    # curves have a sharp optimum, and so many seeds tell it within a third of an octave.
    digits_steps: int = 30
    digits_seeds: int = 8
    lengths: tuple[int, ...] = (100, 400, 1600)
    short: tuple[int, ...] = (50, 100, 200, 3200)
    joint: tuple[int, int] = (16, 64)  # widths
    joint_steps: int = 200
    coordinates: tuple[int, ...] = (64, 128, 256, 512, 1024)


SMOKE = Size(
    seeds=2,
    half=2,
    batches=(2, 4),
    examples=32,
    widths=(8, 16),
    narrow=(4, 8, 16),
    depths=(1, 2),
    digits_steps=8,
    digits_seeds=2,
    lengths=(6, 12),
    short=(4, 6, 8),
    joint=(8, 16),
    joint_steps=4,
    coordinates=(8, 16),
)


class Swept(NamedTuple):
    """A sweep over rates."""

    rates: np.ndarray
    scores: np.ndarray  # [rates, seeds], losses at the end
    optimum: Optimum

    @property
    def pair(self):
        return self.optimum.value, *self.optimum.interval


def swept(task, optimizer, guess, steps, size, seeds=None):
    """A sweep around a first guess, over more rates where the best one is at an edge.

    `optimizer` is a function of a schedule.
    """
    peaked = lambda peak: optimizer(lrax.warmup_cosine(peak, steps, warmup=max(steps // 10, 1)))
    keys = list(range(-size.half, size.half + 1))
    scores = {}
    for _ in range(EXTENSIONS + 1):
        missing = [key for key in keys if key not in scores]
        rates = guess * 2.0 ** (np.array(missing) / 2)
        found = lrax.sweep(
            task,
            peaked,
            {"peak": rates},
            steps=steps,
            seeds=seeds or size.seeds,
            objective="val_loss",
            progress=False,
        )
        scores.update(zip(missing, found.scores, strict=True))
        rates = guess * 2.0 ** (np.array(keys) / 2)
        table = np.stack([scores[key] for key in keys]).astype(np.float64)
        best = optimum(rates, np.log(table))
        if best.at_edge == "low":
            keys = [*range(keys[0] - size.half, keys[0]), *keys]
        elif best.at_edge == "high":
            keys = [*keys, *range(keys[-1] + 1, keys[-1] + 1 + size.half)]
        else:
            break
    return Swept(rates, table, best)


def octaves(first, second):
    """How far the second optimum is above the first, and the half-width of its interval."""
    (a, *_), (b, *_) = first.pair, second.pair
    halves = [np.log2(high / low) / 2 for _, low, high in (first.pair, second.pair)]
    return np.log2(b / a), float(np.hypot(*halves))


def exponent(field, settings, found):
    """The power of a field, with its interval, as text; and as a number."""
    known = [(each, one) for each, one in zip(settings, found, strict=True) if not edge(one)]
    if len(known) < 2:
        return "-"
    law = scaling.fit([(each, one.pair) for each, one in known])
    value, low, high = law.exponents[field]
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def edge(one):
    return one.optimum.at_edge is not None


def told(values, found, name):
    """A row for each value, beside the row before."""
    rows = []
    for i, (value, one) in enumerate(zip(values, found, strict=True)):
        moved = ""
        if i:
            local = np.log(one.pair[0] / found[i - 1].pair[0]) / np.log(value / values[i - 1])
            total, half = octaves(found[0], one)
            moved = f"{total:+.2f} ± {half:.2f} | {local:+.2f}"
        low, high = one.optimum.interval
        at = f" (at the {one.optimum.at_edge} edge)" if edge(one) else ""
        rows.append(
            f"| {name} {value} | {one.optimum.value:.3g}{at} | {low:.2g} to {high:.2g} |"
            f" {np.exp(np.log(one.scores).mean(axis=1).min()):.3f} | {moved or ' | '} |"
        )
        print(rows[-1], flush=True)


HEAD = "| setting | best rate | 95 % interval | loss | octaves from the first | local exponent |"


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


def text(width=32, layers=1, batch=8, heads=4):
    return lrax.tasks.char_lm(
        width=width, layers=layers, heads=heads, context=32, batch_size=batch, characters=300_000
    )


def batch(size):
    """Text with the number of examples fixed."""
    found = {}
    for name, optimizer, guess, power in (
        ("momentum", momentum, 0.25, 1.0),
        ("Adam", optax.adam, 0.01, 0.5),
    ):
        print(f"\n{name}; the rule's exponent is {power}\n{HEAD}")
        rows = []
        for each in size.batches:
            start = guess * (each / 8) ** power
            steps = size.examples // each
            rows.append(swept(text(batch=each), optimizer, start, steps, size))
        told(size.batches, rows, "batch")
        settings = [Setting(batch=each) for each in size.batches]
        print("exponent:", exponent("batch", settings, rows))
        found[name] = rows
    return found


def digits(width):
    return lrax.tasks.digits(widths=(width, width))


def by_mup(width, base):
    """Digits at a width, with the factors of muP, and Adam with its multipliers."""
    shapes = lambda task: jax.eval_shape(task.init, jax.random.key(0))
    plain = digits(width)
    factors = scaling.mup_multipliers(shapes(digits(base)), shapes(plain), init="fan_in")
    times = functools.partial(jax.tree.map, jnp.multiply)
    task = dataclasses.replace(
        plain,
        init=lambda key: times(plain.init(key), factors.init),
        loss=lambda params, batch: plain.loss(times(params, factors.forward), batch),
        evaluate=lambda params: plain.evaluate(times(params, factors.forward)),
    )
    adam = lambda rate: optax.chain(
        optax.scale_by_adam(), lrax.scale_by_multipliers(factors.lr), lrax.scale_by_lr(rate)
    )
    return task, adam


def width(size):
    """Digits, with and without muP. At the base width the two are the same."""
    base, *wider = size.widths
    over = (size.digits_steps, size, size.digits_seeds)
    first = swept(digits(base), optax.adam, 0.03, *over)
    found = {}
    for name in ("without muP", "with muP"):
        print(f"\n{name}\n{HEAD}")
        rows = [first]
        for each in wider:
            task, adam = by_mup(each, base) if name == "with muP" else (digits(each), optax.adam)
            start = first.optimum.value * (1 if name == "with muP" else base / each)
            rows.append(swept(task, adam, start, *over))
        told(size.widths, rows, "width")
        print("exponent:", exponent("width", [Setting(width=each) for each in size.widths], rows))
        found[name] = rows
    return found


def residual(depth, branch, width=64):
    """Digits by a residual network: x + branch * down(relu(up(norm(x)))), `depth` times."""
    data = digits(1)
    held_out = data.evaluate.args[1]

    def init(key):
        first, up, down, last = jax.random.split(key, 4)
        normal = lambda key, shape, variance: variance**0.5 * jax.random.normal(key, shape)
        return {
            "first": normal(first, (64, width), 4 / 64),
            "up": normal(up, (depth, width, width), 2 / width),
            "bias": jnp.zeros((depth, width)),
            "down": normal(down, (depth, width, width), 1 / width),
            "last": normal(last, (width, 10), 0.1 / width),
        }

    def norm(x):
        return x * lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)

    def apply(params, x):
        def block(x, layer):
            hidden = nn.relu(norm(x) @ layer["up"] + layer["bias"][None])
            return x + branch * (hidden @ layer["down"]), None

        blocks = {name: params[name] for name in ("up", "bias", "down")}
        x, _ = lax.scan(block, jnp.asarray(x) @ params["first"], blocks)
        return norm(x) @ params["last"]

    def loss(params, batch):
        logits = apply(params, batch["inputs"])
        return losses._cross_entropy(logits, batch["targets"])

    evaluate = lambda params: {"val_loss": loss(params, held_out)}
    return lrax.Task(init, loss, data.batch, evaluate)


def depth(size):
    """Digits by a residual network, with and without CompleteP."""
    base = size.depths[0]
    found = {}
    for name in ("without CompleteP", "with CompleteP"):
        print(f"\n{name}\n{HEAD}")
        rows = []
        for each in size.depths:
            # At this alpha depth changes no rate: the branch, and Adam's epsilon, which is far
            # below the gradients here.
            factor = scaling.complete_p(1, each / base).residual
            task = residual(each, factor if name == "with CompleteP" else 1.0)
            rows.append(swept(task, optax.adam, 0.01, size.digits_steps, size, size.digits_seeds))
        told(size.depths, rows, "depth")
        print("exponent:", exponent("depth", [Setting(depth=each) for each in size.depths], rows))
        found[name] = rows
    return found


def horizon(size):
    """Text by Adam, with the batch fixed."""
    print(f"\nAdam; published exponents are from -0.5 to +0.3\n{HEAD}")
    rows = [swept(text(), optax.adam, 0.01, steps, size) for steps in size.lengths]
    told(size.lengths, rows, "steps")
    settings = [Setting(tokens=steps) for steps in size.lengths]
    print("exponent:", exponent("tokens", settings, rows))
    return {"Adam": rows}


def fit(size):
    """Three small settings predict a large one."""
    found = {}
    by_width = lambda each, guess: swept(
        digits(each), optax.adam, guess, size.digits_steps, size, size.digits_seeds
    )
    by_length = lambda each, guess: swept(text(), optax.adam, guess, each, size)
    for field, values, sweep in (
        ("width", size.narrow, by_width),
        ("tokens", size.short, by_length),
    ):
        print(f"\n{field}: {HEAD}")
        *small, large = values
        settings = [Setting(**{field: each}) for each in values]
        rows = [sweep(each, 0.02) for each in small]
        law = scaling.fit([(s, row.pair) for s, row in zip(settings[:-1], rows, strict=True)])
        rate, low, high = law.predict(settings[-1])
        rows.append(sweep(large, rate))
        told(values, rows, field)
        off = np.log2(rate / rows[-1].optimum.value)
        cost = regret(rows[-1], rate)
        print(
            f"predicted {rate:.3g}, {low:.2g} to {high:.2g}; off by {off:+.2f} octaves;"
            f" regret {cost}"
        )
        print("\n".join(law.warnings(settings[-1])))
        found[field] = (rows, off, law)
    return found


def regret(own, rate):
    """The loss at a rate over the least one of a sweep, between whose rates it is interpolated."""
    means = own.scores.mean(axis=1)
    at = np.interp(np.log(rate), np.log(own.rates), means)
    return f"{100 * (at / means.min() - 1):.1f}%"


def transferred(plain, growth, hyperparams, multipliers):
    """Text at a width with the factors of a `Transfer`, and Adam as it says."""

    def kind(path):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.startswith("block"):
            return "vector" if "scale" in name else "hidden"
        return {"head": "output", "norm": "final"}.get(name.split("/")[0], "input")

    def times(name, params):
        factors = multipliers.get(name, {})
        one = lambda path, leaf: leaf * factors.get(kind(path), 1.0)
        return jax.tree_util.tree_map_with_path(one, params)

    def init(key):
        # The network's own initialisation falls with the root of the width already.
        root = lambda path, leaf: (
            leaf * (growth**0.5 if kind(path) in ("hidden", "output") else 1.0)
        )
        return times("init", jax.tree_util.tree_map_with_path(root, plain.init(key)))

    task = dataclasses.replace(
        plain,
        init=init,
        loss=lambda params, batch: plain.loss(times("forward", params), batch),
        evaluate=lambda params: plain.evaluate(times("forward", params)),
    )
    shapes = jax.eval_shape(plain.init, jax.random.key(0))
    lr = times("lr", jax.tree.map(lambda _: 1.0, shapes))
    adam = lambda rate: optax.chain(
        optax.scale_by_adam(hyperparams["b1"], hyperparams["b2"]),
        lrax.scale_by_multipliers(lr),
        lrax.scale_by_lr(rate),
    )
    return task, adam


def joint(size):
    """`transfer` from a small setting to one 4 times as wide, with twice the batch, 8 times as long.

    Heads have 8 numbers at both widths, so attention has no factor. The second transfer is by two
    rules, one after the other, which leave the length alone.
    """
    small, large = size.joint
    steps = size.joint_steps
    from_ = Setting(width=small, batch=8, tokens=8 * steps)
    to = Setting(width=large, batch=16, tokens=64 * steps)
    wide = text(large, heads=large // 8, batch=16)
    print(f"\n{HEAD}")
    first = swept(text(small, heads=small // 8), optax.adam, 0.02, steps, size)
    told([small], [first], "width")
    given = {"lr": first.optimum.value, "b1": 0.9, "b2": 0.999}
    moved = functools.partial(scaling.transfer, from_=from_, to=to, optimizer="adam")
    completed = moved(given, rules="completed")
    by_width = moved(given, rules="mup")
    by_batch = moved(by_width.hyperparams, rules="sde")
    # The optimizer, the rate that is used, and the first guess of the target's own sweep.
    ways = {
        "copy": (wide, optax.adam, given["lr"], given["lr"] / 2),
        "completed": (
            *transferred(wide, large / small, completed.hyperparams, completed.multipliers),
            *[completed.hyperparams["lr"]] * 2,
        ),
        "mup, then sde": (
            *transferred(wide, large / small, by_batch.hyperparams, by_width.multipliers),
            *[by_batch.hyperparams["lr"]] * 2,
        ),
    }
    found = {"small": first}
    for name, (task, adam, used, guess) in ways.items():
        own = found[name] = swept(task, adam, guess, 4 * steps, size)
        told([large], [own], f"{name}: width")
        off = np.log2(used / own.optimum.value)
        print(
            f"{name}: rate {used:.3g}, {off:+.2f} octaves from its best; regret {regret(own, used)}"
        )
    return found


def coordinates(size):
    """Digits: the slopes of the changes of the layers over the width, after 5 updates by Adam."""
    base = size.coordinates[0]
    found = {}
    for name, made in (
        ("without muP", lambda each: (digits(each), optax.adam)),
        ("with muP", lambda each: by_mup(each, base)),
    ):
        check = scaling.coord_check(
            lambda each: made(each)[0],  # noqa: B023
            size.coordinates,
            optimizer=lambda each: made(each)[1](1e-3),  # noqa: B023
        )
        largest = max(map(abs, check.slopes.values()))
        print(f"\n{name}\n{check}\nlargest |slope| of a change: {largest:.3f}; bar: below 0.1")
        found[name] = check
    return found


EXPERIMENTS = {
    "batch": batch,
    "width": width,
    "depth": depth,
    "horizon": horizon,
    "fit": fit,
    "joint": joint,
    "coordinates": coordinates,
}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, help="some of the experiments")
    parser.add_argument("--smoke", action="store_true", help="sizes that say nothing, for a test")
    options = parser.parse_args(arguments)
    size = SMOKE if options.smoke else Size()
    found = {}
    for name in options.only or EXPERIMENTS:
        begin = time.process_time()
        print(f"\n## {name}: {EXPERIMENTS[name].__doc__.splitlines()[0]}")
        found[name] = EXPERIMENTS[name](size)
        print(f"{time.process_time() - begin:.0f} s of the processor", flush=True)
    return found


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main()
