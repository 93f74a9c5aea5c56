"""The devices of this process, and how much memory they have."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ... import _require
from .programs import LANE

# The part of the memory that a sweep may use. The rest is for what a plan does not count: the
# user's other arrays, compiled programs, and on the host also Python and other processes.
OF_DEVICE = 0.95
OF_HOST = 0.8

Device = Any  # `jax.Device`, which type checkers take for a variable and not for a class


def chosen(wanted: str | int | Sequence[Device] | None) -> list[Device]:
    """The devices of this process that lanes are spread over.

    Args:
      wanted: None or `"all"` for all devices, a number of them, or a list. If
        `jax.config.jax_default_device` is set, None means that device.
    """
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
    found: list[Device] = []
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        found = list(wanted)
    # Devices of other processes, which `jax.devices()` lists too, are refused. So is a device that
    # is given twice: the set counts it once.
    process = jax.process_index()
    own = {d for d in found if isinstance(d, jax.Device) and d.process_index == process}
    if not found or len(own) < len(found):
        raise ValueError(
            f"`devices` must be 'all', a number, or different devices of this process, {here}, got"
            f" {wanted!r}"
        )
    return found


def mesh(devices: Sequence[Device]) -> Mesh | None:
    """A mesh of the devices with one axis, that of lanes.

    None if the only device is JAX's default one, which needs no sharding.
    """
    if list(devices) == [_default()]:
        return None
    return Mesh(np.array(devices), (LANE,), axis_types=(AxisType.Auto,))


def memory(devices: Sequence[Device]) -> float | None:
    """Bytes of memory that a sweep may use on each device, or None if that is not known."""
    device = devices[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return OF_DEVICE * statistics["bytes_limit"]
    if device.platform != "cpu":
        return None
    # The host's memory. Not every system answers: Windows has no `os.sysconf`.
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return OF_HOST * size / len(devices)  # the devices of a CPU share its memory


def cores() -> int:
    """The number of CPU cores that this process may use."""
    # A scheduler may give the process fewer cores than the machine has. Only some systems, such as
    # Linux, report this.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _default() -> Device:
    """The device that JAX uses by default."""
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    # The setting is a device, the name of a platform, or None.
    return default if isinstance(default, jax.Device) else jax.local_devices(backend=default)[0]
