"""What has become of lanes."""

import numpy as np

# A lane has diverged, finite or not, when its loss once rose above four times its first, where the
# range tests of fastai and Lightning stop, and ended above four fifths of it: a lane that recovers
# from a spike has not.
BLOWN_UP = 4.0
RECOVERED = 0.8


def statuses(
    losses: np.ndarray, finite: np.ndarray, stopped_at: np.ndarray, *, whole: bool
) -> np.ndarray:
    """The status of every lane, from its losses, whether its last parameters are finite, and when it was stopped."""
    found = np.empty(finite.shape, "U11")
    for at in np.unique(stopped_at):
        here = stopped_at == at
        rest = "pruned" if at < losses.shape[-1] else "done" if whole else "interrupted"
        found[here] = np.where(
            _have_diverged(losses[here, :, : max(at, 1)], finite[here]), "diverged", rest
        )
    return found


def _have_diverged(losses: np.ndarray, finite: np.ndarray) -> np.ndarray:
    # Means of twenty stretches, or of fewer that have five steps each: a single batch's loss may
    # well be four times another's.
    stretches = np.array_split(losses, np.clip(losses.shape[-1] // 5, 1, 20), axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.stack(
            [stretch.mean(axis=-1, dtype=np.float64) for stretch in stretches], axis=-1
        )
        first = losses[..., :1].astype(np.float64)
        ratios = 1 + (means - first) / np.maximum(np.abs(first), 1e-30)
        lost = (ratios.max(axis=-1) > BLOWN_UP) & (ratios[..., -1] > RECOVERED)
    return ~np.all(np.isfinite(losses), axis=-1) | ~finite | lost
