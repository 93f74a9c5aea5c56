"""The networks of `lrax.tasks` in PyTorch: functions of the same parameters, and the data that they
take.

They serve one lane and, under `torch.func.vmap` over the parameters, all of them.
"""

import itertools
import os
import time

import jax
import numpy as np
import torch
from torch.nn import functional

from lrax.tasks.networks import CNN, MLP

from . import alternatives

# Beside an accelerator, where this PyTorch is built for it.
DEVICE = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def tensors(tree):
    return jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)).to(DEVICE), tree)


def dense(layer, x):
    return torch.addmm(layer["bias"], x, layer["kernel"])


def mlp(network, params, x):
    last = len(network.sizes) - 2
    for i in range(last):
        x = torch.relu(dense(params[f"dense_{i}"], x))
    return dense(params[f"dense_{last}"], x)


def cnn(network, params, x):
    """The kernels are kept as PyTorch likes them, `[out, in, 3, 3]`, pictures `[batch, channels, height, width]`."""
    for i in range(len(network.channels)):
        layer = params[f"conv_{i}"]
        x = torch.relu(functional.conv2d(x, layer["kernel"], layer["bias"], padding=1))
    return dense(params["dense"], x.permute(0, 2, 3, 1).reshape(len(x), -1))


def norm(layer, x):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * layer["scale"]


def transformer(network, params, tokens):
    batch, time_, heads = *tokens.shape, network.heads
    x = params["tokens"]["embedding"][tokens] + params["positions"]["embedding"][None, :time_]
    for i in range(network.layers):
        block = params[f"block_{i}"]
        attention, y = block["attention"], norm(block["norm_attention"], x)
        parts = [
            (y @ attention[name]["kernel"]).view(batch, time_, heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        ]
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(batch, time_, -1) @ attention["out"]["kernel"]
        hidden = functional.gelu(
            norm(block["norm_mlp"], x) @ block["mlp"]["up"]["kernel"], approximate="tanh"
        )
        x = x + hidden @ block["mlp"]["down"]["kernel"]
    return norm(params["norm"], x) @ params["head"]["kernel"]


def loss_of(network, params, batch):
    forward = mlp if isinstance(network, MLP) else cnn if isinstance(network, CNN) else transformer
    inputs, targets = batch
    outputs = forward(network, params, inputs)
    if targets.is_floating_point():
        return torch.mean((outputs[:, 0] - targets) ** 2)
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def prepare(problem):
    """The network, and the initial parameters and the batches of all steps that JAX drew, as PyTorch has them."""
    network = problem.task.loss.args[0]
    params, batches = map(tensors, alternatives.drawn(problem)())
    inputs, targets = batches["inputs"], batches["targets"]
    if isinstance(network, CNN):
        for i in range(len(network.channels)):
            params[f"conv_{i}"]["kernel"] = (
                params[f"conv_{i}"]["kernel"].permute(3, 2, 0, 1).contiguous()
            )
        inputs = inputs.permute(0, 1, 4, 2, 3).contiguous()
    inputs, targets = (x if x.is_floating_point() else x.long() for x in (inputs, targets))
    return network, params, list(zip(inputs, targets, strict=True))


def fastest(work, *choices):
    """The number of threads, and one of each of the choices, with which `work(*choice)` is done the soonest."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )

    def timed(setting):
        threads, *rest = setting
        torch.set_num_threads(threads)
        work(*rest)
        begin = time.perf_counter()
        work(*rest)
        return time.perf_counter() - begin

    return min(itertools.product(sorted({1, cores}), *choices), key=timed)
