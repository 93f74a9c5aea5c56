"""How a sweep is run: lanes to a call, threads, devices, and how convolutions are computed.

A plan is a pure function of static facts: sizes, what the program contains, and XLA's account of
its memory. So the same call gives the same plan, and the same bits. Plans are timed only for
`execution="tune"` (`tuning.py`).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import _require

# On a CPU, lanes of small models are trained eight to a call. They share the overhead of an update,
# which takes longer than its arithmetic. Larger models gain nothing from that, and eight of them
# do not fit the caches. `python -m tests.benchmarks.widths` shows where the line is. Even a few
# lanes are cut into two calls, so that two cores have work. The width does not depend on the number
# of cores, because the same call must give the same bits on every machine.
SMALL = 64 * 1024  # bytes of the parameters of a lane
TOGETHER = 8

# On a TPU, the lanes of a call may have this many bytes of parameters in all, a small part of the
# memory on the chip: moments, gradients and padding take several times as many. With more lanes,
# the compiler's estimate of the time per lane no longer falls and later rises, and compiling takes
# longer, as `python -m tests.benchmarks.tpu` shows. But a call may have at least `FILLING` lanes on
# each device, because with that many lanes the estimate is at its lowest.
ON_CHIP = 4 * 2**20
FILLING = 256

Field = Any  # of a `Plan`

EXECUTIONS = ("auto", "vmap", "loop", "steps", "tune")
CONVOLUTIONS = ("auto", "products", "xla")
SLOW_CONVOLUTIONS = (
    "a CPU is slow at convolutions of several lanes and at those in a loop, and fast at matrix"
    " products"
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a plan is derived from.

    Attributes:
      platform: `"cpu"`, `"gpu"` or `"tpu"`.
      devices: How many devices lanes are spread over.
      cores: Cores that this process may use.
      lanes: Lanes of the sweep.
      params: Bytes of the parameters of a lane.
      has_convolutions: Whether an update or the evaluation has a convolution.
      metrics: Names of what the task's `evaluate` returns.
    """

    platform: str
    devices: int
    cores: int
    lanes: int
    params: int
    has_convolutions: bool
    metrics: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sweep is run.

    Attributes:
      width: Lanes of one call at most; 0 for all.
      threads: How many calls run at once, each on a thread of its own. Results do not depend on it.
      products: Whether convolutions are computed as slices and matrix products.
      scanned: Whether the program loops over updates, or is called for each of them.
      devices: Over how many devices the lanes of a call are spread.
      reasons: Why this plan was chosen, for the user. They are ignored when plans are compared.
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
        """The plan in a few words, without threads and devices."""
        words = [_lanes(self.width)]
        words += ["by products"] * self.products
        words += ["a call for each update"] * (not self.scanned)
        return " ".join(words)

    def because(self, reason: str, **changes: Field) -> "Plan":
        """The plan with some fields changed, and one more reason."""
        return dataclasses.replace(self, **changes, reasons=(*self.reasons, reason))

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Plan":
        """The plan whose `dataclasses.asdict` a checkpoint holds as JSON."""
        return cls(**{**facts, "reasons": tuple(facts["reasons"])})


def plan(execution: str | int, convolutions: str, facts: Facts) -> Plan:
    """The plan for a call of `lrax.sweep`, before its programs are compiled.

    Args:
      execution: `"auto"`, `"vmap"`, `"loop"`, `"steps"`, `"tune"`, or how many lanes a call trains.
      convolutions: `"auto"`, `"products"` or `"xla"`.
      facts: What is known before anything is compiled.
    """
    found = _with_convolutions(_all_lanes(facts), convolutions, facts)
    if isinstance(execution, (int, np.integer)) and not isinstance(execution, bool):
        return found.because("as asked for", width=_require.count("execution", execution, 1))
    _require.choice("execution", execution, EXECUTIONS)
    # "steps" and "vmap" train all lanes in one call, which leaves nothing to other threads.
    if execution == "steps":
        return found.because("as asked for", scanned=False, threads=1)
    if execution == "vmap":
        return found.because("as asked for", threads=1)
    if execution == "loop":
        return found.because("as asked for", width=1)
    # "auto" from here on, and "tune", which starts from the plan of "auto".
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
    together = min(TOGETHER, math.ceil(facts.lanes / 2))
    return found.because(reason, width=together if kind == "small" else 1)


def check(execution: _require.Unchecked, convolutions: _require.Unchecked) -> None:
    """Requires a known word for each; `execution` may also be a number of lanes."""
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
    """How many lanes of one call fit the memory of a device, at most `width`.

    Args:
      width: Lanes that a call would train on the device.
      lanes: Lanes of all chunks on the device, whose states are kept there.
      per_lane: Bytes of temporary memory for each lane that is being trained.
      state: Bytes of the parameters and the optimizer's state of a lane.
      fixed: Bytes that do not depend on the number of lanes, such as those of the data.
      threads: How many calls run at once, each with temporary memory of its own.
      free: Bytes of memory, or None if that is not known.
      device: The device's name, for the error.

    Raises:
      ValueError: if the data, the states of all lanes and one lane's temporary memory do not fit.
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


def _all_lanes(facts: Facts) -> Plan:
    """A plan with all lanes in one call."""
    # Several devices train a part of every chunk, so one chunk keeps all of them busy.
    threads = facts.cores if facts.platform == "cpu" and facts.devices == 1 else 1
    return Plan(0, threads, products=False, scanned=True, devices=facts.devices)


def _with_convolutions(plan: Plan, convolutions: str, facts: Facts) -> Plan:
    """The plan, with `products` set as `convolutions` asks."""
    _require.choice("convolutions", convolutions, CONVOLUTIONS)
    if convolutions == "products":
        return plan.because("as asked for", products=True)
    if convolutions == "auto" and facts.platform == "cpu" and facts.has_convolutions:
        return plan.because(SLOW_CONVOLUTIONS, products=True)
    return plan


def _lanes(width: int) -> str:
    """The lanes of a call, in words."""
    if not width:
        return "all lanes to a call"
    return "one lane to a call" if width == 1 else f"{width} lanes to a call"
