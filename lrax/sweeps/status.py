"""The status of each lane, and why a lane has diverged."""

from collections.abc import Callable
from typing import Literal, cast

import numpy as np

from .. import _require

# A lane has diverged if its loss at some time rose above four times its start and ended above four
# fifths of the start. So a lane that recovers from a spike has not diverged. The range tests of
# fastai and Lightning stop at four times too.
BLOWN_UP = 4.0
RECOVERED = 0.8
# A rise is read from the means of this many stretches of the curve, because the loss of one batch
# may be four times that of another. Each stretch has `LEAST` records or more.
STRETCHES = 20
LEAST = 5
# The usual size of a loss is read from the first `EARLY` records, because one batch may mislead.
EARLY = 10

LossCurves = np.ndarray  # [points, seeds, records]
LaneMask = np.ndarray  # [points, seeds], bool
Diverged = float | Literal["auto"] | Callable[[LossCurves], LaneMask] | None


def statuses(
    losses: np.ndarray | None,
    finite: np.ndarray,
    stopped_at: np.ndarray,
    *,
    whole: bool,
    objective: str = "train_loss",
    diverged: Diverged = "auto",
    loss_every: int = 1,
    done: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""The status of every lane, and why it diverged if it did.

    A lane whose losses or parameters are not finite has diverged. If the objective is the training
    loss, a lane whose loss rose far above its start has diverged too:

    $$\max_k m_k > s + (d - 1) \, r \quad\text{and}\quad m_{\text{last}} > s - 0.2 \, r$$

    with the means $m_k$ of the curve's stretches, the factor $d$, the lane's first loss $s$, and a
    scale $r$ that is the same for all lanes. It is the median of $|s|$, or the usual size of the
    first ten losses if that is larger. A positive loss that starts at $r$ has diverged if it rose
    to $d$ times its start and did not end below 0.8 of its start. With another objective the
    training loss may rise while the runs get better, as in reinforcement learning. So there, only
    lanes that are not finite have diverged.

    Args:
      losses: `[points, seeds, records]`, those after a point was stopped are ignored. `None`
        if none were recorded, as in a `sweep_function`.
      finite: `[points, seeds]`, whether the last parameters are finite. Without losses, whether all
        scalar outputs are.
      stopped_at: `[points]`, after how many updates each point was stopped, or `done`. Without
        losses, 0 marks a point that was not run.
      whole: Whether the sweep came to its end, or was interrupted.
      objective: Name of the objective.
      diverged: One of: the factor $d$, above 1; a function of losses `[points, seeds, n]` that
        returns a mask `[points, seeds]`, called once for all points that were stopped at the same
        time; `None`, if only lanes that are not finite have diverged; `"auto"`, which is 4 for the
        training loss and `None` for other objectives.
      loss_every: Number of updates from one recorded loss to the next.
      done: Updates made; by default the number of losses times `loss_every`.

    Returns:
      Two arrays `[points, seeds]` of strings: `"done"`, `"diverged"`, `"pruned"` or
      `"interrupted"`; and the causes, empty where a lane has not diverged.

    Raises:
      ValueError: if `diverged` is a number that is not above 1, or its mask has another shape.
      TypeError: if `diverged` is neither a number, a function, "auto" nor None.
    """
    rule = as_rule(diverged, objective)
    # NumPy's strings have a fixed length, here that of the longest status.
    rest = np.full(finite.shape, "done" if whole else "interrupted", "U11")
    if losses is None:
        rest[:] = np.where(stopped_at == 0, "interrupted", "done")[:, None]
        lost = ~finite & (rest != "interrupted")
        causes = np.where(lost, "an output is not finite", "")
        return np.where(lost, "diverged", rest), causes
    updates = losses.shape[-1] * loss_every if done is None else done
    rest[stopped_at < updates] = "pruned"
    scale = _scale(losses)
    causes = np.full(finite.shape, "", "U64")
    # Points that were stopped at the same time have curves of the same length.
    for at in np.unique(stopped_at):
        here = stopped_at == at
        curves = losses[here, :, : max(-(-at // loss_every), 1)]
        causes[here] = _causes(curves, finite[here], rule, scale, loss_every)
    return np.where(causes != "", "diverged", rest), causes


def as_rule(
    diverged: _require.Unchecked, objective: str
) -> float | Callable[[LossCurves], LaneMask] | None:
    """Checks `diverged` and resolves `"auto"`; see `statuses`."""
    if isinstance(diverged, str):
        _require.choice("diverged", diverged, ("auto",))
        return BLOWN_UP if objective == "train_loss" else None
    if diverged is None or callable(diverged):
        return cast(Callable[[LossCurves], LaneMask] | None, diverged)
    if isinstance(diverged, bool) or not isinstance(diverged, (int, float, np.number)):
        raise TypeError(
            "`diverged` must be a factor, a function of losses [points, seeds, n], 'auto' or None,"
            f" got {diverged!r}"
        )
    if not 1 < diverged < np.inf:
        raise ValueError(f"`diverged` must be a finite factor above 1, got {diverged!r}")
    return float(diverged)


def _causes(
    curves: np.ndarray,
    finite: np.ndarray,
    rule: float | Callable[[LossCurves], LaneMask] | None,
    scale: float,
    loss_every: int,
) -> np.ndarray:
    """Why each lane has diverged, `""` where it has not; `[points, seeds]`."""
    causes = np.full(finite.shape, "", "U64")
    if callable(rule):
        mask = np.asarray(rule(curves))
        if mask.shape != finite.shape or mask.dtype != bool:
            raise ValueError(
                f"`diverged` must return a mask of shape {finite.shape}, got"
                f" {mask.dtype} of shape {mask.shape}"
            )
        causes[mask] = "by the function `diverged`"
    elif rule is not None:
        highest, last = _rises(curves, scale)
        start = curves[..., 0]
        # A comparison with NaN is false; such lanes get their cause below.
        lost = (highest > rule) & (last > RECOVERED)
        for lane in map(tuple, np.argwhere(lost)):
            risen = (highest[lane] - 1) * scale
            if start[lane] > 0.5 * scale:
                causes[lane] = f"loss rose to {_times(float(1 + risen / start[lane]))} its start"
            else:  # the start is near zero or negative, so a multiple of it means nothing
                causes[lane] = f"loss rose by {_times(float(risen / scale))} its usual size"
    causes[~finite] = "parameters are not finite"
    # Set last, so that it replaces other causes: this one says when the divergence began.
    broken = ~np.isfinite(curves)
    for lane in np.argwhere(broken.any(axis=-1)):
        first = int(np.argmax(broken[tuple(lane)]))
        word = "NaN" if np.isnan(curves[(*lane, first)]) else "infinite"
        causes[tuple(lane)] = f"loss is {word} from update {first * loss_every}"
    return causes


def _times(factor: float) -> str:
    """A factor as text: "6x", "2300x", "8e+14x"."""
    return f"{factor:.0f}x" if 100 <= factor < 1e5 else f"{factor:.2g}x"


def _scale(losses: LossCurves) -> float:
    """The size of a loss at the start, of all lanes together: the unit of a rise."""
    first = np.abs(losses[..., 0].astype(np.float64))
    first = first[np.isfinite(first)]
    start = float(np.median(first)) if first.size else 0.0
    early = np.abs(losses[..., :EARLY].astype(np.float64)).reshape(-1, min(EARLY, losses.shape[-1]))
    early = np.sort(np.median(early[np.isfinite(early).all(axis=1)], axis=1))
    # From the lower quartile of the lanes, because at high rates ten updates may be enough to
    # diverge. If most lanes did, the scale is too large and some of them are not labelled as
    # diverged. They still rank by their losses.
    usual = float(early[(len(early) - 1) // 4]) if len(early) else 0.0
    return max(start, usual, float(np.finfo(np.float32).tiny))


def _rises(curves: LossCurves, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The means of the highest and of the last stretch, on a scale where the start is 1."""
    count = int(np.clip(curves.shape[-1] // LEAST, 1, STRETCHES))
    parts = np.array_split(curves, count, axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.stack([part.mean(axis=-1, dtype=np.float64) for part in parts], axis=-1)
        rises = 1 + (means - curves[..., :1].astype(np.float64)) / scale
        return rises.max(axis=-1), rises[..., -1]
