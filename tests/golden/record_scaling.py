"""What mup, timm, PyTorch and Optax multiply rates, decays and initial parameters by.

A setting by its `name`:
- "mup": `factors` of each parameter of two networks, relative to those of the narrow one, under the
  optimizer in `keywords`: on the rate, on the weight decay; in "init", on what two initialisations
  draw; in "forward", on the input of the output layer;
- "timm": the scale of the rate of each parameter in `timm.optim.param_groups_layer_decay`;
- "muon": the `factors` of a package's convention for each of `SHAPES`.
Shapes are those of PyTorch, (out, in, ...), but for Optax, which has (in, out).
"""

import re

SHAPES = [[8, 8], [32, 8], [8, 32], [24, 36], [48, 6]]
KERNELS = [[16, 4, 3, 3], [4, 16, 3, 3], [8, 3, 5, 1]]
LAYER_DECAYS = [(0.75, 0.0), (0.65, 0.2), (1.0, 0.0)]


def shapes(width, inner):
    """Shapes as PyTorch has them, with two widths that grow apart."""
    return {
        "conv_in": (width, 3, 3, 3),
        "conv": (inner, width, 3, 3),
        "depthwise": (inner, 1, 3, 3),
        "up": (inner, width),
        "down": (width, inner),
        "bias": (inner,),
        "gain": (width,),
        "logit_scale": (),
        "positions": (7, 5),
        "readout.weight": (10, width),
        "readout.bias": (10,),
    }


BASE, TARGET = shapes(8, 12), shapes(32, 96)


def network(sizes):
    import mup
    import torch

    module = torch.nn.Module()
    for name, shape in sizes.items():
        if not name.startswith("readout"):
            module.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))
    module.readout = mup.MuReadout(sizes["readout.weight"][1], 10)
    return module


def mup_settings():
    import mup
    import torch

    delta = network(shapes(16, 24))
    module = network(TARGET)
    mup.set_base_shapes(module, network(BASE), delta=delta, rescale_params=False)
    named = dict(module.named_parameters())
    for optimizer in ("Adam", "AdamW", "SGD"):
        made = getattr(mup, f"Mu{optimizer}")(module.parameters(), lr=1.0, weight_decay=1.0)
        groups = {
            name: group
            for group in made.param_groups
            for name, parameter in named.items()
            if any(parameter is one for one in group["params"])
        }
        for key in ("lr", "weight_decay"):
            factors = {name: groups[name][key] for name in named}
            yield {"optimizer": optimizer.lower(), "of": key}, factors
    for kind, keywords in (("normal_", {}), ("kaiming_normal_", {"mode": "fan_in"})):
        factors = {}
        for name, parameter in named.items():
            if kind == "normal_" or parameter.ndim > 1:
                drawn = []
                for package in (torch.nn.init, mup.init):
                    torch.manual_seed(0)
                    getattr(package, kind)(parameter, **keywords)
                    drawn.append(parameter.detach().double().flatten()[0].item())
                factors[name] = drawn[1] / drawn[0]
        yield {"of": "init", "by": kind}, factors
    yield {"of": "forward"}, {"readout.weight": 1 / module.readout.width_mult()}


def timm_settings():
    import torch
    from timm.optim import param_groups_layer_decay

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(20, 8)
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(8, 8) for _ in range(4)])
            self.norm = torch.nn.LayerNorm(8)
            self.head = torch.nn.Linear(8, 3)

        def group_matcher(self, coarse=False):
            return {"stem": r"^embed", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}

    module = Network()
    for decay, min_scale in LAYER_DECAYS:
        groups = param_groups_layer_decay(module, layer_decay=decay, min_scale=min_scale)
        factors = {
            name: group["lr_scale"]
            for group in groups
            for name, parameter in module.named_parameters()
            if any(parameter is one for one in group["params"])
        }
        yield {"decay": decay, "min_scale": min_scale}, factors


def muon_settings():
    import optax
    import torch
    from jax import numpy as jnp
    from timm.optim import muon as timm_muon
    from torch.optim import _muon

    for convention in ("original", "match_rms_adamw"):
        factors = [_muon._adjust_lr(1.0, convention, torch.Size(shape)) for shape in SHAPES]
        yield {"package": "torch", "convention": convention, "shapes": SHAPES}, factors
    for convention in ("original", "match_rms_adamw", "rms_to_rms"):
        flat = [timm_muon.reshape_for_muon(torch.zeros(shape))[0] for shape in SHAPES + KERNELS]
        factors = [timm_muon.get_lr_scale(matrix.shape, convention) for matrix in flat]
        yield {"package": "timm", "convention": convention, "shapes": SHAPES + KERNELS}, factors
    for rms in (None, 0.2, 0.3):
        factors = []
        for shape in SHAPES:
            matrix = jnp.linspace(-1.0, 1.0, shape[0] * shape[1]).reshape(shape)
            sides = {"w": optax.contrib.MuonDimensionNumbers()}
            optimizers = (
                optax.contrib.muon(1.0, consistent_rms=rms),
                optax.contrib.scale_by_muon(weight_dimension_numbers=sides),
            )
            norms = [
                jnp.linalg.norm(
                    one.update({"w": matrix}, one.init({"w": matrix}), {"w": matrix})[0]["w"]
                )
                for one in optimizers
            ]
            factors.append(float(norms[0] / norms[1]))
        convention = "original" if rms is None else "consistent_rms"
        yield {"package": "optax", "convention": convention, "rms": rms, "shapes": SHAPES}, factors


def record():
    import importlib.metadata

    settings = [
        {"name": name, "keywords": keywords, "factors": factors}
        for name, made in (
            ("mup", mup_settings()),
            ("timm", timm_settings()),
            ("muon", muon_settings()),
        )
        for keywords, factors in made
    ]
    versions = [
        f"{name} {re.match('[0-9.]+', importlib.metadata.version(name))[0]}"
        for name in ("mup", "timm", "torch", "optax")
    ]
    return ", ".join(versions), settings
