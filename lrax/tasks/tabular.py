"""Regression on a small table."""

from collections.abc import Sequence

import numpy as np
from jax.tree_util import Partial

from ..training.batches import minibatches
from ..training.task import Task
from .losses import evaluate_regression, init, squared_error
from .networks import MLP, sizes
from .splits import batch_size as at_most_the_examples, datasets, split


def diabetes(
    *, widths: Sequence[int] = (32,), batch_size: int = 32, held_out: float = 0.25, seed: int = 0
) -> Task:
    """Predicts the progression of diabetes from 10 measurements of 442 patients.

    The data is scikit-learn's and the loss is the squared error. Use it for a task with much noise,
    as most tables have: half of the target's variance cannot be explained, and training too long or
    at too high a rate overfits. With `widths=()` it is least squares, whose Hessian and best step
    sizes are known.

    Args:
      widths: Widths of the MLP's hidden layers, with ReLU; `()` makes it linear.
      batch_size: Examples per step, from 1 to the number of examples to train on (331 by default).
      held_out: Fraction of the examples that is kept for `evaluate`, between 0 and 1.
      seed: Seed of that split, from 0 to 2^32 - 1. The initial parameters and the order of the
        examples depend on the key of a run instead.

    Returns:
      A `lrax.Task`. A batch is `{"inputs": [batch_size, 10], "targets": [batch_size]}`,
      standardised by the mean and standard deviation of the examples to train on. `evaluate` gives
      `{"val_loss", "val_r2"}`; the loss of the best constant is about 1.

    Raises:
      ImportError: without scikit-learn, the extra `lrax[demo]`.
      ValueError: if a number is out of its range.
      TypeError: if an argument is not of its type.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> train = jax.jit(lrax.train(task, optax.adam, steps=100))
      >>> trained = train({"learning_rate": 0.003}, jax.random.key(0))
      >>> bool(task.evaluate(trained.params)["val_r2"] > 0.3)
      True

    Reference:
      Efron, Hastie, Johnstone, Tibshirani. Least Angle Regression. Annals of Statistics 32(2),
      2004, arXiv:math/0406456.
    """
    network = MLP((10, *sizes("widths", widths), 1))
    # Unscaled, because scikit-learn would scale by statistics of all examples. The held-out ones
    # would then influence training.
    inputs, targets = datasets("diabetes").load_diabetes(return_X_y=True, scaled=False)
    train, test = split(len(targets), held_out, seed)
    inputs = _standardise(inputs, inputs[train])
    targets = _standardise(targets, targets[train])
    # The functions are `Partial`s, so that two calls share one compiled program: see `losses.py`.
    return Task(
        init=Partial(init, network),
        loss=Partial(squared_error, network),
        batch=minibatches(
            {"inputs": inputs[train], "targets": targets[train]},
            at_most_the_examples(batch_size, len(train)),
        ),
        evaluate=Partial(
            evaluate_regression, network, {"inputs": inputs[test], "targets": targets[test]}
        ),
    )


def _standardise(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Values less the mean of `reference`, in units of its standard deviation."""
    return ((values - reference.mean(axis=0)) / reference.std(axis=0)).astype(np.float32)
