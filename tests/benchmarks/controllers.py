"""What rules and learning-rate-free methods reach at their defaults, beside a rate that was swept:
`python -m tests.benchmarks.controllers`.

The tasks are all those of the benchmark of finders. On each, Adam and SGD with momentum are trained
densely at 3 rates to a decade, with a constant rate and with a warmup and a cosine. The best rate
has the lowest mean over seeds of the final validation loss. The better of the two best constant
rates is the reference.

Each figure is a final validation loss divided by the reference's with the same seed: the geometric
mean over seeds, then the median and the worst of the tasks. Below 1 is better than the reference.
Rules start from the best constant rate of their optimizer, and also from a tenth and from ten
times of it. The methods of `lrax.lr_free` start from the default of their own argument `lr`. All
are trained once more under a cosine, at the same base rates.

The pole is reinforcement learning, and has a table of its own. Every good rate ends at the highest
return, so a ratio of final losses would be 0 / 0. A figure is there how many percent of the highest
return were lost in the mean over 30 evaluations of a run, and over seeds.

What guards against spikes has a table of its own too. Adam and momentum, each at its best constant
rate, are trained on good batches, and on the same ones but for 4 bad batches: the inputs are 100
times as large (text is read backwards), or the labels belong to other examples. A figure is the
final validation loss divided by that without a guard and without a bad batch.
"""

import argparse
import dataclasses
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
from jax import numpy as jnp

import lrax
from lrax import controllers, lr_free

from . import finders
from .sweeps import machine

FACTORS = (1.0, 0.1, 10.0)  # of the base rate
TASKS = {  # a combination of the benchmark of finders whose task is taken
    "cancer": "cancer, momentum, constant",
    "fine-tuning": "fine-tuning, Adam, cosine",
    "MLP": "MLP, momentum, constant",
    "CNN": "CNN, momentum, cosine",
    "text": "text, momentum, constant",
    "diabetes": "diabetes, momentum, cosine",
    "pole": "pole, Adam, constant",
}
EVALUATIONS = 30  # of the validation loss, by rules that follow it
WORLDS = ("no bad batch", "inputs", "labels")
BAD = (0.4, 0.55, 0.7, 0.8)  # when the bad batches come, in parts of the run


class Entry(NamedTuple):
    """A method.

    Attributes:
      make: (schedule, rate, steps) -> optimizer. The schedule starts or peaks at `rate`.
      base: The base rate, or the name of the baseline whose best constant rate it is.
      tuned: Whether the base rate can be wrong. If not, it is trained at the right one only.
      signals: Whether it follows the validation loss, which is then measured 30 times.
      average: (state, params) -> the parameters to evaluate; None for those in training.
      scheduled: Whether it is trained under a cosine too.
      needs: What only some tasks have: "batch" is a loss of the batch at any parameters, and "kl"
        the step of a policy.
      worlds: Whether it is trained in all `WORLDS`, at the base rate alone.
    """

    make: Callable[[Any, Any, int], optax.GradientTransformation]
    base: str | float
    tuned: bool = True
    signals: bool = False
    average: Callable[[Any, Any], Any] | None = None
    scheduled: bool = True
    needs: str = ""
    worlds: bool = False

    @property
    def factors(self):
        return FACTORS if self.tuned and not self.worlds else FACTORS[:1]

    @property
    def grid(self):
        """What is varied beside the rate."""
        if self.worlds:
            return {"world": np.arange(len(WORLDS))}
        return {"decay": [0.0, 1.0] if self.scheduled else [0.0]}

    def runs_on(self, task):
        # The episodes of an update of the pole belong to the parameters that played them.
        if task == "pole":
            return self.needs != "batch" and not self.worlds
        return self.needs != "kl"


def following(rule):
    """Adam whose schedule is multiplied by a rule of the number of steps."""
    return lambda schedule, rate, steps: optax.chain(
        optax.scale_by_adam(), lrax.scale_by_lr(schedule * rule(steps))
    )


