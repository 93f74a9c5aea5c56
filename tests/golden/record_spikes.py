"""The guards against spikes of OLMo-core, Levanter and ZClip, on random losses and norms.

The authors' own files are run, from the folder that the variable `SOURCES` names:
`skip_step_optimizer.py` of the package ai2-olmo-core, `skipstep.py` of Levanter's repository, and
`zclip.py` of ZClip's. The first and the last need of PyTorch only what NumPy has too, so a module
with these few functions takes its place, in float64. What Levanter's file imports for its logs is
left out.

`name` is the source, `keywords` are the arguments of lrax's function, `losses` and `norms` what a
guard is given. `rates` has 1 for each update that is left out, or the norms that ZClip leaves.
"""

import contextlib
import importlib.util
import os
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np

SETTINGS = 20  # of each source
STEPS = 80
VERSION = (
    "ai2-olmo-core 3.0.0, Levanter 9263f81e8b453241332c2c0b2d2001bfb2d2241c, ZClip"
    " 584ce4f5a4aabab59e7df1dbaffc26a44df39dc1"
)


def module(name, **members):
    found = types.ModuleType(name)
    found.__dict__.update(members)
    return found


class Optimizer:
    """What a `torch.optim.Optimizer` is here: a name to derive from."""

    def __init__(self, params, defaults):
        self.param_groups = []


class Number(np.ndarray):
    """A NumPy scalar with the method of a tensor that is called."""

    def __new__(cls, value):
        return np.asarray(value, np.float64).view(cls)

    def float(self):
        return Number(self)


TORCH = module(
    "torch",
    Tensor=Number,
    tensor=Number,
    stack=np.stack,
    std_mean=lambda x: (np.std(x, ddof=1), np.mean(x)),
    logical_and=lambda a, b: Number(np.logical_and(a, b)),
    device=object,
    _dynamo=module("_dynamo", disable=lambda: lambda function: function),
)
STUBS = {
    "torch": TORCH,
    "torch.optim": module("torch.optim"),
    "torch.optim.optimizer": module("torch.optim.optimizer", Optimizer=Optimizer),
    "torch.distributed": module("torch.distributed"),
    "torch.distributed.fsdp": module("torch.distributed.fsdp", FullyShardedDataParallel=Optimizer),
    "olmo_core": module("olmo_core"),
    "olmo_core.utils": module(
        "olmo_core.utils",
        get_default_device=lambda: "cpu",
        move_to_device=lambda value, device: value,
    ),
    "haliax": module("haliax"),
    "haliax.jax_utils": module("haliax.jax_utils", is_jax_array_like=lambda x: hasattr(x, "dtype")),
    "levanter": module("levanter"),
    "levanter.tracker": module("levanter.tracker", jit_log=lambda facts: None),
    "levanter.utils": module("levanter.utils"),
    "levanter.utils.tree_utils": module(
        "levanter.utils.tree_utils", tree_flatten_one_level_with_keys=None
    ),
}
TORCH.distributed = STUBS["torch.distributed"]
STUBS["levanter"].tracker = STUBS["levanter.tracker"]


@contextlib.contextmanager
def source(name):
    """A file of the authors, while the modules that it imports are those above."""
    path = Path(os.environ["SOURCES"]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {**STUBS, name: loaded}):
        spec.loader.exec_module(loaded)
        yield loaded


def olmo(losses, norms, window, sigmas):
    with source("skip_step_optimizer") as loaded:
        optimizer = loaded.SkipStepOptimizer([], {}, window, sigmas)
        for loss, norm in zip(losses, norms, strict=True):
            optimizer.latest_loss = Number(loss)
            optimizer.latest_grad_norm = Number(norm)
            yield 1 - int(optimizer.get_step_factor())


def levanter(losses, norms, window, sigmas):
    import optax
    from jax import numpy as jnp

    with source("skipstep") as loaded:
        guard = loaded.SkipStepConfig(window, sigmas).wrap(optax.identity())
        state = guard.init(jnp.zeros(1))
        for loss, norm in zip(losses, norms, strict=True):
            updates, state = guard.update(jnp.full(1, norm), state, None, loss=jnp.asarray(loss))
            yield int(updates[0] == 0)


def zclip(losses, norms, threshold, decay, warmup, kind):
    with source("zclip") as loaded:
        clip = loaded.ZClip(
            alpha=decay,
            z_thresh=threshold,
            max_grad_norm=None,
            warmup_steps=warmup,
            mode="percentile" if kind == "sigmas" else "zscore",
            clip_option="mean" if kind == "mean" else "adaptive_scaling",
        )
        left = []
        clip._compute_grad_norm = lambda norm: norm
        # The gradient is scaled by the limit over the norm, as in `apply_in_place_clipping`.
        clip.apply_in_place_clipping = lambda model, norm, limit: left.append(
            norm * limit / (norm + 1e-6) if norm > limit else norm
        )
        for norm in norms:
            before = len(left)
            clip.step(norm)
            yield left[-1] if len(left) > before else norm


def record():
    random = np.random.default_rng(4)
    recorded = []
    for drive in (olmo, levanter, zclip):
        for _ in range(SETTINGS):
            losses = 2 + np.exp(-np.arange(STEPS) / 20) + 0.1 * random.normal(size=STEPS)
            norms = 3 + 0.3 * random.normal(size=STEPS)
            losses[random.integers(10, STEPS, 3)] += random.uniform(0.3, 3)
            norms[random.integers(10, STEPS, 5)] *= random.uniform(1.2, 6)
            losses, norms = ([float(f"{x:.5g}") for x in row] for row in (losses, norms))
            if drive is zclip:
                keywords = {
                    "threshold": float(random.choice([1.5, 2.5, 4.0])),
                    "decay": float(random.choice([0.8, 0.97])),
                    "warmup": int(random.choice([2, 10, 25])),
                    "kind": str(random.choice(["adaptive", "mean", "sigmas"])),
                }
            else:
                keywords = {
                    "window": int(random.choice([6, 16, 25, 64])),
                    "sigmas": float(random.choice([2.0, 3.0, 6.0])),
                }
            rates = [float(f"{left:.14g}") for left in drive(losses, norms, **keywords)]
            setting = {"name": drive.__name__, "keywords": keywords, "losses": losses}
            recorded.append(setting | {"norms": norms, "rates": rates})
    return VERSION, recorded
