"""Grids."""

import numpy as np
import optax
import pytest

import lrax
from lrax.sweeps.grid import as_points


def test_log_grid():
    rates = lrax.log_grid(1e-5, 1.0, 48)
    assert rates.shape == (48,)
    assert (rates[0], rates[-1]) == (1e-5, 1.0)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10 ** (5 / 47))
    assert lrax.log_grid(0.1, 1.0, 1).tolist() == [0.1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.0, 1.0, 3), ValueError, "`low` must be finite and positive, got 0"),
        ((0.1, np.nan, 3), ValueError, "`high` must be finite and positive, got nan"),
        ((1.0, 0.1, 3), ValueError, "`low` must be at most `high`, got 1.0 and 0.1"),
        ((0.1, 1.0, 0), ValueError, "`n` must be at least 1, got 0"),
        ((0.1, 1.0, 2.5), TypeError, "`n` must be an int, got 2.5"),
        (("a", 1.0, 2), TypeError, "`low` must be a real number"),
    ],
)
def test_log_grid_names_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        lrax.log_grid(*arguments)


def test_points_are_the_product_with_the_first_name_outermost():
    points = as_points({"learning_rate": [1, 2], "b1": [0.8, 0.9, 0.95]}, optax.adam)
    assert points.columns["learning_rate"].tolist() == [1, 1, 1, 2, 2, 2]
    assert points.columns["b1"].tolist() == [0.8, 0.9, 0.95] * 2


def test_values_alone_are_for_the_first_parameter():
    assert list(as_points([0.1], optax.adam).columns) == ["learning_rate"]
    assert list(as_points(0.1, lambda lr, wd=0.0: None).columns) == ["lr"]
    with pytest.raises(
        TypeError, match=r"must be \{name: values\} for an optimizer without named parameters"
    ):
        as_points([0.1], lambda *rates: None)


def test_any_name_goes_where_the_optimizer_takes_any():
    assert list(as_points({"lr": 1, "wd": 2}, lambda lr, **rest: None).columns) == ["lr", "wd"]