def starting(rule, direction, part=1.0):
    """A rule that starts at a part of the base rate, times the schedule without its peak."""
    return lambda schedule, rate, steps: optax.chain(
        direction(), lrax.scale_by_lr(1 / rate * schedule * rule(part * rate))
    )


def method(function):
    return lambda schedule, rate, steps: function(schedule)


def of_distance(function, argument):
    """A method whose base rate is its first distance."""
    return lambda schedule, rate, steps: function(1 / rate * schedule, **{argument: rate})


def guards(base, direction):
    """Adam or momentum, without and with a guard against spikes."""
    link = lambda guard: (
        lambda schedule, rate, steps: optax.chain(guard(direction()), lrax.scale_by_lr(schedule))
    )
    makes = {
        "no guard": link(lambda direction: direction),
        "skip_spikes": link(controllers.skip_spikes),
        "clip_spikes": link(lambda direction: optax.chain(controllers.clip_spikes(), direction)),
        "clip_by_global_norm(1)": link(
            lambda direction: optax.chain(optax.clip_by_global_norm(1.0), direction)
        ),
        "back_off": lambda schedule, rate, steps: optax.chain(
            direction(), lrax.scale_by_lr(schedule * controllers.back_off())
        ),
        "restore_after_spikes": lambda schedule, rate, steps: controllers.restore_after_spikes(
            optax.chain(direction(), lrax.scale_by_lr(schedule))
        ),
    }
    return {f"{name}, {base}": Entry(make, base, worlds=True) for name, make in makes.items()}


def averaging(function):
    """A method that keeps the average of its parameters beside its state."""

    def make(schedule, rate, steps):
        inner, average = function(schedule), lr_free.polynomial_average()

        def update(grads, state, params, **extra):
            updates, state_of_inner = inner.update(grads, state[0], params, **extra)
            _, averages = average.update(optax.apply_updates(params, updates), state[1])
            return updates, (state_of_inner, averages)

        init = lambda params: (inner.init(params), average.init(params))
        return optax.GradientTransformationExtraArgs(init, update)

    return make


