"""How a sweep is run: lanes of a call, threads, devices, and what becomes of convolutions.

A plan is a pure function of static facts: sizes, what the program contains, and XLA's account of
its memory. So the same call gives the same plan, and the same bits. Only `execution="tune"` times
other plans (`tuning.py`).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import _require

# On a CPU, lanes of small models are trained eight to a call, which saves what an update costs
# beside its arithmetic. Larger models gain nothing from it and leave the caches:
# `python -m tests.benchmarks.widths` shows where.
SMALL = 64 * 1024  # bytes of parameters
TOGETHER = 8

# On a TPU, a call trains all lanes while their parameters stay small beside the memory on the
# chip. Beyond that size, the compiler's estimate for a lane no longer falls, later it rises, and
# compiling takes longer: `python -m tests.benchmarks.tpu` shows where. Lanes of larger models come
# in calls of 256, for which the estimate is as low as for any other number.
ON_CHIP = 4 * 2**20  # bytes of parameters; moments, gradients and padding take several times that
FILLING = 256

EXECUTIONS = ("auto", "vmap", "loop", "steps", "tune")
CONVOLUTIONS = ("auto", "products", "xla")
SLOW_CONVOLUTIONS = (
    "a CPU is slow at convolutions of several lanes and at those in a loop, and fast at matrix"
    " products"
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a plan follows from.

    Attributes:
      platform: `"cpu"`, `"gpu"` or `"tpu"`.
      devices: How many devices lanes are spread over.
      cores: Cores that this process may use.
      params: Bytes of the parameters of a lane.
      has_convolutions: Whether an update has any.
      metrics: Names of what the task's `evaluate` returns.
    """

    platform: str
    devices: int
    cores: int
    params: int
    has_convolutions: bool
    metrics: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sweep is run.

    Attributes:
      width: Lanes of one call at most; 0 for all.
      threads: How many calls run at once, each on a thread of its own. It changes no number.
      products: Whether convolutions are computed as slices and matrix products.
      scanned: Whether the updates of a call are a loop of the program, or a call each.
      devices: Over how many devices the lanes of a call are spread.
      reasons: Why.
    """

    width: int
    threads: int
    products: bool
    scanned: bool
    devices: int
    reasons: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __str__(self) -> str:
        words = [_lanes(self.width)]
        if self.threads > 1:
            words.append(f"{self.threads} calls at once")
        if self.devices > 1:
            words.append(f"spread over {self.devices} devices")
        if self.products:
            words.append("convolutions as matrix products")
        words.append(
            "updates in a loop of the program" if self.scanned else "a call for each update"
        )
        return ", ".join(words)

    def brief(self) -> str:
        """The plan in a few words."""
        words = [_lanes(self.width)]
        words += ["by products"] * self.products
        words += ["a call for each update"] * (not self.scanned)
        return " ".join(words)

    def because(self, reason: str, **changes: Any) -> "Plan":
        """The plan with some changes, and the reason for them."""
        return dataclasses.replace(self, **changes, reasons=(*self.reasons, reason))

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Plan":
        """The plan of which a checkpoint holds `dataclasses.asdict`."""
        return cls(**{**facts, "reasons": tuple(facts["reasons"])})


def plan(execution: str | int, convolutions: str, facts: Facts) -> Plan:
    """The plan by rule.

    Args:
      execution: `"auto"`, `"vmap"`, `"loop"`, `"steps"`, `"tune"`, or how many lanes a call trains.
      convolutions: `"auto"`, `"products"` or `"xla"`.
      facts: What is known before anything is compiled.
    """
    found = _rewritten(convolutions, facts, _unwidened(facts))
    if isinstance(execution, (int, np.integer)) and not isinstance(execution, bool):
        return found.because("as asked for", width=_require.count("execution", execution, 1))
    _require.choice("execution", execution, EXECUTIONS)
    if execution == "steps":
        return found.because("as asked for", scanned=False, threads=1)
    if execution == "vmap":
        return found.because("as asked for", threads=1)
    if execution == "loop":
        return found.because("as asked for", width=1)
    if facts.platform == "tpu":
        width = facts.devices * max(ON_CHIP // max(facts.params, 1), FILLING)
        return found.because("lanes of a call share the memory of the chip itself", width=width)
    if facts.platform != "cpu":
        return found.because("an accelerator is faster the more lanes it has at once")
    if facts.devices > 1:
        return found.because("a part of the lanes for each device")
    kind = "small" if facts.params <= SMALL else "large"
    size = f"{facts.params / 1024:.3g} KiB"
    reason = f"the model is {kind}, {size}, and a CPU trains best from its caches"
    return found.because(reason, width=TOGETHER if kind == "small" else 1)


def check(execution: Any, convolutions: Any) -> None:
    """Requires that both are known words, or a number of lanes."""
    _require.choice("convolutions", convolutions, CONVOLUTIONS)
    if isinstance(execution, (int, np.integer)) and not isinstance(execution, bool):
        _require.count("execution", execution, 1)
    else:
        _require.choice("execution", execution, EXECUTIONS)


def fitting(
    width: int,
    lanes: int,
    *,
    per_lane: float,
    state: float,
    fixed: float,
    threads: int,
    free: float | None,
    device: str,
) -> int:
    """Lanes of a call that fit the memory of a device. The one place that shrinks a chunk.

    Args:
      width: Lanes that a call would train.
      lanes: All lanes on the device.
      per_lane: Bytes that training takes for each lane of a call, beside its state.
      state: Bytes of the parameters and the optimizer's state of a lane.
      fixed: Bytes that are there whatever the number of lanes, such as the data.
      threads: Calls at once.
      free: Bytes of memory, or None where it is not known.
      device: The device's name, for the error.

    Raises:
      ValueError: if the lanes themselves do not fit.
    """
    if free is None:
        return width
    rest = free - fixed - lanes * state
    if rest < per_lane:
        mib = 2**20
        raise ValueError(
            f"{lanes} lanes of {state / mib:.3g} MiB, {per_lane / mib:.3g} MiB to train one and"
            f" {fixed / mib:.3g} MiB of data do not fit into {free / mib:.4g} MiB of {device}:"
            " sweep fewer points at a time, or spread them over more devices"
        )
    return max(min(width, math.floor(rest / (max(per_lane, 1) * threads))), 1)


def _unwidened(facts: Facts) -> Plan:
    """The plan before it is known how many lanes a call trains."""
    threads = facts.cores if facts.platform == "cpu" and facts.devices == 1 else 1
    return Plan(0, threads, products=False, scanned=True, devices=facts.devices)


def _rewritten(convolutions: str, facts: Facts, found: Plan) -> Plan:
    """The plan with what becomes of convolutions."""
    _require.choice("convolutions", convolutions, CONVOLUTIONS)
    if convolutions == "products":
        return found.because("as asked for", products=True)
    if convolutions == "auto" and facts.platform == "cpu" and facts.has_convolutions:
        return found.because(SLOW_CONVOLUTIONS, products=True)
    return found


def _lanes(width: int) -> str:
    if not width:
        return "all lanes to a call"
    return "one lane to a call" if width == 1 else f"{width} lanes to a call"
