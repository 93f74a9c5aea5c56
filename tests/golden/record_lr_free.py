"""Learning-rate-free methods, by their authors' packages in float64, on one small problem.

`name` and `keywords` are the function of `lrax.lr_free` and its arguments, `lr` by the name of a
sequence in `RATES`, `factor` what multiplies it, and `gradients` the name of a sequence in `SCALES`.
`params` are the parameters after the updates `AT`, `estimate` what the package says of the distance,
the rate or the bound after the last one, `average` the averaged parameters then.
"""

import contextlib
import importlib.metadata
import io
import warnings

import numpy as np

STEPS = 30
AT = (0, 1, 2, 4, 7, 11, 16, 22, 29)
COUNTS = np.arange(STEPS)
START = np.array([1.0, -2.0, 0.5, 3.0, 0.1])
TARGET = np.array([0.3, 1.0, -0.7, 0.2, -1.5])
CURVATURE = np.array([1.0, 3.0, 0.2, 2.0, 0.5])
NOISE = 0.3 * np.sin(1.7 * COUNTS[:, None] + 2.3 * np.arange(5))
RATES = {
    "constant": np.ones(STEPS),
    "warmup": np.minimum(COUNTS / 5, 1.0),  # the first rate is 0
    "cosine": 0.5 + 0.5 * np.cos(np.pi * COUNTS / STEPS),
    "pause": np.where((COUNTS > 8) & (COUNTS < 12), 0.0, 1.0),
}
SCALES = {
    "all": np.ones(STEPS),
    "late": np.where(COUNTS < 3, 0.0, 1.0),
    "holes": np.where((COUNTS == 5) | (COUNTS == 6), 0.0, 1.0),
}


def loss_of(x, noise):
    return (CURVATURE * (x - TARGET) ** 2).sum() / 2 + (noise * x).sum() + 5.0


def gradient_of(x, noise):
    return CURVATURE * (x - TARGET) + noise


BETAS = {"b1": 0.8, "b2": 0.95}
PRODIGY = [
    ({}, "constant", "all"),
    ({}, "warmup", "all"),
    ({}, "cosine", "late"),
    ({"weight_decay": 0.1, "init_distance": 1e-2}, "warmup", "late"),
    ({"bias_correction": True, "distance_coef": 0.5}, "pause", "holes"),
    ({"bias_correction": True, "weight_decay": 0.2, **BETAS}, "warmup", "late"),
    ({"growth_rate": 1.3, "init_distance": 1e-3}, "cosine", "all"),
    ({"growth_rate": 1.02, "bias_correction": True}, "warmup", "all"),
    ({"safeguard_warmup": True, "init_distance": 1e-3}, "warmup", "all"),
    ({"safeguard_warmup": True, "beta3": 0.9, "eps": 1e-3}, "cosine", "holes"),
    ({"b1": 0.5, "distance_coef": 2.0, "init_distance": 0.1}, "pause", "all"),
]
DADAPT = [
    ({}, "constant", "all"),
    ({}, "warmup", "late"),
    ({"init_distance": 1e-2}, "cosine", "holes"),
    ({"bias_correction": True, **BETAS}, "warmup", "late"),
    ({"growth_rate": 1.5, "init_distance": 1e-3, "eps": 1e-3}, "pause", "all"),
    ({"weight_decay": 0.1, "init_distance": 1e-2}, "warmup", "all"),
    ({"weight_decay": 0.1, "init_distance": 1e-2, "decoupled": True}, "warmup", "late"),
    ({"weight_decay": 0.3, "bias_correction": True, "decoupled": True}, "pause", "holes"),
]
DOG = [
    ({}, "constant", "all"),
    ({"reps_rel": 1e-2}, "warmup", "all"),
    ({"reps_rel": 1e-2, "weight_decay": 0.1}, "cosine", "late"),
    ({"reps_rel": 0.1, "eps": 1e-2}, "pause", "holes"),
    ({"init_rate": 0.05}, "constant", "all"),
    ({"init_rate": 0.01, "weight_decay": 0.2}, "cosine", "holes"),
    ({"layerwise": True}, "constant", "all"),
    ({"layerwise": True, "reps_rel": 1e-2, "weight_decay": 0.1}, "warmup", "late"),
    ({"layerwise": True, "init_rate": 0.05, "eps": 1e-4}, "cosine", "holes"),
]
MOMO = [
    ({}, "constant", "all"),
    ({"lower_bound": 2.0, "beta": 0.5}, "warmup", "all"),
    ({"weight_decay": 0.1, "lower_bound": 4.0}, "cosine", "holes"),
    ({"bias_correction": True, "weight_decay": 0.3}, "warmup", "holes"),
    ({"bias_correction": True, "adapt_lower_bound": True}, "constant", "holes"),
    ({"adapt_lower_bound": True, "lower_bound": -3.0}, "cosine", "all"),
    ({"adapt_lower_bound": True, "weight_decay": 0.2, "beta": 0.0}, "pause", "all"),
]
MOMO_ADAM = [
    ({}, "constant", "all"),
    ({"lower_bound": 3.0, **BETAS}, "warmup", "all"),
    ({"weight_decay": 0.1, "eps": 1e-3}, "cosine", "holes"),
    ({"adapt_lower_bound": True, "lower_bound": -1.0}, "constant", "all"),
    ({"adapt_lower_bound": True, "weight_decay": 0.3, **BETAS}, "warmup", "holes"),
]
FREE_SGD = [
    ({}, "constant", "all"),
    ({"warmup": 8}, "constant", "late"),
    ({"warmup": 5, "weight_decay": 0.1, "b1": 0.95}, "cosine", "all"),
    ({"r": 1.0, "weight_lr_power": 1.0, "warmup": 4}, "constant", "holes"),
    ({"weight_lr_power": 0.0}, "warmup", "all"),
    ({"weight_decay": 0.2}, "warmup", "late"),
]
FREE_ADAMW = [
    ({}, "constant", "all"),
    ({"warmup": 8, **BETAS}, "constant", "holes"),
    ({"warmup": 5, "weight_decay": 0.3, "eps": 1e-3}, "cosine", "late"),
    ({"weight_lr_power": 1.0}, "warmup", "all"),
]
# The settings of each method by the largest rate.
METHODS = {
    "prodigy": {1.0: PRODIGY, 0.5: PRODIGY[-1:]},
    "dadapt_adam": {1.0: DADAPT, 0.5: DADAPT[-1:]},
    "dog": {1.0: DOG, 0.3: DOG[3:5]},
    "momo": {1.0: MOMO[:3], 0.1: MOMO},
    "momo_adam": {0.01: MOMO_ADAM[:2], 0.3: MOMO_ADAM},
    "schedule_free_sgd": {0.3: FREE_SGD},
    "schedule_free_adamw": {0.3: FREE_ADAMW},
}
# The authors' names of our arguments.
THEIRS = {
    "init_distance": "d0",
    "distance_coef": "d_coef",
    "bias_correction": "use_bias_correction",
    "decoupled": "decouple",
    "init_rate": "init_eta",
    "lower_bound": "lb",
    "adapt_lower_bound": "use_fstar",
    "warmup": "warmup_steps",
}


