"""How a sweep is run: how many lanes a call trains, on which threads and devices, and what becomes of convolutions."""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ... import _require
from .lanes import LANE

# On a CPU, lanes of small models are trained eight to a call, which saves what a step costs beside
# its arithmetic; for larger ones it gains nothing and leaves the caches: `python -m
# tests.benchmarks.widths` shows where.
SMALL = 64 * 1024  # bytes of parameters
TOGETHER = 8


SLOW_CONVOLUTIONS = (
    "a CPU is slow at convolutions of several lanes, and of a loop; not at matrix products"
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sweep is run.

    Attributes:
      width: Lanes of one call at most; 0 for all.
      threads: How many calls run at once, each on a thread of its own.
      products: Whether convolutions are computed as slices and matrix products.
      scanned: Whether the steps between two looks of the host are a loop of the program, or a call
        each.
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
        lanes = (
            "all lanes"
            if not self.width
            else "one lane"
            if self.width == 1
            else f"{self.width} lanes"
        )
        words = [f"{lanes} to a call", f"{self.threads} calls at once" if self.threads > 1 else ""]
        words += [f"spread over {self.devices} devices" if self.devices > 1 else ""]
        words += ["convolutions as matrix products" if self.products else ""]
        words += ["steps in a loop of the program" if self.scanned else "a call for each step"]
        return ", ".join(filter(None, words))

    def brief(self) -> str:
        """The plan in a few words."""
        words = ["all lanes" if not self.width else f"{self.width} to a call"]
        words += ["by products"] * self.products + ["a call for each step"] * (not self.scanned)
        return " ".join(words)

    def because(self, reason: str, **changes: Any) -> "Plan":
        """The plan with some changes, and the reason for them."""
        return dataclasses.replace(self, **changes, reasons=(*self.reasons, reason))


EXECUTIONS = ("auto", "vmap", "loop", "steps")


def plan(execution: str | int, devices: Sequence[Any], params: Callable[[], Any]) -> Plan:
    """The plan by rules, but for convolutions; what is measured is measured against it.

    Args:
      execution: `"auto"`, `"vmap"`, `"loop"`, `"steps"`, or how many lanes a call trains.
      devices: The devices.
      params: Gives the parameters of one lane, or their shapes.
    """
    if isinstance(execution, bool) or not isinstance(execution, (int, np.integer)):
        _require.choice("execution", execution, EXECUTIONS)
    else:
        _require.count("execution", execution, 1)
    on_cpu = devices[0].platform == "cpu"
    threads = cores() if on_cpu and len(devices) == 1 else 1
    found = Plan(0, threads, False, True, len(devices))
    if execution == "steps":
        return found.because("as asked for", scanned=False, threads=1)
    if execution != "auto":
        width = {"vmap": 0, "loop": 1}[execution] if isinstance(execution, str) else int(execution)
        return found.because("as asked for", width=width, threads=threads if width else 1)
    if not on_cpu:
        return found.because("an accelerator is the faster the more lanes it has at once")
    if found.devices > 1:
        return found.because("a part of the lanes for each device")
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params()))
    width, kind = (TOGETHER, "small") if size <= SMALL else (1, "large")
    return found.because(
        f"the model is {kind}, {size / 1024:.3g} KiB, and a CPU trains best from its caches",
        width=width,
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rewrites(convolutions: str, *, on_cpu: bool, has_any: bool) -> bool:
    """Whether convolutions become matrix products: as asked for, and by itself where they are known to be slow."""
    _require.choice("convolutions", convolutions, ("auto", "products", "xla"))
    return convolutions == "products" or (convolutions == "auto" and on_cpu and has_any)


def mesh(devices: Sequence[Any]) -> Mesh | None:
    """The mesh of several devices along one axis of lanes, or `None` for the one that JAX takes by itself."""
    if list(devices) == [_default()]:
        return None
    return Mesh(np.array(devices), (LANE,), axis_types=(AxisType.Auto,))


def _default() -> Any:
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    # A text is the name of a platform.
    return default if isinstance(default, jax.Device) else jax.local_devices(backend=default)[0]


def devices(wanted: str | int | Sequence[Any] | None) -> list[Any]:
    """The devices of this process that lanes are spread over."""
    here = jax.local_devices()
    if wanted is None:
        default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        return here if default is None else [_default()]
    if wanted == "all":
        return here
    if isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool):
        if _require.count("devices", wanted, 1) > len(here):
            raise ValueError(
                f"`devices` must be at most the {len(here)} of this process, got {wanted}"
            )
        return here[:wanted]
    found = list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else []
    own = [
        device
        for device in found
        if isinstance(device, jax.Device) and device.process_index == jax.process_index()
    ]
    if not found or len(set(own)) < len(found):
        raise ValueError(
            f"`devices` must be 'all', a number, or different devices of this process, {here}, got {wanted!r}"
        )
    return found


def fitting(
    width: int,
    lanes: int,
    *,
    per_lane: float,
    state: float,
    fixed: float,
    threads: int,
    devices: Sequence[Any],
) -> int:
    """Lanes of a call that fit the memory of a device.

    Args:
      width: Lanes that a call would train.
      lanes: All lanes on the device.
      per_lane: Bytes that training takes for each lane of a call, beside its state.
      state: Bytes of the parameters and the optimizer's state of a lane.
      fixed: Bytes that are there whatever the number of lanes, such as the data.
      threads: Calls at once.
      devices: The device, and those beside it.

    Raises:
      ValueError: if the lanes themselves do not fit.
    """
    free, device = memory(devices), devices[0]
    if free is None:
        return width
    rest = free - fixed - lanes * state
    if rest < per_lane:
        raise ValueError(
            f"{lanes} lanes of {state / 2**20:.3g} MiB, {per_lane / 2**20:.3g} MiB to train one and"
            f" {fixed / 2**20:.3g} MiB of data do not fit into {free / 2**20:.4g} MiB of {device.device_kind}: sweep"
            " fewer points at a time, or spread them over more devices"
        )
    return max(min(width, math.floor(rest / (per_lane * threads))), 1)


def memory(devices: Sequence[Any]) -> float | None:
    """Bytes that may be used of each device's memory, or `None` where nobody says. Those of a CPU share one."""
    device = devices[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return 0.95 * statistics["bytes_limit"]
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return 0.8 * size / len(devices) if device.platform == "cpu" else None
    except (AttributeError, ValueError, OSError):
        return None
