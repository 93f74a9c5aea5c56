"""Bad arguments: one call after the other with one bad value, over every public function.

The law: such a call succeeds where the value has a meaning, or raises a ValueError or a TypeError
that names the argument, as the caller knows it, in backticks.
"""

import inspect
import re
from typing import Any

import calls
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import lrax

TRACER = object()
BAD = {
    "None": None,
    "text": "abc",
    "no text": "",
    "bytes": b"ab",
    "True": True,
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "negative": -1,
    "zero": 0,
    "half": 0.5,
    "huge": 1e300,
    "2**64": 2**64,
    "-2**64": -(2**64),
    "complex": 1j,
    "object": object(),
    "empty dict": {},
    "dict": {"a": 1},
    "empty": [],
    "ragged": [[1.0, 2.0], [3.0]],
    "list with None": [0.1, None],
    "texts": ["a", "b"],
    "set": {0.1},
    "nan inside": np.array([0.1, np.nan]),
    "matrix": np.ones((2, 2)),
    "bools": np.array([True, False]),
    "complexes": np.array([1j, 2.0]),
    "key": jax.random.key(0),
    "tracer": TRACER,
}
# Values that the library makes and hands out. JAX makes a Schedule of any leaves.
RECORDS = {
    *("Confirmation", "Evidence", "Optimum", "Outcome", "Paired", "ScaleByLrState", "Schedule"),
    *("Found", "History", "RangeTest", "Stopping", "StructuralResult", "SweepResult", "Trained"),
    *("Exchange", "ExchangeResult", "Move", "Population"),
}
# Curves of losses, parameters and measurements, in which a NaN is what there is.
MEASURED = {
    ("lr_free.schedule_free_eval_params", "params"),
    ("probes.smooth", "losses"),
    ("probes.directional_sharpness", "params"),
    ("probes.landscape", "params"),
    ("probes.max_stable_rate", "sharpness"),
}

# A schedule without steps is a warning of its own, and no unclear error.
pytestmark = pytest.mark.filterwarnings("ignore:`steps` is 0:UserWarning")


def complaint(call: calls.Call, argument: str, kind: str) -> str | None:
    """What is wrong with the outcome of a call with one bad argument; None if nothing is."""
    try:
        value = traced(call, argument) if kind == "tracer" else call(**{argument: BAD[kind]})
    except (TypeError, ValueError) as error:
        return unhelpful(call, argument, str(error), kind)
    except OSError as error:
        # A path may be any text, and the file may not be there.
        known = argument in ("path", "checkpoint", "source") and isinstance(BAD[kind], (str, bytes))
        return None if known else f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    meant = kind == "tracer" or (call.name, argument) in MEASURED
    return None if meant else silent(value)


def traced(call: calls.Call, argument: str) -> Any:
    def run(tracer):
        call(**{argument: tracer})

    jax.eval_shape(run, jnp.float32(0.5))


def unhelpful(call: calls.Call, argument: str, message: str, kind: str) -> str | None:
    """Whether an error does not name the argument, or names first what this function has not."""
    if kind == "tracer" and "must not be called inside `jax.jit`" in message:
        return None
    named = re.findall(r"`([A-Za-z_]\w*)", message)
    if not named:
        return f"names nothing: {message}"
    if argument not in named or named[0] not in call.parameters:
        return f"names {named[0]}: {message}"
    return None


def silent(value: Any) -> str | None:
    """Whether numbers came out that are none."""
    if isinstance(value, lrax.Schedule):
        try:  # at one count each: hyperparameters may have an axis of lanes
            value = np.stack([value(count) for count in (0, 1, 10)])
        except Exception as error:
            return f"gives a schedule that fails: {type(error).__name__}: {error}"
    if isinstance(value, dict):
        return next(filter(None, map(silent, value.values())), None)
    if isinstance(value, (float, np.ndarray, jax.Array)):
        array = np.asarray(value)
        if array.dtype.kind in "fc" and np.isnan(array).any():
            return f"gives {value} in silence"
    return None


def complaints(call: calls.Call, kinds: dict[str, list[str]]) -> list[str]:
    found = []
    for argument, some in kinds.items():
        for kind in some:
            if words := complaint(call, argument, kind):
                shown = "a tracer" if kind == "tracer" else repr(BAD[kind])
                found.append(f"{call}({argument}={shown}) {words}")
    return found


def sample(call: calls.Call, every: int) -> dict[str, list[str]]:
    """Every so many kinds for each argument, others for each of them."""
    kinds = list(BAD)
    offset = sum(map(ord, call.name))
    return {
        argument: kinds[(offset + i) % every :: every] for i, argument in enumerate(call.parameters)
    }


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of the texts are taken for paths


@pytest.mark.parametrize("call", [call for call in calls.ROWS if not call.slow], ids=str)
def test_some_bad_arguments_are_named(call):
    assert complaints(call, sample(call, every=8)) == []


@pytest.mark.slow
@pytest.mark.parametrize("call", calls.ROWS, ids=str)
def test_all_bad_arguments_are_named(call):
    assert complaints(call, sample(call, every=1)) == []


@pytest.mark.parametrize("call", [call for call in calls.ROWS if not call.slow], ids=str)
def test_the_calls_of_the_table_are_valid(call):
    assert silent(call()) is None


def test_the_table_has_every_public_name():
    names = {call.name for call in calls.ROWS}
    needed = {name for name in lrax.__all__ if not inspect.ismodule(getattr(lrax, name))}
    needed -= RECORDS | {"checks"}  # which has no argument
    families = ("controllers", "display", "lr_free", "monitors", "probes", "scaling", "tasks")
    for family in (*families, "theory"):
        needed |= {f"{family}.{name}" for name in getattr(lrax, family).__all__}
    owners = [lrax.Schedule, lrax.Stream, lrax.SweepResult, lrax.StructuralResult, lrax.AskTell]
    owners += [lrax.RangeTest, lrax.History]
    for owner in owners:
        for name in dir(owner):
            function = inspect.getattr_static(owner, name)
            function = getattr(function, "__func__", function)
            if not name.startswith("_") and inspect.isfunction(function):
                _, *parameters = inspect.signature(function).parameters.values()
                if any(p.kind is not p.VAR_KEYWORD for p in parameters):
                    needed.add(f"{owner.__name__}.{name}")
    assert needed <= names
