"""A search over several devices, and over two processes, is that of one device.

The checks run in processes of their own: one with 8 devices of a CPU, and a pair that shares a
search by `jax.distributed`.
"""

import os
import signal
import socket
import sys

import pytest

if __name__ == "__main__":  # before JAX starts
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={os.environ['DEVICES']}"

import children
import jax
import numpy as np
import optax
import problems

import lrax
from lrax.finders import find as finding
from lrax.sweeps.engine import hosts, loop, segments

pytest.importorskip("scipy")

TASK = problems.regression()
STEPS = 24
ME = int(os.environ.get("CHILD", 0))
OPTIONS = dict(steps=STEPS, runs=20, seeds=3, bounds=(1e-3, 3.0), progress=False)


def find(**options):
    return lrax.find(TASK, optax.adam, **{**OPTIONS, **options})


def assert_close(found, wanted):
    """Equal up to the order of additions, by which the stages of both are the same."""
    np.testing.assert_allclose(found.rate, wanted.rate, rtol=1e-3)
    np.testing.assert_allclose(found.interval, wanted.interval, rtol=1e-2)
    assert (found.runs, found.ended, found.certain) == (wanted.runs, wanted.ended, wanted.certain)
    for ours, theirs in ((found.evidence, wanted.evidence), (found.confirmed, wanted.confirmed)):
        np.testing.assert_array_equal(ours.status, theirs.status)
        np.testing.assert_array_equal(ours.stopped_at, theirs.stopped_at)
        np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4, atol=1e-6)


def assert_same_in_both(found):
    own = (np.array([found.rate, *found.interval, *found.good]), found.evidence.losses)
    jax.tree.map(np.testing.assert_array_equal, hosts.Hosts().given(own, 0), own)


def devices_check_lanes_are_spread(folder):
    assert jax.local_device_count() == 8
    plans = []
    seen = lambda kind, facts: plans.append(facts["plan"]) if kind == "start" else None
    one = find(devices=1)
    for devices in (8, 3, None):
        assert_close(find(devices=devices, on_event=seen), one)
    assert len(plans) >= 9
    assert all("devices" in plan for plan in plans), plans


def devices_check_a_search_goes_on_elsewhere(folder):
    whole, path = find(devices=8), folder / "search.npz"
    segments.SECONDS_PER_SEGMENT, before = 0.0, segments.SECONDS_PER_SEGMENT
    try:
        assert find(devices=8, checkpoint=path, budget=0).ended
    finally:
        segments.SECONDS_PER_SEGMENT = before
    assert_close(find(devices=3, checkpoint=path), whole)


class Alone(hosts.Hosts):
    """No other process."""

    def __init__(self):
        self.count, self.index, self.is_first = 1, 0, True


def alone(**options):
    """The same search in this process alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrax.sweeps.sweep.Hosts", Alone)
        patch.setattr(finding, "Hosts", Alone)
        patch.setattr(hosts, "_calls", 1)
        return find(**options)


def hosts_check_a_search_is_shared(folder):
    found = find()
    assert found.evidence.info["devices"] == 2
    assert_close(found, alone())
    assert_same_in_both(found)


def hosts_check_clocks_may_differ(folder):
    """One process has no time left, and the other has: both end, and both know the same."""
    for late in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
            found = find(budget=0 if late == ME else 1e9)
        assert found.ended
        assert found.evidence.done < STEPS
        assert_same_in_both(found)


def hosts_check_ctrl_c_in_one_ends_both(folder):
    """And the same call goes on from the files of the first process."""
    whole = find()
    for who in (0, 1):
        path = folder / f"own-{ME}" / f"search-{who}.npz"
        path.parent.mkdir(exist_ok=True)
        stages = []

        def advance(self, stop, report, checkpoint, before=loop.Loop.advance, who=who, seen=stages):
            seen.append(self)

            def told(done, losses):
                report(done, losses)
                if who == ME and len(seen) == 2 and done == 3:
                    signal.raise_signal(signal.SIGINT)

            before(self, stop, told, checkpoint)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
            patch.setattr(loop.Loop, "advance", advance)
            part = find(checkpoint=path)
        assert part.ended
        assert len(stages) == 2
        assert_same_in_both(part)
        assert path.with_name(f"search-{who}-2.npz").exists() == (ME == 0)
        again = find(checkpoint=path)
        assert str(again) == str(whole)
        assert_same_in_both(again)


def hosts_check_different_calls_are_refused(folder):
    """Their first stages are the same, so the sweeps themselves cannot see it."""
    for name in ("runs", "seeds"):
        with pytest.raises(ValueError, match="all processes must make the same call"):
            find(**{name: OPTIONS[name] + ME})
    with pytest.raises((ValueError, hosts.HostError), match="`runs` must be"):
        find(runs=20 if ME else 0)
    assert_close(find(), alone())


def hosts_check_a_failure_between_stages_is_told(folder):
    stages = []

    def train(self, *args, before=finding._Trainer.__call__):
        stages.append(args)
        if ME == 1 and len(stages) == 2:
            raise KeyboardInterrupt
        return before(self, *args)

    error = KeyboardInterrupt if ME == 1 else hosts.HostError
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding._Trainer, "__call__", train)
        with pytest.raises(error):
            find()
    assert_close(find(), alone())


def _checks(prefix):
    return [name for name in globals() if name.startswith(prefix)]


@pytest.fixture(scope="module")
def devices():
    found = children.Children(__file__, DEVICES="8", PORT="")
    yield found
    found.close()


@pytest.fixture(scope="module")
def processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = children.Children(__file__, 2, DEVICES="1", PORT=str(port))
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.parametrize("check", _checks("devices_check_"))
def test_eight_devices(check, devices):
    devices.run(check, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("check", _checks("hosts_check_"))
def test_two_processes(check, processes):
    processes.run(check, timeout=300)


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if os.environ["PORT"]:
        jax.distributed.initialize(
            f"127.0.0.1:{os.environ['PORT']}", 2, ME, initialization_timeout=300
        )
        jax.devices()
        hosts.together(lambda: None)()
    children.serve(globals())
    sys.stdout.flush()
    os._exit(0)  # not by way of the runtime's shutdown, which would wait for the other
