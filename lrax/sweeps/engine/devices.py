"""The devices of this process, and how much memory they have."""

import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ... import _require
from .programs import LANE


def chosen(wanted: str | int | Sequence[jax.Device] | None) -> list[jax.Device]:
    """The devices of this process that lanes are spread over."""
    here = jax.local_devices()
    if wanted is None:
        default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        return here if default is None else [_default()]
    if isinstance(wanted, str) and wanted == "all":
        return here
    if isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool):
        if _require.count("devices", wanted, 1) > len(here):
            raise ValueError(
                f"`devices` must be at most the {len(here)} of this process, got {wanted}"
            )
        return here[:wanted]
    is_list = isinstance(wanted, Sequence) and not isinstance(wanted, str)
    found = list(wanted) if is_list else []
    process = jax.process_index()
    own = {d for d in found if isinstance(d, jax.Device) and d.process_index == process}
    if not found or len(own) < len(found):
        raise ValueError(
            f"`devices` must be 'all', a number, or different devices of this process, {here}, got"
            f" {wanted!r}"
        )
    return found


def mesh(devices: Sequence[jax.Device]) -> Mesh | None:
    """The mesh of several devices along one axis of lanes; None for the one that JAX takes itself."""
    if list(devices) == [_default()]:
        return None
    return Mesh(np.array(devices), (LANE,), axis_types=(AxisType.Auto,))


def memory(devices: Sequence[jax.Device]) -> float | None:
    """Bytes that may be used of each device's memory; None where it is not known."""
    device = devices[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return 0.95 * statistics["bytes_limit"]
    if device.platform != "cpu":
        return None
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return 0.8 * size / len(devices)  # the devices of a CPU share its memory


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _default() -> jax.Device:
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    # A text is the name of a platform.
    return default if isinstance(default, jax.Device) else jax.local_devices(backend=default)[0]
