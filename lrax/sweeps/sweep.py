"""`lrax.sweep`: trains every point of a grid with every seed at once, and lets the host in between segments."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from numpy.typing import ArrayLike

from .. import _require
from ..tasks.task import Task
from .checkpoint import Checkpoint, digest
from .grid import as_points
from .lanes import programs
from .progress import Interrupt, Progress
from .result import SweepResult, statuses
from .run import Run
from .train import Optimizer, check_task, trained


def sweep(
    task: Task,
    optimizer: Optimizer,
    grid: Mapping[str, ArrayLike] | ArrayLike,
    *,
    steps: int,
    seeds: int | Sequence[int] | jax.Array = 1,
    objective: str = "train_loss",
    mode: str = "min",
    eval_every: int | None = None,
    rng: str = "common",
    budget: float | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    progress: bool | None = None,
) -> SweepResult:
    r"""Trains with every point of a grid, and every seed, side by side in one program.

    Use it to find a learning rate: half a decade around the best guess with three seeds, or five decades with one. All
    lanes are mapped by `jax.vmap` and stepped together, the data is stored once, and for each seed all points see the
    same initial parameters, batches and random numbers, so that their differences are those of the hyperparameters.
    Another sweep of the same task and optimizer, of the same size, recompiles nothing.

    A lane that diverges is labelled and ranked last, and changes no other lane. Ctrl-C ends the sweep between two
    segments and returns what is done; a second Ctrl-C raises. With a `checkpoint`, a sweep that was ended or killed
    goes on where it was when the same call is made again, and ends with the same result to the last bit.

    Args:
      task: What is trained.
      optimizer: Function from the grid's names to an `optax.GradientTransformation`: `optax.adam` with
        `{"learning_rate": rates}`, or
        `lambda lr, wd: optax.adamw(lrax.warmup_cosine(lr, 1000, 100), weight_decay=wd)`. The same function again finds
        its program compiled.
      grid: `{name: values}`, of which the product is tried, or values alone for the optimizer's first parameter.
      steps: Optimizer updates of each lane, at least 1.
      seeds: How many seeds (0, 1, ...), or the seeds themselves, or an array of keys. The seed `s` trains what
        `lrax.train` trains with `jax.random.key(s)`.
      objective: What ranks the points: `"train_loss"`, the training loss over the last tenth of the steps, or one of
        the names that the task's `evaluate` returns.
      mode: `"min"` or `"max"`, what the objective is to be: `"max"` for an accuracy.
      eval_every: Evaluate all lanes every so many steps too, and not only at the end. At least 1.
      rng: `"common"` shares each seed's initial parameters, batches and random numbers among all points;
        `"independent"` draws them anew for each.
      budget: Time after which the sweep ends as by Ctrl-C, in seconds or as `"90s"`, `"10min"`, `"2h"`; compiling is
        part of it.
      checkpoint: A file to keep the sweep's state in, or to go on from if it is there; `.npz` is added to a path
        without a suffix. It is saved at intervals, at Ctrl-C and at the end, and replaced whole or not at all. It holds
        arrays and JSON, so loading one can run no code, and is refused if it belongs to another sweep.
      checkpoint_every: Seconds between two saves, at least 0.
      progress: Whether to show a progress bar. By default where a person watches: in a terminal or a notebook.

    Returns:
      A `SweepResult`: `.losses`, `.best`, `.optimum()`, `.table()`, `.plot()` and more.

    Raises:
      ValueError: if an argument is out of its range, or a name of the grid or the objective is unknown.
      TypeError: if an argument is not as described.
      OSError: if the checkpoint cannot be written; the one saved before is kept.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> result = lrax.sweep(task, optax.adam, {"learning_rate": lrax.log_grid(1e-5, 1e-1, 5)}, steps=50, seeds=2)
      >>> result
      SweepResult(5 points x 2 seeds x 50 steps; best learning_rate=0.01)
      >>> result.losses.shape
      (5, 2, 50)
    """
    check_task(task)
    points = as_points(grid, optimizer)
    steps = _require.count("steps", steps, 1)
    interval = steps if eval_every is None else _require.count("eval_every", eval_every, 1)
    _require.choice("rng", rng, ("common", "independent"))
    _require.choice("mode", mode, ("min", "max"))
    names, keys = _keys(seeds)
    layout = _Layout(len(names), len(next(iter(points.values()))), rng)
    parts, data = programs(task, optimizer)
    arguments = (data, {name: layout.spread(values) for name, values in points.items()}, layout.split(keys))

    start = time.perf_counter()
    deadline = None if budget is None else start + _require.seconds("budget", budget)
    run = Run(parts, arguments, steps, interval)
    _require.choice("objective", objective, ["train_loss", *run.metrics])
    saved = None
    if checkpoint is not None:
        configuration = {
            "hyperparams": {name: values.tolist() for name, values in points.items()},
            "seeds": [names, digest(jax.random.key_data(keys))],
            **dict(steps=steps, eval_every=interval, rng=rng),
            "task and optimizer": digest(*run.contents()),
            "data": digest(data),
            "jax": jax.__version__,
        }
        saved = Checkpoint(checkpoint, _require.seconds("checkpoint_every", checkpoint_every), configuration)
        run.resume(saved.load())
    run.compile()
    compiled = time.perf_counter()
    with Interrupt() as interrupt, Progress(steps, progress, run.done) as bar:
        report = lambda losses, count: bar.advance(count, **_standing(points, layout.gather(losses)))
        stop = lambda: interrupt.requested or (deadline is not None and time.perf_counter() > deadline)
        run.advance(stop, report, saved)
    lanes, records, evaluations = run.lanes, run.records, run.evaluations
    metrics, finite = jax.device_get(parts.evaluate(data, lanes))
    ran = time.perf_counter()

    records = jax.tree.map(layout.gather, records)
    metrics = {name: layout.gather(values) for name, values in metrics.items()}
    losses = records["loss"]
    status = statuses(losses, layout.gather(finite), whole=losses.shape[-1] == steps)
    result = SweepResult(
        hyperparams=points,
        seeds=names,
        losses=losses,
        aux=records["aux"],
        metrics=metrics,
        evaluations={
            name: layout.gather(np.stack([e[name] for _, e in evaluations])) for name in metrics if evaluations
        },
        evaluated_at=np.array([at for at, _ in evaluations], int),
        status=status,
        objective=objective,
        mode=mode,
        info=_info(steps, rng, compile_seconds=compiled - start, run_seconds=ran - compiled),
        best_params=None,
    )
    lane = layout.lane(*result.best_lane)
    return dataclasses.replace(result, best_params=jax.device_get(_pick(trained(task, lanes), *lane)))


class _Layout(NamedTuple):
    """Where the lanes of `[points, seeds]` stand in the programs' `[groups, members]`.

    With common random numbers a group is a seed; otherwise every lane is a group of its own.
    """

    seeds: int
    points: int
    rng: str

    def spread(self, values: np.ndarray) -> jax.Array:
        every = np.broadcast_to(values, (self.seeds, self.points))
        return jnp.asarray(every if self.rng == "common" else every.reshape(-1, 1), _require.float_dtype())

    def split(self, keys: jax.Array) -> jax.Array:
        if self.rng == "common":
            return keys
        fold = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))
        return fold(keys, jnp.arange(self.points)).reshape(-1)

    def gather(self, values: Any) -> np.ndarray:
        """`[..., groups, members]` to `[points, seeds, ...]`."""
        values = np.asarray(values)
        lanes = values.reshape(*values.shape[:-2], self.seeds, self.points)
        return np.ascontiguousarray(np.moveaxis(lanes, (-1, -2), (0, 1)))

    def lane(self, point: int, seed: int) -> tuple[int, int]:
        return (seed, point) if self.rng == "common" else (seed * self.points + point, 0)


def _keys(seeds: int | Sequence[int] | jax.Array) -> tuple[list[str], jax.Array]:
    """The seeds' names and keys."""
    if isinstance(seeds, jax.Array) and jnp.issubdtype(seeds.dtype, jax.dtypes.prng_key):
        if seeds.ndim != 1 or not seeds.size:
            raise ValueError(f"`seeds` must be an array of at least one key, got shape {seeds.shape}")
        if "threefry" not in str(jax.random.key_impl(seeds)):
            # Under vmap, rbg draws for all lanes from the first lane's key.
            raise ValueError(f"`seeds` must be threefry keys, got {jax.random.key_impl(seeds)}")
        return [f"key {i}" for i in range(len(seeds))], seeds
    if isinstance(seeds, (int, np.integer)):
        seeds = range(_require.count("seeds", seeds, 1))
    numbers = [_require.count(f"seeds[{i}]", seed, 0) for i, seed in enumerate(np.asarray(seeds))]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"`seeds` must be at least one seed and all different, got {numbers}")
    return list(map(str, numbers)), jnp.stack([jax.random.key(seed, impl="threefry2x32") for seed in numbers])


def _standing(points: dict[str, np.ndarray], losses: np.ndarray) -> dict[str, str]:
    """Who leads after a segment with these losses, `[points, seeds, steps]`."""
    last = losses.mean(axis=(1, 2))
    lost = int(np.sum(~np.isfinite(losses[..., -1])))
    best = int(np.argmin(np.where(np.isfinite(last), last, np.inf)))
    facts = {f"best {name}": f"{values[best]:.2g}" for name, values in points.items()}
    return {**facts, "loss": f"{last[best]:.3g}", **({"diverged": str(lost)} if lost else {})}


@jax.jit
def _pick(tree: Any, group: Any, member: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[group, member], tree)


def _info(steps: int, rng: str, **seconds: float) -> dict[str, Any]:
    (device,) = jnp.zeros(()).devices()
    versions = {module.__name__: module.__version__ for module in (jax, optax, np)}
    return {
        "device": f"{device.platform} ({device.device_kind})",
        "steps": steps,
        "rng": rng,
        **{name: round(value, 3) for name, value in seconds.items()},
        "versions": versions,
    }
