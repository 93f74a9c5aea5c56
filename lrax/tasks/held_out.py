"""Examples of scikit-learn's data sets, in two parts: to train on, and held out."""

import math
from typing import Any

import numpy as np

from .. import _require


def datasets(task: str) -> Any:
    """The module `sklearn.datasets`, for the task of this name."""
    try:
        from sklearn import datasets
    except ImportError as error:
        message = f'`lrax.tasks.{task}` needs scikit-learn: pip install "lrax[demo]"'
        raise ImportError(message) from error
    return datasets


def fraction(name: str, value: Any) -> float:
    """Requires a number strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must be between 0 and 1, both excluded, got {value}")
    return float(value)


def split(examples: int, held_out: Any, seed: Any, labels: np.ndarray | None = None) -> list[Any]:
    """Indices of the examples to train on, and of those held out; with `labels`, each part has every label's share."""
    from sklearn.model_selection import train_test_split

    held_out = fraction("held_out", held_out)
    seed = _require.count("seed", seed, 0)
    if seed >= 2**32:
        raise ValueError(f"`seed` must be below 2^32, got {seed}")
    classes = 2 if labels is None else len(np.unique(labels))
    if not classes <= math.ceil(held_out * examples) <= examples - classes:
        words = f"`held_out` must leave at least {classes} of {examples} examples on either side"
        raise ValueError(f"{words}, got {held_out}")
    return train_test_split(
        np.arange(examples), test_size=held_out, random_state=seed, stratify=labels
    )


def batch_size(value: Any, examples: int) -> int:
    """Requires a batch no larger than what there is to train on."""
    value = _require.count("batch_size", value, 1)
    if value > examples:
        raise ValueError(
            f"`batch_size` must be at most the number of examples to train on, {examples}, got {value}"
        )
    return value
