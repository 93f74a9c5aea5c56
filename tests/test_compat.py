"""`lrax.compat` against the values that the frameworks themselves gave: see `tests/golden/`."""

import importlib
import re
import subprocess
import sys

import golden
import jax
import numpy as np
import pytest

MODULES = {name: importlib.import_module(f"lrax.compat.{name}") for name in golden.FRAMEWORKS}
SETTINGS = [(name, setting) for name in MODULES for setting in golden.read(name)["settings"]]


def build(framework, setting, **changes):
    """The schedule of a recorded setting."""
    return getattr(MODULES[framework], setting["name"])(
        **resolved(framework, {**setting["keywords"], **changes})
    )


def resolved(framework, value, lr=None):
    """Keywords with the schedulers and functions that they stand for."""
    if isinstance(value, dict) and value.keys() == {"scheduler", "keywords"}:
        base = {} if lr is None else {"lr": lr}
        return getattr(MODULES[framework], value["scheduler"])(
            **resolved(framework, {**base, **value["keywords"]})
        )
    if isinstance(value, dict):
        lr = value.get("lr", lr)
        return {
            name: golden.function(child)
            if name in ("lr_lambda", "scale_fn")
            else resolved(framework, child, lr)
            for name, child in value.items()
        }
    return [resolved(framework, child, lr) for child in value] if isinstance(value, list) else value


@jax.jit
def compiled(schedule, counts):
    return schedule(counts)


def recorded(setting):
    """The counts and rates of a setting, without those that the framework's own rounding spoils."""
    counts = setting.get("counts", range(len(setting["rates"])))
    pairs = [
        pair
        for pair in zip(counts, setting["rates"], strict=True)
        if pair[0] not in setting.get("faults", [])
    ]
    counts, rates = np.array(pairs, np.float64).reshape(-1, 2).T
    return counts, rates


def shown(value):
    if isinstance(value, tuple):
        value = {"name": value[1]["name"], **value[1]["keywords"]}
        return re.sub(r"['{}]", "", str(value)).replace("scheduler: ", "").replace("keywords: ", "")
    return str(value)


# Schedulers of PyTorch, one in another, that make each rate from the one before it, so that no
# formula gives that of a count alone: a sum over all earlier steps is left. They are refused when
# they are built.
REFUSED = {
    (
        "ChainedScheduler",
        "ExponentialLR",
        "CosineAnnealingLR",
    ),  # a floor, and a factor that never ends
    ("ChainedScheduler", "ExponentialLR", "SWALR"),  # the same, of the rate that SWALR leads to
    (
        "SequentialLR",
        "ChainedScheduler",
        "ExponentialLR",
        "CosineAnnealingLR",
        "CosineAnnealingLR",
    ),  # the first again
}


def names(setting):
    """The names of a scheduler and of all that are in it."""
    inside = [
        names({"name": s["scheduler"], **s}) for s in setting["keywords"].get("schedulers", [])
    ]
    return (setting["name"], *(name for several in inside for name in several))


refused = [pair for pair in SETTINGS if pair[0] == "torch" and names(pair[1]) in REFUSED]
taken = [pair for pair in SETTINGS if pair[1]["rates"] and pair not in refused]
every_setting = pytest.mark.parametrize("recording", taken, ids=shown)


def test_every_scheduler_is_recorded_in_many_settings():
    assert len(taken) >= 500
    for framework, module in MODULES.items():
        names = {setting["name"] for name, setting in taken if name == framework}
        if framework == "transformers":  # by the words of its training configuration
            names = {setting["keywords"]["name"] for name, setting in taken if name == framework}
            assert names == module.scheduler.FUNCTIONS.keys()
        else:  # the momentum is recorded with the rate, under the rate's name
            assert names == {name for name in module.__all__ if not name.endswith("Momentum")}


@pytest.mark.parametrize("recording", refused, ids=shown)
def test_what_has_no_formula_is_refused(recording):
    with pytest.raises(ValueError, match="has no closed form"):
        build(*recording)


@every_setting
def test_the_rates_are_the_frameworks(recording, x64):
    framework, setting = recording
    counts, rates = recorded(setting)
    peak = np.max(np.abs(rates), initial=1e-30)
    # Of few lengths, so that schedules of one structure are compiled once for many settings.
    padded = np.pad(counts, (0, -len(counts) % 512), mode="edge")
    single = compiled(build(framework, setting), padded.astype(np.float32))
    np.testing.assert_allclose(single[: len(counts)], rates, rtol=0, atol=1e-6 * peak)
    with x64:
        double = compiled(build(framework, setting), padded)
    np.testing.assert_allclose(
        double[: len(counts)], rates, rtol=0, atol=setting.get("precision", 1e-12) * peak
    )


@pytest.mark.slow
def test_a_framework_is_loaded_when_it_is_first_used():
    program = """
import pkgutil, sys
import lrax
loaded = lambda: {name.split(".")[2] for name in sys.modules if name.startswith("lrax.compat.")}
assert loaded() <= {"config"}, loaded()
folders = {module.name for module in pkgutil.iter_modules(lrax.compat.__path__) if module.ispkg}
assert len(folders) == 13
assert folders <= set(dir(lrax.compat))
assert lrax.compat.keras.CosineDecay(0.1, 10)(0) > 0
from lrax.compat import t5x
assert loaded() >= {"keras", "t5x"}
assert "torch" not in loaded()
try:
    lrax.compat.tensorflow
except AttributeError as error:
    assert "tensorflow" in str(error)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
