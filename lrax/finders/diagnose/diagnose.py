"""`lrax.diagnose`: finds out what went wrong with a run, from its curves."""

from __future__ import annotations

from collections.abc import Mapping

from ... import _require
from ...training.optimizer import Optimizer
from ...training.run import Params, TaskLike
from . import edge, fit, inputs, progress, rates as schedules, replay, stability
from .finding import Finding
from .inputs import Given, Source
from .lane import Lane
from .log import Log
from .report import Findings
from .signs import LEAST, Signs

ORDER = ("certain", "likely", "possible")
# With one of these findings the training was unstable, and its progress and fit are not judged.
UNSTABLE = ("diverging", "rate_too_high")


def diagnose(
    source: Source = None,
    *,
    loss: Given = None,
    val_loss: Given = None,
    rates: Given = None,
    steps: Given = None,
    monitors: Mapping[str, Given] | None = None,
    lane: Lane = "best",
    dtype: str | None = None,
    retry: TaskLike | None = None,
    optimizer: Optimizer | None = None,
    params: Params | None = None,
    seeds: int = 2,
    progress: bool | None = None,
) -> Findings:
    r"""What went wrong with a run: findings with evidence, how sure they are, and what to change.

    Each finding measures the curves in units of their own noise and their own fall,

    $$\text{fall} = \ell_0 - \min_t \text{trend}_t, \qquad
      \text{noise} = 1.4826 \, \mathrm{median}_t |\ell_{t+1} - \ell_t| / \sqrt 2$$

    so a finding depends neither on a factor of the loss nor on the interval of the logger. Use it
    after a run that disappoints, and in CI: `python -m lrax diagnose PATH` exits with 1 if there is
    a finding. A healthy run has no findings. The possible findings are `diverging`, `spiking`,
    `rate_too_high`, `rate_too_low`, `plateau`, `warmup_too_short`, `warmup_too_long`,
    `schedule_ended_early`, `schedule_climbs_back`, `count_fault`, `decay_too_strong`,
    `over_fitting` and `updates_too_small`.

    The training loss should have 30 records or more, and 150 are good. With fewer than 30, only a
    loss that is not finite, faults of the schedule, and over-fitting are found. The rates show
    faults of the schedule, and the validation loss shows over-fitting. The monitors `param_norm`,
    `grad_norm` and `update_ratio` tell the other causes apart. With `stable_rate`, a monitor or
    evaluation of yours that returns `lrax.probes.max_stable_rate` of a `lrax.probes.sharpness`, the
    findings of an unstable loss say whether the rate was above the largest stable one, and since
    when. A run that goes on at the edge of stability gets a note, not a finding: with large batches
    that is usual. `notes` also say what was missing.

    Args:
      source: A `SweepResult`, a pandas DataFrame, a dict of arrays, or the path of a CSV, a file of
        JSON lines, a `trainer_state.json`, or TensorBoard event files; None if `loss` is an array.
        The columns are recognised by the names that common loggers write, such as "train/loss",
        "eval_loss", "lr" and "grad_norm".
      loss: The training loss: the name of its column, or `[records]`.
      val_loss: The validation loss: the name of its column, or an array. An array with fewer
        records than `loss` is spread evenly over the run.
      rates: The learning rate: the name of its column, or an array; or one number, or a function of
        the step such as a `Schedule`.
      steps: The step of each record: the name of its column, or an array. The default is a column
        named "step" or the like, or else 0, 1, 2, ...
      monitors: `{name: column or array}` with the names "grad_norm", "update_norm",
        "update_ratio", "param_norm" and "stable_rate", if the columns have other names.
      lane: Which lane of a `SweepResult`: "best", or (point, seed).
      dtype: The dtype of the parameters, such as "bfloat16". For a `SweepResult` it is known.
      retry: The task, for a replay. If a finding depends on the height of the rate, the steps of
        the finding are trained again at several multiples of the run's rates, side by side in one
        program. The report says which multiples would have helped. A replay needs `optimizer` and
        the rates.
      optimizer: For `retry`, a function of the rate that returns an `optax.GradientTransformation`.
        It gets a number if the rate is constant, else a `Schedule`.
      params: For `retry`, the parameters at the first step of the finding, from a checkpoint.
        Without them the replay begins at the task's first update, and ends with the finding's
        steps.
      seeds: For `retry`, how many seeds, at least 1.
      progress: For `retry`, whether to show a progress bar. By default one is shown in a terminal
        or a notebook.

    Returns:
      A `Findings`, with the surest finding first. It is true if there is any, and `print` shows it.
      See also `.findings`, `.notes`, `.retry`, `.to_dict()` and `.plot()`.

    Raises:
      ValueError: if there is no training loss, a column of the given name does not exist, lengths
        differ, or a file holds no records.
      TypeError: if an argument is not of its type.
      OSError: if a file cannot be read.
      ImportError: if TensorBoard's files are given without tensorboard.

    Example:
      >>> steps = np.arange(200)
      >>> noise = 0.02 * np.random.default_rng(0).normal(size=200)
      >>> rates = lrax.cosine(0.1, steps=80).values(steps)  # made for another length
      >>> loss = 1 + np.exp(-steps / 20) + noise
      >>> found = lrax.diagnose(loss=loss, rates=rates)
      >>> found.names
      ['schedule_ended_early']
      >>> print(found[0].at, found[0].confidence)
      (80, 199) certain
      >>> lrax.diagnose(loss=loss, rates=lrax.cosine(0.1, steps=200))
      Findings(healthy; arrays)

    Reference:
      Rousseeuw, Croux. Alternatives to the Median Absolute Deviation. 1993 (the statistics).
    """
    seeds = _require.count("seeds", seeds, 1)
    log = inputs.read(
        source,
        loss=loss,
        val_loss=val_loss,
        rates=rates,
        steps=steps,
        monitors=monitors,
        lane=lane,
        dtype=dtype,
    )
    replay.check(retry, optimizer, params, log)
    found = findings_of(log)
    notes = [*log.notes, *edge.notes(log), *_missing(log)]
    again = None
    if retry is not None and optimizer is not None:
        # A fault of the schedule's shape or of the data is the same at any rate.
        suspects = [finding for finding in found if finding.name in replay.FACTORS]
        if suspects:
            again = replay.replay(
                log,
                suspects[0],
                retry,
                optimizer,
                params=params,
                seeds=seeds,
                progress=progress,
            )
        else:
            notes.append("nothing was replayed: no finding depends on the height of the rate")
    return Findings(tuple(found), log.source, tuple(notes), again, log)


def findings_of(log: Log) -> list[Finding]:
    """All findings of a run, the surest first."""
    signs = Signs(log)
    found = [*stability.findings(signs), *schedules.findings(log)]
    if not any(finding.name in UNSTABLE for finding in found):
        found += [*progress.findings(signs), *fit.findings(signs)]
    return sorted(found, key=lambda finding: ORDER.index(finding.confidence))


def _missing(log: Log) -> list[str]:
    """Notes on the questions that the records cannot answer."""
    notes = []
    if log.is_short(LEAST):
        notes.append(f"fewer than {LEAST} records of the loss: its progress is not looked at")
    if log.rates is None:
        notes.append("no rates: the schedule, a plateau and a replay are not looked at")
    if log.val_loss is None:
        notes.append("no validation loss: over-fitting is not looked at")
    without = [name for name in ("update_ratio", "param_norm") if name not in log.monitors]
    if without:
        notes.append(f"no {' and '.join(without)}: some causes cannot be told apart")
    if "update_ratio" in log.monitors and not log.dtype:
        notes.append("no dtype: whether updates are rounded away is not looked at")
    return notes
