"""`controllers.greedy` equals GreedyLR of transformers, and differs where that is wrong."""

import feedback
import golden
import numpy as np
import pytest
from golden.record_greedy import BASE, WINDOW

import lrax

greedy = lrax.controllers.greedy
RECORDED = golden.read("greedy")["settings"]


def ours(keywords):
    """The numbers of `greedy` that stand for the scheduler's own arguments."""
    numbers = {name: keywords[name] for name in ("factor", "patience", "cooldown", "warmup")}
    relative = keywords["threshold_mode"] == "rel"
    return numbers | {
        "rtol": keywords["threshold"] if relative else 0.0,
        "atol": 0.0 if relative else keywords["threshold"],
        "floor": keywords["min_lr"] / BASE,
        "ceiling": keywords["max_lr"] / BASE,
        "eps": keywords["eps"] / BASE,
        "reset_after": keywords["reset_start"],
    }


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("smooth", [False, True])
def test_greedy_equals_transformers(smooth, mode, x64):
    settings = [
        setting
        for setting in RECORDED
        if (setting["keywords"]["smooth"], setting["keywords"]["mode"]) == (smooth, mode)
    ]
    window = WINDOW if smooth else None
    make = lambda **numbers: BASE * greedy(mode=mode, window=window, **numbers)
    feedback.equals_recorded(make, settings, ours, x64)


def test_what_is_recorded_has_every_kind_of_change():
    rates = [np.array(setting["rates"]) for setting in RECORDED]
    floors = [setting["keywords"]["min_lr"] for setting in RECORDED]
    assert len(rates) >= 60
    assert sum(row.max() > BASE for row in rates) > 20
    assert sum(row.min() < BASE for row in rates) > 20
    reset = [
        ((row[:-1] <= floor) & (row[1:] == BASE)).any()
        for row, floor in zip(rates, floors, strict=True)
    ]
    assert sum(reset) > 4
    assert sum(None in setting["metrics"] for setting in RECORDED) > 20


# keywords, metrics, scales
CASES = {
    "good in a row": ({"patience": 1}, [4.0, 3, 2, 1], [1, 2, 2, 4]),
    "bad in a row": ({"patience": 1}, [1.0, 1, 1, 1, 1], [1, 1, 0.5, 0.5, 0.25]),
    "a bad one ends the row": ({"patience": 1}, [4.0, 5, 3, 4, 2], [1, 1, 1, 1, 1]),
    "NaN is bad": ({"patience": 0}, [np.nan, 1.0, np.nan, 0.5], [0.5, 1, 0.5, 1]),
    "a pause after an increase": ({"patience": 0, "warmup": 2}, [3.0, 2, 1, 2.5], [2, 2, 2, 4]),
    "a pause after a reduction": ({"patience": 0, "cooldown": 1}, [1.0, 2, 3, 4], [2, 1, 1, 0.5]),
    "floor and ceiling": (
        {"patience": 0, "floor": 0.4, "ceiling": 1.5},
        [1.0, 2, 3, 4, 0.5, 0.4],
        [1.5, 0.75, 0.4, 0.4, 0.8, 1.5],
    ),
    "eps leaves small changes out": ({"patience": 0, "eps": 0.6}, [2.0, 3, 4], [2, 1, 1]),
    "the start again": (
        {"patience": 0, "floor": 0.5, "reset_after": 3},
        [1.0, 1, 1, 1, 1, 2, 2],
        [2, 1, 0.5, 0.5, 1, 2, 1],
    ),
    "never the start again": (
        {"patience": 0, "floor": 0.5, "reset_after": np.inf},
        [1.0, 1, 1, 1, 1, 2],
        [2, 1, 0.5, 0.5, 0.5, 0.5],
    ),
    "a negative metric that worsens is bad": (
        {"patience": 0, "rtol": 0.1},
        [-1.0, -0.95, -1.2],
        [2, 1, 2],
    ),
    # transformers' moving sum would be NaN from the second update on.
    "a mean recovers from NaN": (
        {"patience": 0, "window": 2},
        [3.0, np.nan, 2.0, 1.0, 0.0],
        [2, 1, 0.5, 1, 2],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_greedy(name):
    keywords, metrics, scales = CASES[name]
    rates = feedback.rates_of(greedy(**{"factor": 0.5, **keywords}), metrics)
    np.testing.assert_allclose(rates, scales, rtol=1e-6)


def test_patience_counts_measurements():
    numbers = np.arange(12) // 3
    rule = greedy(factor=0.5, patience=0, metric="val_loss")
    measurement = {"measurement": {"val_loss": numbers}}
    rates = feedback.rates_of(rule, 1.0 + numbers, "val_loss", **measurement)
    np.testing.assert_array_equal(rates, np.array([2, 1, 0.5, 0.25])[numbers])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"factor": 0.0}, "`factor` must be finite and positive, got 0"),
        ({"factor": 1.5}, "`factor` must be at most 1, got 1.5"),
        ({"floor": 2.0, "ceiling": 1.0}, "`ceiling` must be at least `floor`, got 2.0 and 1.0"),
        ({"reset_after": np.nan}, "`reset_after` must be at least 0"),
        ({"window": 0}, "`window` must be at least 1, got 0"),
        ({"window": 2.5}, "`window` must be an int, got 2.5"),
        ({"mode": "lowest"}, "`mode` must be one of 'min', 'max', got 'lowest'"),
    ],
)
def test_bad_arguments_are_named(keywords, message):
    with pytest.raises((ValueError, TypeError), match=message):
        greedy(**keywords)
