"""Whether curvature bounds the rates of a search from above: `python -m tests.benchmarks.curvature`.

The combinations are those of the benchmark of finders, but for the pole, which is no task. On each,
`lrax.probes.critical_rate` is measured on the batch of the update: at the start, along the first
update of the optimizer, and at the first rung of `lrax.find`, in the runs that survive it. A warmup
would begin with a rate of 0, so at the start the update is that of a constant rate. Both critical
rates are rates, to be compared with the peak of a schedule. The stability limit is that of the
sharpness at the start, for momentum and, with the preconditioner of the first update, for Adam.

Then `find` is played from a record: once with its whole first grid, and once without the rates
above the critical rate that was measured at the start with the first seed of the draw. One more
combination is made to mislead: a bowl where the first step of Adam is short in one direction, and
the way is long in the other.

With `--cache FOLDER`, runs are shared with those that `finders` keeps for as many seeds.
"""

import argparse
import dataclasses
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

import lrax
from lrax.finders.search import planned, search

from . import finders
from .finders import FIRST, SEEDS, Case, Record, file_of, key_of, percent, player, rate_of, truth

RUNS = (7, 15)
TAIL = 8  # the training loss of a run is the mean of this last part of it
GUESS = 0.1
# What the limit of stability follows from: the kind of the optimizer, and whether it divides.
LIMITS: dict[Any, tuple[str, bool]] = {
    finders.momentum: ("heavy_ball", False),
    optax.adam: ("ema_momentum", True),
    finders.adamw: ("ema_momentum", True),
}


BOWL = "stiff bowl, Adam, cosine"
STIFFNESS = (1000.0, 1.0)
BEGIN = (0.01, 10.0)


class Played(NamedTuple):
    """`find` in some draws: `[2, draws]`, with the whole grid and with the bounded one."""

    rates: np.ndarray  # how many the first stage has
    first: np.ndarray  # what the first stage costs, in whole runs
    spent: np.ndarray  # what the search costs
    regret: np.ndarray
    certain: np.ndarray


class Row(NamedTuple):
    """What is known of a combination; rates, not their logarithms."""

    best: float  # by the objective of whole runs
    trained: float  # by their training loss, to half a decade
    finite: float  # up to which rate no run diverges, to half a decade
    lowers: float  # up to which the objective ends better than it began
    start: np.ndarray  # critical rates at the start, [seeds]
    limit: float  # of stability at the start, the median of seeds; NaN for other optimizers
    rung: np.ndarray  # critical rates at the first rung, [rates that survive it]
    played: dict[int, Played]  # by `runs`


def cases():
    """`{name: Case}`: those of the finders that are tasks, and the bowl."""
    found = {name: case for name, case in finders.cases().items() if case.task is not finders.pole}
    return found | {BOWL: bowl()}


def bowl():
    """A case whose loss is the sum of 1 and a quadratic of two parameters."""
    loss = lambda params: 1 + jnp.sum(jnp.array(STIFFNESS) * params**2) / 2
    task = lrax.Task(
        init=lambda key: jnp.array(BEGIN),
        loss=lambda params, batch: loss(params),
        batch=lambda step, key: jnp.zeros(1),
        evaluate=lambda params: {"val_loss": loss(params)},
    )
    return Case(task, optax.adam, finders.cosine, 48, False)


def room(task, step):
    """How much larger the update of a step could be before it raises the loss of its batch."""
    found = lrax.probes.critical_rate(loss_of(task, step), step.params, step.updates, guess=GUESS)
    return found.rate


def loss_of(task, step):
    """The loss of a step's batch, as a function of the parameters."""
    if task.stateful:
        return lambda params: task.loss(params, step.state, step.batch)[0]
    return lambda params: task.loss(params, step.batch)


def at_start(case, seeds):
    """The critical rate along the first update and the limit of stability; `[seeds]` each."""
    kind, divides = LIMITS.get(case.optimizer, (None, False))

    def limit(step):
        divisors = lrax.probes.preconditioner(step.opt_state) if divides else None
        sharpness = lrax.probes.sharpness(
            loss_of(case.task, step), step.params, preconditioner=divisors, key=step.key
        )
        return lrax.probes.max_stable_rate(sharpness, kind, beta=0.9)

    found = lrax.sweep(
        case.task,
        case.optimizer,
        [1.0],
        steps=1,
        seeds=seeds,
        objective="train_loss",
        params=case.params,
        monitors={
            "room": lambda step: room(case.task, step),
            "limit": limit if kind else lambda step: jnp.nan,
        },
        progress=False,
    )
    return [np.asarray(found.monitors[name])[0, :, 0] for name in ("room", "limit")]