def optimizer_of(name, keywords, params):
    import dadaptation
    import dog
    import momo
    import prodigyopt
    import schedulefree

    given = {THEIRS.get(key, key): value for key, value in keywords.items()}
    if name == "momo":
        given = {key.replace("use_bias", "bias"): value for key, value in given.items()}
    if name == "schedule_free_sgd":
        given["momentum"] = given.pop("b1", 0.9)
    elif "b1" in given or "b2" in given:
        given["betas"] = (given.pop("b1", 0.9), given.pop("b2", 0.999))
    if name == "dog":
        return (dog.LDoG if given.pop("layerwise", False) else dog.DoG)(params, **given)
    kinds = {
        "prodigy": prodigyopt.Prodigy,
        "dadapt_adam": dadaptation.DAdaptAdam,
        "momo": momo.Momo,
        "momo_adam": momo.MomoAdam,
        "schedule_free_sgd": schedulefree.SGDScheduleFree,
        "schedule_free_adamw": schedulefree.AdamWScheduleFree,
    }
    return kinds[name](params, **given)


def estimate_of(name, optimizer):
    group = optimizer.param_groups[0]
    if name in ("prodigy", "dadapt_adam"):
        return float(group["d"])
    if name == "dog":
        return [float(eta) for eta in group["eta"]]
    return float(optimizer.lb) if name.startswith("momo") else float(group["scheduled_lr"])


def trajectory(name, keywords, factor, lr, gradients):
    import dog
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(START[:3]))
            self.b = torch.nn.Parameter(torch.tensor(START[3:]))

    model = Model()
    params = [model.w, model.b]
    averager = dog.PolynomialDecayAverager(model)
    optimizer = optimizer_of(name, keywords, params)
    free = name.startswith("schedule_free")
    if free:
        optimizer.train()
    places = []
    for count in range(STEPS):
        x = np.concatenate([param.detach().numpy() for param in params])
        gradient = torch.tensor(SCALES[gradients][count] * gradient_of(x, NOISE[count]))
        model.w.grad, model.b.grad = gradient[:3].clone(), gradient[3:].clone()
        for group in optimizer.param_groups:
            group["lr"] = float(factor * RATES[lr][count])
        if name.startswith("momo"):
            optimizer.step(loss=torch.tensor(loss_of(x, NOISE[count])))
        else:
            optimizer.step()
        averager.step()
        places.append(torch.cat(params).tolist())
    result = {"params": [places[count] for count in AT], "estimate": estimate_of(name, optimizer)}
    if free:
        optimizer.eval()
        result["average"] = torch.cat(params).tolist()
    elif name == "dog":
        average = averager.averaged_model
        result["average"] = torch.cat([average.w, average.b]).tolist()
    return result


def record():
    import torch

    torch.set_default_dtype(torch.float64)  # MoMo makes scalars of the default dtype
    settings = []
    for name, by_factor in METHODS.items():
        for factor, cases in by_factor.items():
            for keywords, lr, gradients in cases:
                setting = {"name": name, "keywords": keywords, "factor": factor, "lr": lr}
                setting["gradients"] = gradients
                with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                    warnings.simplefilter("ignore")
                    recorded = trajectory(name, keywords, factor, lr, gradients)
                assert np.isfinite(recorded["params"]).all(), setting
                settings.append(setting | recorded)
    packages = ("prodigyopt", "dadaptation", "dog-optimizer", "momo-opt", "schedulefree")
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([*versions, f"torch {torch.__version__.split('+')[0]}"]), settings
