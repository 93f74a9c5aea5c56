"""Which plan is the fastest: other ones are timed on the real data, where a run is long enough to pay for it."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .engine import Engine
from .plan import Plan

# A run is worth timing plans for if it takes this many times what compiling all of them does, and
# so many seconds.
WORTH, SECONDS = 10, 20.0
# What a core of a CPU, and an accelerator, does at least in a second, to tell short runs without
# timing anything.
SLOW, FAST = 2e10, 1e13
TRIAL = 0.05  # seconds of one measurement


def tune(engine: Engine, steps: int) -> None:
    """Gives the engine the fastest of some plans, if its own were rules and the run is long."""
    seconds = _guess(engine, steps)
    if not engine.is_open or seconds < SECONDS:
        return
    others = list(_others(engine))
    seconds = trial(engine) * steps
    if seconds < max(WORTH * len(others) * engine.compile_seconds, SECONDS):
        return
    times = {engine.plan: seconds}
    for other in others:
        engine.adopt(other)
        if engine.plan not in times:
            engine.compile()
            times[engine.plan] = trial(engine) * steps
    best = min(times, key=lambda plan: times[plan])
    words = ", ".join(
        f"{plan.brief()} {times[plan]:.3g} s"
        for plan in sorted(times, key=lambda plan: times[plan])
    )
    engine.adopt(best.because(f"timed for a few steps, the sweep would take: {words}"))
    engine.compile()
    engine.learn()


def trial(engine: Engine) -> float:
    """Seconds that a step of all lanes takes."""
    layout = engine.arrange(np.arange(engine.points))
    at_once = min(engine.plan.threads, len(layout.chunks))
    inputs = engine.inputs(layout, 0)[:at_once]
    running: list[Any] = engine.begin(layout, at_once)

    def train(i: int) -> None:
        running[i], records, _ = engine.train(inputs[i], running[i], 0, count)
        jax.block_until_ready((running[i], records))

    count, best = 1, np.inf
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        list(pool.map(train, range(at_once)))  # what happens once
        while True:
            begin = time.perf_counter()
            list(pool.map(train, range(at_once)))
            seconds = time.perf_counter() - begin
            best = min(best, seconds / count)
            if seconds >= TRIAL or count == engine.block:
                break
            count = min(4 * count, engine.block)
    return best * len(layout.chunks) / at_once


def _others(engine: Engine) -> Iterator[Plan]:
    """Plans that may be faster than the rules' one."""
    lanes, plan = engine.points * engine.seeds, engine.plan
    on_cpu = engine.devices[0].platform == "cpu"
    widths = [0] if len(engine.devices) > 1 else [1, 4, 16, 64] if on_cpu else [0, 256, 64, 16]
    for width in widths:
        if width < lanes and width != plan.width:
            yield dataclasses.replace(plan, width=width)
    if engine.has_convolutions and engine.may_rewrite:
        yield dataclasses.replace(plan, products=not plan.products)
        if on_cpu:  # whose convolutions are slow in a loop
            yield dataclasses.replace(plan, products=False, scanned=False, width=0)


def _guess(engine: Engine, steps: int) -> float:
    """Seconds that the run takes at the least, by its arithmetic; infinite if nobody knows that."""
    flops = engine.flops()
    if flops is None:
        return np.inf
    on_cpu = engine.devices[0].platform == "cpu"
    speed = SLOW * engine.plan.threads if on_cpu else FAST
    return flops * engine.points * engine.seeds * steps / (speed * len(engine.devices))
