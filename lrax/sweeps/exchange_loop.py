"""Trains lanes segment by segment, and moves their states and hyperparameters in between."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from .choices import Points
from .engine.hosts import Hosts
from .engine.loop import Loop
from .exchanging import Answer, Exchange, Mask, Population, Values, asked
from .storage.checkpoint import State


class Exchanged(NamedTuple):
    """The lanes at the end of the training, and the history of their exchanges.

    Attributes:
      record: What the rule was given after the last segment.
      moves: What the rule returned after each segment.
      values: `[points, seeds]`, the objective of the lanes at the end, lower is better.
      metrics: `{name: [points, seeds]}`, what the task's `evaluate` returned at the end.
      last: The loop that holds the lanes at the end.
    """

    record: Population
    moves: list[Answer]
    values: Values
    metrics: dict[str, Values]
    last: Loop


def exchanged(
    loop: Loop,
    hosts: Hosts,
    points: Points,
    rule: Exchange,
    key: jax.Array,
    *,
    name: str,
    every: int,
    report: Callable[[int], None],
) -> Exchanged:
    """Trains all lanes to the end; after each segment they exchange states and hyperparameters.

    Args:
      loop: The sweep before its first update.
      hosts: The processes.
      points: The points of all processes.
      rule: The rule of exchange.
      key: The key of the rule's random numbers.
      name: The hyperparameter that the rule changes.
      every: Updates of a segment.
      report: Called with the updates done.
    """
    steps, seeds = loop.settings.steps, loop.engine.feed.seeds
    now = {label: np.tile(column[:, None], seeds) for label, column in points.columns.items()}
    hyperparams: dict[str, list[Values]] = {label: [] for label in now}
    scores: list[Values] = []
    moves: list[Answer] = []
    # The state from which the lanes begin the next segment, then the one of a segment earlier.
    kept = [_trained(loop, None, 0, report).state()] * 2
    kept_values = [np.full((len(points), seeds), np.inf)] * 2
    choices = {label: len(choice.items) for label, choice in points.choices.items()}
    words = np.ravel(jax.random.key_data(key)).tolist()
    record = None
    while record is None or record.done < steps:
        for label, column in now.items():
            hyperparams[label].append(column)
        loop = loop.having(Points(now, points.choices))
        part = _trained(loop, kept[0], min(every * (len(moves) + 1), steps), report)
        losses = hosts.gather(part.losses(part.done), len(points))
        finite = hosts.gather(part.finite, len(points))
        segment = losses[..., every * len(moves) :].astype(np.float64)
        scores.append(_scores(part, hosts, len(points), segment, finite))
        record = Population(
            losses=losses,
            objective=np.stack(scores, axis=-1),
            hyperparams={label: np.stack(columns) for label, columns in hyperparams.items()},
            name=name,
            every=every,
            done=part.done,
            steps=steps,
        )
        move = asked(rule, record, np.random.default_rng([*words, len(moves)]), choices)
        moves.append(move)
        now = move.hyperparams
        # The earlier states move with the lanes, and no mean is taken of them.
        along = move._replace(averaged=np.zeros_like(move.averaged))
        values = [scores[-1], *kept_values]
        kept_values = [
            _moved(values, move, averages=True),
            _moved(values[1:], along, averages=False),
        ]
        states = [part.state(), *kept]
        kept = [_moved_state(part, states, move), _moved_state(part, states[1:], along)]
    last = _trained(loop, kept[0], steps, report)
    metrics = hosts.gather(last.metrics(), len(points))
    values = kept_values[0]
    if loop.settings.objective in metrics:
        values = loop.settings.sign * metrics[loop.settings.objective]
    return Exchanged(record, moves, values, metrics, last)


def _trained(loop: Loop, state: State | None, until: int, report: Callable[[int], None]) -> Loop:
    """A loop that has trained from a state to the update `until`.

    It has also evaluated the objective there, if the objective is a metric and there were updates.
    """
    # After the last exchange nothing is trained. `Loop.metrics` then evaluates the lanes.
    is_end = state is not None and state.facts["done"] == until
    evaluated = loop.settings.objective != "train_loss" and not is_end
    part = loop.again(until=until, times=(until,) if evaluated and until else ())
    if state is not None:
        part.restore(state)
    part.advance(lambda: False, lambda done, _: report(done), None)
    if part.failure is not None:
        raise part.failure
    return part


def _scores(loop: Loop, hosts: Hosts, points: int, segment: Values, finite: Mask) -> Values:
    """The objective of a segment, lower is better; infinite for a lane with a NaN or infinity."""
    finite = finite & np.isfinite(segment).all(axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        found = segment.mean(axis=-1)
    if loop.settings.objective != "train_loss":
        metrics = hosts.gather(loop.evaluations[-1][1], points)
        found = metrics[loop.settings.objective].astype(np.float64)
    found = loop.settings.sign * found
    return np.where(finite & np.isfinite(found), found, np.inf)


def _moved_state(loop: Loop, states: Sequence[State], move: Answer) -> State:
    """The state from which the lanes go on, put together from `states`, the newest first."""
    now = states[0]
    arrays = dict(now.arrays)
    lanes = loop.engine.lanes
    params = len(jax.tree.leaves(lanes.params))
    for i, leaf in enumerate(jax.tree.leaves(lanes)):
        # The parameters are the first leaves of a lane. Integers are not averaged.
        averages = i < params and jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)
        had = [state.arrays[f"lanes/{i}"] for state in states]
        arrays[f"lanes/{i}"] = _moved(had, move, averages=averages)
    # Evaluations before the exchange are not those of the lanes after it.
    arrays = {name: leaf for name, leaf in arrays.items() if not name.startswith("evaluations/")}
    return State({**now.facts, "evaluated_at": [], "metrics": []}, arrays)


def _moved(had: Sequence[np.ndarray], move: Answer, *, averages: bool) -> np.ndarray:
    """One array of the lanes, `[points, seeds, ...]`, after an exchange.

    Args:
      had: The array now, a segment ago, and so on. A lane that goes back further gets the oldest.
      move: The exchange.
      averages: Whether to set all lanes of a seed to the mean of its lanes in `move.averaged`.
    """
    averaged = move.averaged
    column = np.arange(had[0].shape[1])
    found = had[0][move.source, column]
    for i in range(1, len(had)):
        back = move.back >= i
        found[back] = had[i][move.source, column][back]
    if averages:
        for seed in np.flatnonzero(averaged.any(axis=0)):
            # In double precision, so that only the result is rounded.
            dtype = np.promote_types(found.dtype, np.float64)
            mean = found[averaged[:, seed], seed].astype(dtype).mean(axis=0)
            found[:, seed] = mean.astype(found.dtype)
    return found