def later(case, rates, seed, look):
    """The critical rate after `look` updates, and the training loss at the end; `[rates]` each."""
    found = lrax.sweep(
        case.task,
        case.made(case.steps),
        rates,
        steps=case.steps,
        seeds=[seed],
        objective="train_loss",
        params=case.params,
        monitors={"room": lambda step: room(case.task, step)},
        record_every=look,
        progress=False,
    )
    # The room is a multiple of the rate that the schedule has then.
    part = 1.0 if case.shape is None else float(case.shape(1.0, case.steps)(look))
    ends = found.losses[:, 0, -(case.steps // TAIL) :].mean(axis=1)
    trained = np.where(np.isfinite(ends), ends, np.inf)
    return part * rates * np.asarray(found.monitors["room"])[:, 0, 1], trained


def played(case, own, true, best, critical, draws):
    """`find` with and without the bound; `{runs: Played}`."""
    answers = {}
    for runs in RUNS:
        whole = planned(case.steps, runs=runs, seeds=SEEDS, schedule=case.shape)
        for bounded in (False, True):
            told = []
            for chosen in draws:
                plan = whole
                if bounded:
                    below = whole.grid[whole.grid <= critical[chosen[0]]]
                    plan = dataclasses.replace(whole, grid=below)
                train = player(own, chosen)
                first = train({"rate": plan.grid}, range(plan.several), plan.stop)
                cost = first.stopped_at.sum() / case.steps
                found = search(train, plan, "rate", lambda rate: {})
                told.append((len(plan.grid), cost, found.runs, key_of(found.rate), found.certain))
            answers[runs, bounded] = np.transpose(told)
    # All rates in one sweep.
    true.need({int(key) for told in answers.values() for key in told[3]})
    found = {}
    for runs in RUNS:
        rates, first, spent, keys, certain = np.stack(
            [answers[runs, bounded] for bounded in (False, True)], axis=1
        )
        means = np.stack([true.means(row) for row in keys])
        found[runs] = Played(rates, first, spent, (means - best) / abs(best), certain)
    return found


def measured(name, case, folder, options):
    """The row of a combination."""
    seeds = list(range(FIRST, FIRST + options.seeds))
    own = Record(case, case.steps, seeds, True, file_of(folder, name, "own", options.seeds))
    every = list(range(options.truth))
    true = Record(case, case.steps, every, False, file_of(folder, name, "true", options.truth))
    best = truth(true)
    plan = planned(case.steps, runs=RUNS[-1], seeds=SEEDS, schedule=case.shape)
    keys = [key_of(rate) for rate in plan.grid]
    own.need(keys)
    ends = np.stack([own.ends(key) for key in keys]).max(axis=1)
    began = own.scores[keys[0]][:, 0].min()
    critical, limits = at_start(case, seeds)
    look = plan.stop.looks(case.steps)[0]
    room_then, trained = later(case, plan.grid, seeds[0], look)
    first = player(own, [0])({"rate": plan.grid}, range(1), plan.stop)
    survives = (first.stopped_at > look) & (first.status[:, 0] != "diverged")
    draws = finders.drawn(options.draws, options.seeds)
    return Row(
        best=float(rate_of(best.key)),
        trained=float(plan.grid[np.argmin(trained)]),
        finite=float(plan.grid[np.isfinite(ends)].max()),
        lowers=float(plan.grid[ends < began].max()),
        start=critical,
        limit=float(np.median(limits)),
        rung=room_then[survives],
        played=played(case, own, true, best.value, critical, draws),
    )


HEAD = (
    "combination",
    "best rate",
    "finite to, lowers to",
    "critical at the start",
    "best / critical, by training loss",
    "stability limit",
    "critical at the rung",
    "rates",
    "first stage",
    "regret at 7 runs",
)


def words(name, row):
    """Cells of a table."""
    start = np.median(row.start)
    span = lambda values: f"{np.min(values):.2g} to {np.max(values):.2g}"
    pair = lambda cells: " → ".join(cells)
    hasty, careful = (row.played[runs] for runs in RUNS)
    return [
        name,
        f"{row.best:.2g}",
        f"{row.finite:.2g}, {row.lowers:.2g}",
        f"{start:.2g}, {span(row.start)}",
        f"{row.best / start:.2g}, {row.trained / start:.2g}",
        "" if np.isnan(row.limit) else f"{row.limit:.2g}",
        span(row.rung),
        pair(f"{each:.1f}" for each in careful.rates.mean(axis=1)),
        pair(f"{each:.1f}" for each in careful.first.mean(axis=1)),
        pair(percent(each) for each in np.median(hasty.regret, axis=1)),
    ]


def pooled(together, grid):
    """Cells of a table: the draws of several combinations with one of the two grids."""
    regret = together.regret[grid]
    means = [getattr(together, field)[grid].mean() for field in ("rates", "first", "spent")]
    return [
        *[f"{mean:.1f}" for mean in means],
        f"{percent(np.median(regret))} / {percent(regret.max())}",
        f"{1 - together.certain[grid].mean():.0%}",
    ]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="names of combinations")
    parser.add_argument("--draws", type=int, default=5, help="draws of seeds for each")
    parser.add_argument("--seeds", type=int, default=6, help="seeds of the search")
    parser.add_argument("--truth", type=int, default=4, help="seeds of the truth")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the runs")
    options = parser.parse_args(arguments)
    known = cases()
    found = {}
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        if options.cache is not None:
            options.cache.mkdir(parents=True, exist_ok=True)
        print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
        for name in options.only or known:
            found[name] = measured(name, known[name], options.cache or Path(folder), options)
            print(f"| {' | '.join(words(name, found[name]))} |", flush=True)
    print(f"\nlrax {lrax.__version__}, jax {jax.__version__}, ", end="")
    print(f"{time.process_time() - begin:.0f} s of the processor")
    real = [row for name, row in found.items() if name != BOWL]
    if real:
        print("\n| runs | grid | rates | first stage | spent | regret | cannot tell |")
        print(f"|{'---|' * 7}")
        for runs in RUNS:
            both = [row.played[runs] for row in real]
            together = Played(*(np.concatenate(field, axis=1) for field in zip(*both, strict=True)))
            for i, grid in enumerate(("whole", "bounded")):
                print(f"| {runs} | {grid} | " + " | ".join(pooled(together, i)) + " |")
    return found


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main()
