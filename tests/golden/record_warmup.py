"""What pytorch_warmup's untuned warmups do, for those `b2` at which it truncates no length.

`name` is the kind of `lrax.untuned_warmup`, and `keywords` are its numbers.
"""

STEPS = 40
SETTINGS = {
    "linear": [0.75, 0.875, 0.96875],
    "exponential": [0.75, 0.875, 0.96875],
    "radam": [0.65, 0.75, 0.9, 0.95, 0.98, 0.999, 0.9999],
}


def record():
    import pytorch_warmup
    import torch

    classes = {
        "linear": pytorch_warmup.UntunedLinearWarmup,
        "exponential": pytorch_warmup.UntunedExponentialWarmup,
        "radam": pytorch_warmup.RAdamWarmup,
    }
    settings = []
    for kind, all_b2 in SETTINGS.items():
        for b2 in all_b2:
            optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 1.0, (0.9, b2))
            warmup = classes[kind](optimizer)
            rates = []
            for _ in range(STEPS):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                with warmup.dampening():
                    pass
            settings.append({"name": kind, "keywords": {"b2": b2}, "rates": rates})
    return f"pytorch_warmup {pytorch_warmup.__version__}", settings
