"""PyTorch, one lane after the other, by `torch.optim.Adam`: as fast as it is with the best threads and Adam."""

import jax
import numpy as np
import torch

from .torch_networks import fastest, loss_of, prepare


def loop(problem):
    network, start, batches = prepare(problem)

    def lane(rate, batches, fused):
        params = jax.tree.map(lambda leaf: leaf.clone().requires_grad_(), start)
        optimizer = torch.optim.Adam(jax.tree.leaves(params), lr=float(rate), fused=fused)
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(network, params, batch)
            loss.backward()
            optimizer.step()
        return loss.item()

    # Small networks are often faster with one thread, and Adam as one fused loop.
    threads, fused = fastest(lambda fused: lane(1e-3, batches[:20], fused), (False, True))

    def run():
        torch.set_num_threads(threads)
        return np.array([lane(rate, batches, fused) for rate in problem.rates])

    run.note = f"{threads} thread{'s' if threads > 1 else ''}{', fused Adam' if fused else ''}"
    return run
