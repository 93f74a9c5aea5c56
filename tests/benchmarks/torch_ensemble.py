"""PyTorch, all lanes at once: `torch.func` over stacked parameters, and Adam over all of them with a rate for each."""

import warnings

import jax
import torch
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lrax.tasks.networks import Transformer

from .torch_networks import DEVICE, fastest, loss_of, prepare

B1, B2, EPS = 0.9, 0.999, 1e-8
KERNELS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]  # PyTorch takes the best


class Adam:
    """`torch.optim.Adam` has one rate for all; so this is its `foreach` form by hand, with one for each lane."""

    def __init__(self, params, rates):
        self._params = params
        self._rates = [-rates.reshape(-1, *[1] * (p.dim() - 1)) for p in params]
        self._mean, self._square = ([torch.zeros_like(p) for p in params] for _ in range(2))
        self._count = 0

    def step(self, grads):
        self._count += 1
        torch._foreach_lerp_(self._mean, grads, 1 - B1)
        torch._foreach_mul_(self._square, B2)
        torch._foreach_addcmul_(self._square, grads, grads, 1 - B2)
        scale = torch._foreach_sqrt(self._square)
        torch._foreach_div_(scale, (1 - B2**self._count) ** 0.5)
        torch._foreach_add_(scale, EPS)
        updates = torch._foreach_div(self._mean, scale)
        torch._foreach_mul_(updates, 1 / (1 - B1**self._count))
        torch._foreach_mul_(updates, self._rates)
        torch._foreach_add_(self._params, updates)


def by_transform(network, params, structure, batch):
    """`vmap` of the gradient."""
    grads, losses = vmap(grad_and_value(lambda params: loss_of(network, params, batch)))(
        structure.unflatten(params)
    )
    return jax.tree.leaves(grads), losses


def by_backward(network, params, structure, batch):
    """The gradient of the sum: the same numbers, as no lane depends on another, and sometimes sooner."""
    params = [p.detach().requires_grad_() for p in params]
    losses = vmap(lambda params: loss_of(network, params, batch))(structure.unflatten(params))
    return list(torch.autograd.grad(losses.sum(), params)), losses.detach()


def ensemble(problem):
    network, start, batches = prepare(problem)
    start, structure = jax.tree.flatten(start)
    rates = torch.from_numpy(problem.rates).to(DEVICE)

    def train(batches, gradient, kernels):
        params = [p.expand(len(rates), *p.shape).clone() for p in start]
        optimizer = Adam(params, rates)
        with sdpa_kernel(kernels):
            for batch in batches:
                grads, losses = gradient(network, params, structure, batch)
                optimizer.step(grads)
        return losses.cpu().numpy()

    # Fused attention knows no `vmap` and takes one lane after the other, with a warning; even so it
    # may be the faster.
    attention = (KERNELS, [SDPBackend.MATH]) if isinstance(network, Transformer) else (KERNELS,)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*batching rule")
        choices = (by_transform, by_backward), attention
        threads, *best = fastest(lambda *choice: train(batches[:5], *choice), *choices)

    def run():
        torch.set_num_threads(threads)
        return train(batches, *best)

    how = "vmap(grad_and_value)" if best[0] is by_transform else "backward of vmap"
    run.note = f"{threads} thread{'s' if threads > 1 else ''}, {how}{', unfused attention' if len(best[1]) == 1 else ''}"
    return run
