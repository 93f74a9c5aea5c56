"""`ReduceLROnPlateau` of PyTorch and of Keras on random settings and metrics.

`name` is the framework, `keywords` are the arguments of its scheduler, `metrics` the values it is
given (null is NaN), `rates` the rate after each of them.
"""

import math
import os

import numpy as np

SETTINGS = 70
BASE = 0.1  # every optimizer's first rate


def metrics_of(random, mode, signed):
    """A noisy descent (or ascent) that levels off, some values NaN."""
    length = int(random.integers(25, 40))
    values = np.exp(-np.arange(length) / random.uniform(1, 6))
    values = values * random.uniform(0.5, 5) + 0.3 + random.normal(size=length) * 0.05
    values = np.maximum(values, 0.01) if mode == "min" else 8 - np.maximum(values, 0.01)
    values = values - (4 if signed else 0)
    holes = random.random(length) < random.choice([0.0, 0.1])
    # The first is a number: Keras takes whatever comes first for its best value, NaN too.
    holes[0] = False
    return [
        None if hole else round(float(value), 4) for value, hole in zip(values, holes, strict=True)
    ]


def torch_settings(random):
    for index in range(SETTINGS):
        mode = str(random.choice(["min", "max"]))
        # PyTorch's relative threshold goes the wrong way for negative metrics.
        threshold_mode = "rel" if index % 2 else "abs"
        keywords = {
            "mode": mode,
            "factor": float(random.choice([0.1, 0.3, 0.5, 0.9])),
            "patience": int(random.integers(0, 6)),
            "threshold": float(random.choice([0.0, 1e-4, 1e-2, 0.1])),
            "threshold_mode": threshold_mode,
            "cooldown": int(random.integers(0, 5)),
            "min_lr": float(random.choice([0.0, 1e-3, 2e-2])),
            "eps": float(random.choice([1e-8, 1e-3])),
        }
        yield keywords, metrics_of(random, mode, threshold_mode == "abs" and index % 4 == 0)


def keras_settings(random):
    for index in range(SETTINGS):
        mode = str(random.choice(["min", "max"]))
        keywords = {
            "mode": mode,
            "factor": float(random.choice([0.1, 0.3, 0.5, 0.9])),
            "patience": int(random.integers(0, 6)),
            "min_delta": float(random.choice([0.0, 1e-4, 1e-2, 0.1])),
            "cooldown": int(random.integers(0, 5)),
            "min_lr": float(random.choice([0.0, 1e-3, 2e-2])),
        }
        yield keywords, metrics_of(random, mode, index % 4 == 0)


def values(metrics):
    return [math.nan if metric is None else metric for metric in metrics]


def torch_rates(keywords, metrics):
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=BASE)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **keywords)
    rates = []
    for metric in values(metrics):
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def keras_rates(keywords, metrics):
    import keras

    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(BASE), loss="mse")
    callback = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", **keywords)
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, metric in enumerate(values(metrics)):
        callback.on_epoch_end(epoch, {"val_loss": metric})
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
    return rates


def record():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    import torch

    random = np.random.default_rng(0)
    settings = []
    for name, make, drive in (
        ("torch", torch_settings, torch_rates),
        ("keras", keras_settings, keras_rates),
    ):
        for keywords, metrics in make(random):
            setting = {"name": name, "keywords": keywords, "metrics": metrics}
            settings.append(setting | {"rates": drive(keywords, metrics)})
    return f"torch {torch.__version__.split('+')[0]}, keras {keras.__version__}", settings