BASELINES = {
    "Adam": (method(optax.adam), 10.0 ** (np.arange(-10, 0) / 3)),
    "momentum": (method(finders.momentum), 10.0 ** (np.arange(-8, 2) / 3)),
}
averaged = lr_free.schedule_free_eval_params
ENTRIES = {
    "plateau": Entry(following(lambda steps: controllers.plateau()), "Adam"),
    "plateau, validation loss": Entry(
        following(lambda steps: controllers.plateau(metric="val_loss")), "Adam", signals=True
    ),
    "greedy": Entry(following(lambda steps: controllers.greedy()), "Adam"),
    "greedy, validation loss": Entry(
        following(lambda steps: controllers.greedy(metric="val_loss")), "Adam", signals=True
    ),
    "velocity": Entry(following(lambda steps: controllers.velocity()), "Adam"),
    "auto_cooldown": Entry(following(lambda steps: controllers.auto_cooldown(steps // 5)), "Adam"),
    # Its number has no default. The first is the authors' for Adam.
    **{
        f"hypergradient, additive, {hyper_rate:.0e}": Entry(
            starting(
                lambda rate, hyper_rate=hyper_rate: controllers.hypergradient(rate, hyper_rate),
                optax.scale_by_adam,
            ),
            "Adam",
        )
        for hyper_rate in (1e-7, 1e-5, 1e-4)
    },
    "hypergradient, multiplicative": Entry(
        starting(
            lambda rate: controllers.hypergradient(rate, 0.02, kind="multiplicative"),
            optax.scale_by_adam,
        ),
        "Adam",
    ),
    # What multiplies its rate would apply another one than it has tried. It begins at 0, and what
    # may be wrong is the size of its corrections.
    "hypergradient, hdm": Entry(
        lambda schedule, rate, steps: lrax.scale_by_lr(
            controllers.hypergradient(0.0, rate, kind="hdm")
        ),
        0.1,
        scheduled=False,
        needs="batch",
    ),
    "kl": Entry(following(lambda steps: controllers.kl(0.01)), "Adam", needs="kl"),
    "critical": Entry(
        following(lambda steps: controllers.critical()), 1.0, tuned=False, needs="batch"
    ),
    "polyak": Entry(
        lambda schedule, rate, steps: lrax.scale_by_lr(schedule * controllers.polyak()),
        1.0,
        tuned=False,
    ),
    # Plain descent wants ten times the rate of momentum.
    "polyak, SPS_max": Entry(
        starting(lambda rate: controllers.polyak(rate, c=0.5), optax.identity, 10.0), "momentum"
    ),
    "polyak, ALI-G": Entry(
        starting(lambda rate: controllers.polyak(rate, eps=1e-5), optax.identity, 10.0), "momentum"
    ),
    # Here the first rate is to be a thousandth of it.
    "adgd": Entry(starting(controllers.adgd, optax.identity, 0.01), "momentum", needs="batch"),
    "barzilai_borwein": Entry(
        starting(controllers.barzilai_borwein, optax.identity, 0.01), "momentum", needs="batch"
    ),
    "prodigy": Entry(method(lr_free.prodigy), 1.0),
    "prodigy, init_distance": Entry(of_distance(lr_free.prodigy, "init_distance"), 1e-6),
    "dadapt_adam": Entry(method(lr_free.dadapt_adam), 1.0),
    "dadapt_adam, init_distance": Entry(of_distance(lr_free.dadapt_adam, "init_distance"), 1e-6),
    "dog": Entry(method(lr_free.dog), 1.0),
    "dog, reps_rel": Entry(of_distance(lr_free.dog, "reps_rel"), 1e-6),
    "dog, its average": Entry(
        averaging(lr_free.dog), 1.0, average=lambda state, params: state[1].average
    ),
    "momo": Entry(method(lr_free.momo), 1.0),
    "momo_adam": Entry(method(lr_free.momo_adam), 0.01),
    "schedule_free_sgd": Entry(method(lr_free.schedule_free_sgd), 1.0, average=averaged),
    "schedule_free_adamw": Entry(method(lr_free.schedule_free_adamw), 0.0025, average=averaged),
    **guards("Adam", optax.scale_by_adam),
    **guards("momentum", lambda: optax.trace(0.9)),
}


def trained(case, entry, rates, steps, seeds):
    """Final validation losses `[rates, 2, seeds]`, constant and cosine; infinite if diverged.

    With `entry.worlds` they are `[rates, worlds, seeds]`.
    """
    if case.task is finders.pole:
        return balanced(entry, rates, steps, seeds)
    task = case.task
    optimizer = lambda rate, decay=0.0: entry.make(scheduled(rate, decay, steps), rate, steps)

    def measured(params, state=None):
        return task.evaluate(params, state) if task.stateful else task.evaluate(params)

    def of_average(step):
        params = optax.apply_updates(step.params, step.updates)
        return measured(entry.average(step.opt_state, params), step.state)["val_loss"]

    options = {}
    if entry.signals:
        loss = (
            (lambda params, state: measured(params, state)["val_loss"])
            if task.stateful
            else (lambda params: measured(params)["val_loss"])
        )
        options["signals"] = {"val_loss": lrax.every(max(steps // EVALUATIONS, 1), loss)}
    if entry.average is not None:
        # Monitors see the first update and the last one.
        options |= {"monitors": {"average": of_average}, "record_every": steps - 1}
    found = lrax.sweep(
        (lambda world: spoiled(task, world, steps)) if entry.worlds else task,
        optimizer,
        {"rate": rates, **entry.grid},
        steps=steps,
        seeds=seeds,
        objective="val_loss",
        params=case.params,
        stop=None,
        progress=False,
        **options,
    )
    values = found.metrics["val_loss"]
    if entry.average is not None:
        values = found.monitors["average"][..., -1]
    whole = np.isfinite(values)
    if not entry.worlds:  # a guard may lead back from a loss that is not finite
        whole &= np.isfinite(found.losses).all(-1)
    return np.where(whole, values, np.inf).reshape(len(rates), -1, seeds)


def balanced(entry, rates, steps, seeds):
    """As `trained`, on the pole: what runs lost of the highest return, in the mean over the run."""
    parts = max(count for count in range(1, EVALUATIONS + 1) if steps % count == 0)

    def function(hyperparams, key):
        rate = hyperparams["rate"]
        make = lambda schedule: entry.make(schedule, rate, steps)
        schedule = scheduled(rate, hyperparams["decay"], steps)
        return finders.pole(make, schedule, key, steps, parts=parts, average=entry.average)

    found = lrax.sweep_function(
        function,
        {"rate": rates, **entry.grid},
        seeds=seeds,
        objective="val_return",
        progress=False,
    )
    lost = 1 - found.curves["return_curve"].mean(axis=-1) / finders.EPISODE
    whole = np.isfinite(found.curves["loss"]).all(axis=-1)
    return np.where(whole, lost, np.inf).reshape(len(rates), -1, seeds)


def spoiled(task, world, steps):
    """A task some of whose batches are bad, in the worlds that have bad ones.

    Batches are drawn anew in every update, not epoch by epoch.
    """
    draw = task.batch.at if hasattr(task.batch, "at") else task.batch
    bad = np.array([int(part * steps) for part in BAD])

    def batch(step, key):
        good = draw(step, key)
        inputs, targets = good["inputs"], good["targets"]
        numbers = jnp.issubdtype(inputs.dtype, jnp.floating)
        now = jnp.where(jnp.any(step == bad), world, 0)
        return {
            "inputs": jnp.where(now == 1, 100 * inputs if numbers else inputs[:, ::-1], inputs),
            "targets": jnp.where(now == 2, jnp.roll(targets, 1, axis=0), targets),
        }

    return dataclasses.replace(task, batch=batch)


def scheduled(rate, decay, steps):
    """A warmup and a cosine if `decay` is 1. If it is 0, a constant: both ends are the peak."""
    warmup, end = decay * (steps // 20), (1.0 - decay) * rate
    return lrax.warmup_cosine(rate, steps, warmup=warmup, end=end)


class Bench:
    """The runs of one task, kept in a file if there is one."""

    def __init__(self, case, steps, seeds, path):
        self.case, self.steps, self.seeds, self.path = case, steps, seeds, path
        self.runs = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def need(self, name, entry, rates):
        """Final losses `[rates, 2, seeds]`: trains the rates that are not there."""
        runs = self.runs.setdefault(name, {})
        missing = [rate for rate in rates if f"{rate:.4g}" not in runs]
        if missing:
            found = trained(self.case, entry, np.array(missing), self.steps, self.seeds)
            runs |= {
                f"{rate:.4g}": losses.tolist() for rate, losses in zip(missing, found, strict=True)
            }
            if self.path is not None:
                self.path.write_text(json.dumps(self.runs))
        return np.array([runs[f"{rate:.4g}"] for rate in rates])

    def baselines(self):
        """`{name: [2]}` of the best rates, and `{name: [3, 2, seeds]}` of the losses around."""
        best, losses = {}, {}
        for name, (make, rates) in BASELINES.items():
            entry = Entry(make, name)
            means = self.need(name, entry, rates).mean(axis=-1)
            best[name] = rates[np.argmin(means, axis=0)]
            around = [
                self.need(name, entry, [factor * rate for factor in FACTORS]) for rate in best[name]
            ]
            losses[name] = np.stack([runs[:, i] for i, runs in enumerate(around)], axis=1)
        return best, losses


def measured(case, names, steps, seeds, path):
    """`{method: [factors, 2]}` of ratios to the reference, and the baselines' best rates.

    On the pole the figures are percent, and no ratios. For guards they are `[worlds, 1]`, and the
    reference is their optimizer without a guard and without a bad batch.
    """
    bench = Bench(case, steps, seeds, path)
    best, found = bench.baselines()
    reference = min((losses[0, 0] for losses in found.values()), key=np.mean)
    references = {}
    for name in names:
        entry = ENTRIES[name]
        base = best[entry.base][0] if isinstance(entry.base, str) else entry.base
        found[name] = bench.need(name, entry, [factor * base for factor in entry.factors])
        if entry.worlds:
            bare = f"no guard, {entry.base}"
            references[name] = bench.need(bare, ENTRIES[bare], [base])[0, 0]
            found[name] = found[name].swapaxes(0, 1)
    if case.task is finders.pole:
        return {name: 100 * lost.mean(axis=-1) for name, lost in found.items()}, best
    ratio = lambda name: found[name] / references.get(name, reference)
    return {name: np.exp(np.mean(np.log(ratio(name)), axis=-1)) for name in found}, best


def number(value):
    if not np.isfinite(value):
        return "diverged"
    return f"{value:.0e}" if value >= 1000 else f"{value:.{2 if value < 10 else 0}f}"


def words(figures):
    """A row's cells of the figures `[tasks, factors, 2]`: constant, then cosine."""
    cells = []
    for kind in range(2):
        for factor in range(len(FACTORS)):
            if factor >= figures.shape[1] or kind >= figures.shape[2]:
                cells.append("")
                continue
            values = figures[:, factor, kind]
            shown = [np.median(values), np.max(values)] if len(values) > 1 else values
            cells.append(" / ".join(map(number, shown)))
    return cells


HEAD = ("as it is", "base rate / 10", "base rate x 10", "cosine", "/ 10", "x 10")


def show(found, tasks, worlds=False):
    """Prints the table of some tasks, of what `main` returns: of methods, or of guards."""
    chosen = [found[task] for task in tasks if task in found]
    is_guard = lambda name: name in ENTRIES and ENTRIES[name].worlds
    names = [name for of in chosen[:1] for name in of if is_guard(name) == worlds]
    if not names:
        return
    head = WORLDS if worlds else HEAD
    print(f"\n{', '.join(task for task in tasks if task in found)}")
    print(f"| {'guard' if worlds else 'method'} | " + " | ".join(head) + " |")
    print("|---" * (len(head) + 1) + "|")
    for name in names:
        cells = words(np.stack([of[name] for of in chosen]))[: len(head)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="cancer and pole, 20 updates, 2 seeds")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the runs")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.tasks, options.steps, options.seeds = ["cancer", "pole"], 20, 2
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
    machine(with_torch=False)
    print(f"{options.steps} updates, {options.seeds} seeds")
    known = finders.cases()
    found = {}
    for task in options.tasks:
        begin = time.process_time()
        size = f"{task}-{options.steps}-{options.seeds}.json"
        path = None if options.cache is None else options.cache / size
        names = [name for name in options.only if ENTRIES[name].runs_on(task)]
        ratios, best = measured(known[TASKS[task]], names, options.steps, options.seeds, path)
        found[task] = ratios
        rates = ", ".join(f"{name} {a:.2g} and {b:.2g}" for name, (a, b) in best.items())
        seconds = time.process_time() - begin
        print(f"{task}: best constant and cosine of {rates}; {seconds:.0f} s of the processor")
        for name, values in ratios.items():
            print(
                f"  {name:32}" + " ".join(f"{number(v):>9}" for v in values.T.ravel()), flush=True
            )
    others = [task for task in TASKS if task != "pole"]
    show(found, others)
    show(found, ["pole"])
    show(found, others, worlds=True)
    return found


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main()
