"""`lrax.sweep`: trains every point of a grid with every seed at once, and lets the host in between segments."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from numpy.typing import ArrayLike

from .. import _require
from ..tasks.task import Task
from .grid import as_points
from .lanes import BLOCK, Programs, programs
from .progress import Interrupt, Progress
from .result import SweepResult, statuses
from .train import Optimizer, check_task, trained

# Between two looks at the progress, and between a Ctrl-C and its answer.
SECONDS_PER_SEGMENT = 0.3


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
    progress: bool | None = None,
) -> SweepResult:
    r"""Trains with every point of a grid, and every seed, side by side in one program.

    Use it to find a learning rate: half a decade around the best guess with three seeds, or five decades with one. All
    lanes are mapped by `jax.vmap` and stepped together, the data is stored once, and for each seed all points see the
    same initial parameters, batches and random numbers, so that their differences are those of the hyperparameters.
    Another sweep of the same task and optimizer, of the same size, recompiles nothing.

    A lane that diverges is labelled and ranked last, and changes no other lane. Ctrl-C ends the sweep between two
    segments and returns what is done; a second Ctrl-C raises.

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
      progress: Whether to show a progress bar. By default where a person watches: in a terminal or a notebook.

    Returns:
      A `SweepResult`: `.losses`, `.best`, `.optimum()`, `.table()`, `.plot()` and more.

    Raises:
      ValueError: if an argument is out of its range, or a name of the grid or the objective is unknown.
      TypeError: if an argument is not as described.

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
    compile_all, metric_names = _lower(parts, *arguments)
    _require.choice("objective", objective, ["train_loss", *metric_names])
    compile_all()
    compiled = time.perf_counter()
    with Interrupt() as interrupt, Progress(steps, progress) as bar:
        report = lambda losses, count: bar.advance(count, **_standing(points, layout.gather(losses)))
        lanes, records, evaluations = _run(parts, arguments, steps, interval, interrupt, report)
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


def _lower(parts: Programs, data: Any, hyperparams: Any, keys: jax.Array) -> tuple[Callable[[], None], list[str]]:
    """Traces the programs; returns what compiles them, side by side, and the names of the metrics."""
    zero = np.int32(0)
    (lanes, parts_of_keys), begin = parts.begin.lower(data, hyperparams, keys)
    rows, draw = parts.draw.lower(data, parts_of_keys, zero)
    _, train = parts.train.lower(data, hyperparams, parts_of_keys, rows, lanes, zero, zero)
    (metrics, _), evaluate = parts.evaluate.lower(data, lanes)

    def compile_all() -> None:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda compile_: compile_(), (train, begin, draw, evaluate)))

    return compile_all, list(metrics)


def _run(
    parts: Programs,
    arguments: tuple[Any, Any, jax.Array],
    steps: int,
    interval: int,
    interrupt: Interrupt,
    report: Callable[[np.ndarray, int], None],
) -> tuple[Any, Any, list[tuple[int, Any]]]:
    """Steps all lanes, segment by segment; returns them, what was recorded at each step, and the evaluations."""
    data, hyperparams, keys = arguments
    lanes, keys = parts.begin(data, hyperparams, keys)
    done, length, rows, records, evaluations = 0, 1.0, None, [], []
    read_at = time.perf_counter()
    while done < steps and not (done and interrupt.requested):
        if done % BLOCK == 0:
            rows = parts.draw(data, keys, np.int32(done // BLOCK))
        count = min(int(length), BLOCK - done % BLOCK, steps - done, interval - done % interval)
        lanes, record = parts.train(data, hyperparams, keys, rows, lanes, np.int32(done), np.int32(count))
        done += count
        records.append((count, record))
        if done % interval == 0 and interval < steps:
            evaluations.append((done, parts.evaluate(data, lanes)[0]))
        if len(records) > 1:  # read the segment before, while the device works on this one
            count = _read(records, -2, report)
            now = time.perf_counter()
            # Aim at equal times, but grow slowly: the first segments also pay for what happens once.
            length = np.clip(count * SECONDS_PER_SEGMENT / (now - read_at), 1, 4 * count)
            read_at = now
    _read(records, -1, report)
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *(record for _, record in records))
    return lanes, joined, jax.device_get(evaluations)


def _read(records: list[tuple[int, Any]], i: int, report: Callable[[np.ndarray, int], None]) -> int:
    """Fetches a segment's records to the host, in place."""
    count, record = records[i]
    record = jax.tree.map(lambda values: np.asarray(values)[:count], record)
    records[i] = (count, record)
    report(record["loss"], count)
    return count


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
