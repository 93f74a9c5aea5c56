"""(e) PyTorch, one lane after the other: the same networks, initial parameters and batches, by `torch.optim.Adam`."""

import itertools
import os
import time

import jax
import numpy as np
import torch
from torch.nn import functional

from lrax.tasks.networks import CNN, MLP


def tensors(tree):
    return jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), tree)


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
        hidden = functional.gelu(norm(block["norm_mlp"], x) @ block["mlp"]["up"]["kernel"], approximate="tanh")
        x = x + hidden @ block["mlp"]["down"]["kernel"]
    return norm(params["norm"], x) @ params["head"]["kernel"]


def prepare(network, params, batches):
    """Parameters and the batches of all steps as PyTorch has them."""
    params, inputs, targets = tensors(params), tensors(batches["inputs"]), tensors(batches["targets"])
    if isinstance(network, CNN):
        for i in range(len(network.channels)):
            params[f"conv_{i}"]["kernel"] = params[f"conv_{i}"]["kernel"].permute(3, 2, 0, 1).contiguous()
        inputs = inputs.permute(0, 1, 4, 2, 3).contiguous()
    return params, list(zip(inputs.long() if not inputs.is_floating_point() else inputs, targets, strict=True))


def loss_of(network, params, batch):
    forward = mlp if isinstance(network, MLP) else cnn if isinstance(network, CNN) else transformer
    inputs, targets = batch
    outputs = forward(network, params, inputs)
    if targets.is_floating_point():
        return torch.mean((outputs[:, 0] - targets) ** 2)
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten().long())


def loop(problem):
    network = problem.task.loss.args[0]
    start, batches = prepare(network, problem.params, problem.batches)

    def lane(rate, batches, fused):
        params = jax.tree.map(lambda leaf: leaf.clone().requires_grad_(), start)
        optimizer = torch.optim.Adam(jax.tree.leaves(params), lr=float(rate), fused=fused)
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(network, params, batch)
            loss.backward()
            optimizer.step()
        return loss.item()

    def timed(setting):
        threads, fused = setting
        torch.set_num_threads(threads)
        lane(1e-3, batches[:3], fused)
        begin = time.perf_counter()
        lane(1e-3, batches[:20], fused)
        return time.perf_counter() - begin

    # Small networks are often faster with one thread, and Adam as one fused loop.
    threads, fused = min(itertools.product({1, os.cpu_count() or 1}, (False, True)), key=timed)
    torch.set_num_threads(threads)
    run = lambda: np.array([lane(rate, batches, fused) for rate in problem.rates])
    run.note = f"{threads} thread{'s' if threads > 1 else ''}{', fused Adam' if fused else ''}"
    return run
