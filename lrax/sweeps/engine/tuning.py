"""Measurements by the clock: how long a sweep takes, and which plan is the fastest.

Plans are compared only for `execution="tune"`. Plans differ in the order in which they add numbers,
and so in the last bits of the results. Any other call must give the same bits each time.
"""

import concurrent.futures
import dataclasses
import time
from collections.abc import Iterator

import jax
import numpy as np

from . import devices as hardware
from .chunks import Chunk
from .engine import Engine, replanned
from .feed import nbytes
from .plan import Plan

TRIAL = 0.05  # seconds that a measurement takes at least
FIRST_WAIT = 60.0  # seconds to wait for the first batches from the host


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The time and memory that a sweep will take, estimated from a few of its updates.

    Attributes:
      seconds: From the first update to the last, without compiling, evaluations and checkpoints.
      compile_seconds: The time that compiling took. The sweep itself need not compile again.
      lanes: The number of lanes of this process.
      bytes: The most memory that this process's devices use, by XLA's account.
      available: Memory that may be used, or None if that is not known.
      plan: How the sweep is run, in words.
    """

    seconds: float
    compile_seconds: float
    lanes: int
    bytes: int
    available: int | None
    plan: str

    def __str__(self) -> str:
        available = "" if self.available is None else f" of {self.available / 2**20:,.0f}"
        return (
            f"{self.lanes} lanes: about {self.seconds:.3g} s, {self.bytes / 2**20:,.0f}{available}"
            f" MiB; {self.plan}"
        )


def estimated(engine: Engine, steps: int) -> Estimate:
    """The estimate of a sweep, by training a few chunks for a few updates."""
    lanes = len(engine.feed.points) * engine.feed.seeds
    cells = engine.shape[0] * engine.shape[1]
    count = len(engine.feed.devices)
    # The states of all lanes are kept. Every device has a copy of the data, and each thread has
    # temporary memory for one chunk, which XLA counts for one device.
    state = nbytes(engine.lanes) / cells * lanes
    temporary = getattr(engine.programs.train.memory, "temp_size_in_bytes", 0)
    available = hardware.memory(engine.feed.devices)
    return Estimate(
        seconds=trial(engine) * steps,
        compile_seconds=engine.programs.seconds,
        lanes=lanes,
        bytes=int(state + count * (nbytes(engine.feed.data) + temporary * engine.plan.threads)),
        available=None if available is None else int(available * count),
        plan=engine.described,
    )


def tuned(engine: Engine, steps: int) -> Engine:
    """The engine with the fastest of some plans."""
    found = {engine.plan: (trial(engine) * steps, engine)}
    # An engine may have narrowed its plan to fit the memory, so two plans may become one.
    for plan in _others(engine):
        other = replanned(engine, plan)
        if other.plan not in found:
            found[other.plan] = trial(other) * steps, other
    order = sorted(found, key=lambda plan: found[plan][0])
    seconds = ", ".join(f"{plan.brief()} {found[plan][0]:.3g} s" for plan in order)
    best = found[order[0]][1]
    reason = f"timed for a few updates, the sweep would take: {seconds}"
    return dataclasses.replace(best, plan=best.plan.because(reason))


def trial(engine: Engine) -> float:
    """The seconds of an update of all lanes, measured on as many chunks as run at once."""
    layout = engine.arrange(np.arange(len(engine.feed.points)))
    at_once = min(engine.plan.threads, len(layout.chunks))
    chunks = [Chunk(*engine.begin(layout, i)) for i in range(at_once)]
    if not engine.feed.is_ready(0, FIRST_WAIT):
        raise TimeoutError(
            f"no batch came from the host in {FIRST_WAIT:g} seconds, to time the sweep"
        )
    draw = engine.programs.draw
    rows = [engine.feed.rows(draw, layout, i, chunk.keys, 0) for i, chunk in enumerate(chunks)]

    def train(i: int) -> None:
        chunks[i].lanes, records, _ = engine.train(chunks[i], rows[i], 0, count)
        jax.block_until_ready((chunks[i].lanes, records))

    count = 1
    best = np.inf
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        list(pool.map(train, range(at_once)))  # a warm-up, which is not timed
        while True:
            begin = time.perf_counter()
            list(pool.map(train, range(at_once)))
            seconds = time.perf_counter() - begin
            # The least of all measurements, because other processes only add to the time.
            best = min(best, seconds / count)
            # More updates to a call until it takes long enough for the clock.
            if seconds >= TRIAL or count == engine.feed.block:
                break
            count = min(4 * count, engine.feed.block)
    return best * len(layout.chunks) / at_once


def _others(engine: Engine) -> Iterator[Plan]:
    """Plans that may be faster than the engine's."""
    plan = engine.plan
    lanes = len(engine.feed.points) * engine.feed.seeds
    on_cpu = engine.feed.devices[0].platform == "cpu"
    # Lanes of a call on one device; 0 is all of them. Several devices train all lanes at once.
    on_one = [1, 4, 16, 64] if on_cpu else [0, 256, 64, 16]
    widths = on_one if len(engine.feed.devices) == 1 else [0]
    for width in widths:
        if width < lanes and width != plan.width:
            yield dataclasses.replace(plan, width=width)
    if plan.products:
        yield dataclasses.replace(plan, products=False)
        # On a CPU, XLA runs convolutions in a loop slowly, so a call for each update may be faster.
        if on_cpu:
            yield dataclasses.replace(plan, products=False, scanned=False, width=0)
