"""The split of scikit-learn's data sets into examples to train on and held-out ones."""

import math
from types import ModuleType

import numpy as np

from .. import _require


def datasets(task: str) -> ModuleType:
    """The module `sklearn.datasets`. The error without scikit-learn names the task."""
    try:
        from sklearn import datasets
    except ImportError as error:
        message = f"`lrax.tasks.{task}` needs scikit-learn: {_require.installing('demo')}"
        raise ImportError(message) from error
    return datasets


def split(
    examples: int, held_out: float, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the examples to train on, and of the held-out ones.

    With `labels`, both parts have every label in the same proportion.
    """
    from sklearn.model_selection import train_test_split

    held_out = _require.fraction("held_out", held_out)
    seed = _require.count("seed", seed, 0, 2**32 - 1)  # scikit-learn takes no larger one
    # The variance in R^2 needs two held-out examples. A split by labels needs one example of each
    # label in both parts. scikit-learn's own errors name none of our arguments.
    fewest = 2 if labels is None else len(np.unique(labels))
    if not fewest <= math.ceil(held_out * examples) <= examples - fewest:
        words = f"`held_out` must leave at least {fewest} of {examples} examples on either side"
        raise ValueError(f"{words}, got {held_out}")
    indices = np.arange(examples)
    parts = train_test_split(indices, test_size=held_out, random_state=seed, stratify=labels)
    train, test = map(np.asarray, parts)
    return train, test


def batch_size(value: int, examples: int) -> int:
    """Requires a batch size from 1 to the number of examples to train on."""
    value = _require.count("batch_size", value, 1)
    if value > examples:
        words = f"`batch_size` must be at most the number of examples to train on, {examples}"
        raise ValueError(f"{words}, got {value}")
    return value
