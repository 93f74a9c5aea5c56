"""The laws of `lrax.compat.torch`, and, where PyTorch is installed, what it does itself."""

import inspect
import pickle
import random
import warnings
from typing import get_args

import chex
import golden
import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.experimental import checkify

import lrax
from lrax.compat import torch
from lrax.compat.torch import kinds

FADING = lrax.inverse_time(1.0, 0.1)
TEMPERING = lrax.linear(0.9, 0.95, 10)
WARMUP = dict(start_factor=0.1, total_iters=5)


def warmup(lr, **more):
    return torch.LinearLR(lr=lr, **{**WARMUP, **more})


def cosine(lr, eta_min=0.0, T_max=20):
    return torch.CosineAnnealingLR(lr=lr, T_max=T_max, eta_min=eta_min)


def decay(lr):
    return torch.ExponentialLR(lr=lr, gamma=0.95)


def halves(lr):
    return torch.StepLR(lr=lr, step_size=6, gamma=0.5)


def sequence(lr, *schedulers, milestones=(8,)):
    return torch.SequentialLR(lr=lr, schedulers=schedulers, milestones=list(milestones))


def chain(lr, *schedulers):
    return torch.ChainedScheduler(lr=lr, schedulers=schedulers)


# One setting of each function or of each of its formulas, by its peak; the horizon is 40 steps.
SETTINGS = {
    "ConstantLR": lambda lr: torch.ConstantLR(lr=lr, factor=0.25, total_iters=7),
    "ConstantLR, never": lambda lr: torch.ConstantLR(lr=lr, factor=0.25, total_iters=2.5),
    "LinearLR": lambda lr: torch.LinearLR(lr=lr, start_factor=0.2, total_iters=10),
    "LinearLR, a part": lambda lr: torch.LinearLR(lr=lr, start_factor=0.2, total_iters=7.5),
    "StepLR": lambda lr: halves(lr),
    "MultiStepLR": lambda lr: torch.MultiStepLR(lr=lr, milestones=[30, 10, 10], gamma=0.5),
    "ExponentialLR": lambda lr: torch.ExponentialLR(lr=lr, gamma=0.9),
    "ExponentialLR, near 1": lambda lr: torch.ExponentialLR(lr=lr, gamma=0.9999),
    "PolynomialLR": lambda lr: torch.PolynomialLR(lr=lr, total_iters=20, power=0.5),
    "PolynomialLR, a part": lambda lr: torch.PolynomialLR(lr=lr, total_iters=7.5, power=2.0),
    "PolynomialLR, nothing": lambda lr: torch.PolynomialLR(lr=lr, total_iters=0),
    "CosineAnnealingLR": lambda lr: cosine(lr, 0.01),
    "CosineAnnealingWarmRestarts": lambda lr: torch.CosineAnnealingWarmRestarts(lr=lr, T_0=5, T_mult=2),
    "CyclicLR": lambda lr: torch.CyclicLR(base_lr=0.01, max_lr=lr, step_size_up=5, mode="triangular2"),
    "CyclicLR, down": lambda lr: torch.CyclicLR(base_lr=lr, max_lr=0.01, step_size_up=5, step_size_down=7),
    "CyclicLR, scale_fn": lambda lr: torch.CyclicLR(base_lr=0.01, max_lr=lr, step_size_up=5, scale_fn=FADING),
    "CyclicMomentum": lambda lr: torch.CyclicMomentum(base_lr=0.01, max_lr=0.1, step_size_up=5, max_momentum=lr),
    "OneCycleLR": lambda lr: torch.OneCycleLR(max_lr=lr, total_steps=40),
    "OneCycleLR, three": lambda lr: torch.OneCycleLR(
        max_lr=lr, total_steps=40, three_phase=True, anneal_strategy="linear"
    ),
    "OneCycleLR, no way up": lambda lr: torch.OneCycleLR(max_lr=lr, total_steps=10, pct_start=0.1),
    "OneCycleMomentum": lambda lr: torch.OneCycleMomentum(total_steps=40, max_momentum=lr, three_phase=True),
    "LambdaLR": lambda lr: torch.LambdaLR(lr=lr, lr_lambda=FADING),
    "MultiplicativeLR": lambda lr: torch.MultiplicativeLR(lr=lr, lr_lambda=TEMPERING),
    "SWALR": lambda lr: torch.SWALR(lr=lr, swa_lr=0.05, anneal_epochs=10),
    "SequentialLR": lambda lr: sequence(lr, warmup(lr), cosine(lr)),
    "SequentialLR, goes on": lambda lr: sequence(lr, decay(lr), torch.SWALR(lr=lr, swa_lr=0.05), milestones=[8]),
    "SequentialLR, goes on twice": lambda lr: sequence(
        lr, decay(lr), torch.MultiplicativeLR(lr=lr, lr_lambda=TEMPERING), torch.SWALR(lr=lr, swa_lr=0.05),
        milestones=[8, 20],
    ),
    "SequentialLR, OneCycleLR": lambda lr: sequence(
        lr, cosine(lr, 0.001, 4), torch.OneCycleLR(max_lr=0.3, total_steps=60), milestones=[12]
    ),
    "SequentialLR, OneCycleLR and a part": lambda lr: sequence(
        lr, cosine(lr, 0.001, 4.5), torch.OneCycleLR(max_lr=0.3, total_steps=60), milestones=[12]
    ),
    "SequentialLR, one": lambda lr: sequence(lr, decay(lr), milestones=[]),
    "SequentialLR, inside": lambda lr: sequence(lr, sequence(lr, warmup(lr), decay(lr)), decay(lr), milestones=[20]),
    "ChainedScheduler": lambda lr: chain(lr, warmup(lr), decay(lr)),
    "ChainedScheduler, warmup": lambda lr: chain(lr, warmup(lr), cosine(lr)),
    "ChainedScheduler, restarted": lambda lr: chain(lr, decay(lr), cosine(lr), halves(lr)),
    "ChainedScheduler, floored": lambda lr: chain(lr, warmup(lr), cosine(lr, 0.01), torch.ConstantLR(lr=lr)),
    "ChainedScheduler, overwritten": lambda lr: chain(
        lr, decay(lr), torch.LambdaLR(lr=lr, lr_lambda=FADING), halves(lr)
    ),
}  # fmt: skip
every_setting = pytest.mark.parametrize("build", SETTINGS.values(), ids=SETTINGS)
COUNTS = np.arange(-1, 71, dtype=np.float32)


def rate(schedule, count):
    return schedule(count)


def test_every_function_has_a_setting():
    assert {name.split(",")[0] for name in SETTINGS} == set(torch.__all__)


def test_every_scheduler_has_a_role_in_others():
    roles = {
        name: kinds.role(build(0.1)) for name, build in SETTINGS.items() if "Momentum" not in name
    }
    assert set(roles.values()) == set(get_args(kinds.Role))
    assert roles["PolynomialLR, a part"] == roles["ChainedScheduler"] == "factor"
    assert roles["SequentialLR"] == "sequence"
    assert roles["SequentialLR, goes on"] == roles["ChainedScheduler, floored"] == "recursion"


@every_setting
def test_it_is_compiled_mapped_and_traced_once(build):
    peaks = np.array([0.05, 0.1, 0.4], np.float32)
    one_by_one = np.stack([build(float(peak))(COUNTS) for peak in peaks])
    mapped = jax.jit(jax.vmap(lambda peak: build(peak)(COUNTS)))(peaks)
    close = dict(rtol=1e-6, atol=1e-6 * one_by_one.max())  # NumPy's cosines are not quite XLA's
    np.testing.assert_allclose(mapped, one_by_one, **close)
    traces = []

    @jax.jit
    def values(schedule):
        traces.append(schedule)
        return schedule(COUNTS)

    compiled = [values(build(float(peak))) for peak in peaks]
    np.testing.assert_allclose(compiled, one_by_one, **close)
    assert len(traces) == 1
    np.testing.assert_allclose(
        [build(0.1)(count) for count in COUNTS[::9]], one_by_one[1][::9], **close
    )
    assert np.all(np.isfinite(one_by_one))
    np.testing.assert_array_equal(one_by_one[:, 0], one_by_one[:, 1])


@pytest.mark.slow
@every_setting
def test_gradients_are_finite(build):
    gradients = jax.jit(jax.vmap(jax.grad(rate), in_axes=(None, 0)))(build(0.1), COUNTS)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


@every_setting
def test_the_gradient_in_lr_is_the_slope(build, x64):
    with x64:
        slope = jax.jit(jax.jacobian(lambda lr: build(lr)(COUNTS.astype(np.float64))))(0.1)
        wanted = (build(0.1 + 1e-6)(COUNTS) - build(0.1 - 1e-6)(COUNTS)) / 2e-6
    np.testing.assert_allclose(slope, wanted, rtol=1e-5, atol=1e-6)


@every_setting
def test_copies_are_equal(build):
    schedule = build(0.1)
    for same in [
        pickle.loads(pickle.dumps(schedule)),
        eval(repr(schedule), vars(lrax)),
        schedule.replace(),
    ]:
        chex.assert_trees_all_close(same, schedule, rtol=1e-12)


def test_building_and_showing_needs_no_tracer():
    for build in SETTINGS.values():
        # Out of a program, the numbers are float32.
        arrays = jax.tree.map(jnp.asarray, build(0.1))
        shown = eval(repr(jax.jit(lambda schedule: schedule)(arrays)), vars(lrax))
        chex.assert_trees_all_close(shown, build(0.1), rtol=1e-6)
        jax.eval_shape(build, 0.1)


def test_step_counts_may_be_traced():
    counts = np.arange(40.0)
    for build, steps in [
        (lambda n: torch.ConstantLR(lr=0.1, total_iters=n), 7),
        (lambda n: torch.LinearLR(lr=0.1, total_iters=n), 7),
        (lambda n: torch.StepLR(lr=0.1, step_size=n), 7),
        (lambda n: torch.MultiStepLR(lr=0.1, milestones=[20, n]), 7),
        (lambda n: torch.PolynomialLR(lr=0.1, total_iters=n), 7),
        (lambda n: cosine(0.1, T_max=n), 7),
        (lambda n: torch.CosineAnnealingWarmRestarts(lr=0.1, T_0=n), 7),
        (lambda n: torch.CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=n), 7),
        (lambda n: torch.OneCycleLR(max_lr=0.1, total_steps=n), 30),
        (lambda n: torch.SWALR(lr=0.1, swa_lr=0.01, anneal_epochs=n), 7),
        (lambda n: sequence(0.1, warmup(0.1), decay(0.1), milestones=jnp.stack([n])), 7),
        (lambda n: chain(0.1, warmup(0.1, total_iters=n), cosine(0.1)), 7),
    ]:
        traced = jax.jit(lambda n, build=build: build(n)(counts))(steps)
        np.testing.assert_allclose(traced, build(np.float32(steps))(counts), rtol=1e-6, atol=1e-8)


MOMENTUM = [setting for setting in golden.read("torch")["settings"] if "momentum" in setting]
LONGEST = max(len(setting["momentum"]) for setting in MOMENTUM)  # of one shape: compiled once


@pytest.mark.parametrize("setting", MOMENTUM, ids=lambda setting: str(setting["keywords"]))
def test_the_momentum_is_the_recorded_one(setting, x64):
    function = getattr(torch, setting["name"].replace("LR", "Momentum"))
    wanted = setting["momentum"]
    found = function(**setting["keywords"]).values(LONGEST)
    np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=1e-6)
    with x64:
        found = function(**setting["keywords"]).values(LONGEST)
        np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=1e-12)


def test_the_momentum_of_a_scale_function():
    function = lambda t: 2 / t
    schedule = torch.CyclicMomentum(base_lr=0.1, max_lr=0.2, step_size_up=2, scale_fn=function)
    np.testing.assert_allclose(
        schedule.values(8), [0.9, 0.8, 0.7, 0.8, 0.9, 0.85, 0.8, 0.85], rtol=1e-6
    )


def test_past_the_updates_that_pytorch_refuses_one_cycle_stays_at_its_end():
    schedule = torch.OneCycleLR(max_lr=0.1, total_steps=10, anneal_strategy="linear")
    np.testing.assert_allclose(schedule(np.array([9, 11, 1000])), 4e-7, rtol=1e-3)
    assert schedule(10) < 0  # the overshoot of the last update that it allows


def test_products_of_functions_are_exact_over_blocks():
    schedule = torch.MultiplicativeLR(lr=1.0, lr_lambda=lambda t: t / (t + 1))
    counts = np.array([0, 1, 255, 256, 257, 511, 512, 513, 3000])
    np.testing.assert_allclose(schedule(counts), 1 / (counts + 1), rtol=1e-4)
    np.testing.assert_array_equal(schedule.values(counts), schedule(counts))


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("ConstantLR", dict(lr=0.1, factor=1.5), "`factor` must be at most 1"),
        ("ConstantLR", dict(lr=-0.1), "`lr` must be finite and non-negative"),
        ("LinearLR", dict(lr=0.1, start_factor=0.0), "`start_factor` must be finite and positive"),
        ("LinearLR", dict(lr=0.1, start_factor=1.5), "`start_factor` must be at most 1"),
        ("LinearLR", dict(lr=0.1, end_factor=1.5), "`end_factor` must be at most 1"),
        ("StepLR", dict(lr=0.1, step_size=0), "`step_size` must be finite and positive"),
        ("MultiStepLR", dict(lr=0.1, milestones=[-1]), "`milestones` must be finite and non-negative"),
        ("ExponentialLR", dict(lr=0.1, gamma=0.0), "`gamma` must be finite and positive"),
        ("PolynomialLR", dict(lr=0.1, total_iters=0.5), "`total_iters` must be 0 or at least 1"),
        ("CosineAnnealingLR", dict(lr=0.1, T_max=0), "`T_max` must be finite and positive"),
        ("CosineAnnealingWarmRestarts", dict(lr=0.1, T_0=2.5), "`T_0` must be whole"),
        ("CosineAnnealingWarmRestarts", dict(lr=0.1, T_0=2, T_mult=1.5), "`T_mult` must be whole"),
        ("CyclicLR", dict(base_lr=0.1, max_lr=0.2, mode="square"), "`mode` must be one of"),
        ("CyclicLR", dict(base_lr=0.1, max_lr=0.2, step_size_up=0), "`step_size_up` must be finite and positive"),
        ("OneCycleLR", dict(max_lr=0.1, epochs=3), "`total_steps` must be given, .* got None, 3 and None"),
        ("OneCycleLR", dict(max_lr=0.1, total_steps=2.5), "`total_steps` must be whole"),
        ("OneCycleLR", dict(max_lr=0.1, total_steps=9, pct_start=1.5), "`pct_start` must be at most 1"),
        ("OneCycleLR", dict(max_lr=0.1, total_steps=9, anneal_strategy="log"), "`anneal_strategy` must be one of"),
        ("SWALR", dict(lr=0.1, swa_lr=0.1, anneal_epochs=1.5), "`anneal_epochs` must be whole"),
        ("SequentialLR", dict(lr=0.1, schedulers=[decay(0.1)], milestones=[3]), "`schedulers` must be one more than"),
        ("SequentialLR", dict(lr=0.1, schedulers=[decay(0.1)] * 2, milestones=[2.5]), "`milestones` must be whole"),
        ("SequentialLR", dict(lr=0.1, schedulers=[decay(0.1)] * 3, milestones=[3, 2]), "must be in ascending order"),
        ("SequentialLR", dict(lr=0.1, schedulers=[lrax.rex(1, 0, 9)], milestones=[]), "made by the functions of lrax"),
        ("ChainedScheduler", dict(lr=0.1, schedulers=[]), "`schedulers` must be a list of at least one"),
        ("ChainedScheduler", dict(lr=0.0, schedulers=[decay(0.1)]), "`lr` must be finite and positive"),
    ],
)  # fmt: skip
def test_bad_calls_are_named(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        getattr(torch, name)(**keywords)


def test_a_constant_without_steps_is_at_its_end_in_a_later_place():
    build = lambda lr: sequence(lr, warmup(lr), torch.ConstantLR(lr=lr, total_iters=0))
    later = build(0.1).hyperparams["schedules"][1].hyperparams["values"]
    np.testing.assert_array_equal(later, [0.1, 0.1])
    assert isinstance(later, np.ndarray)  # on the host
    np.testing.assert_array_equal(jax.jit(build)(0.1).values(40)[10:], np.float32(0.1))


def test_a_fall_at_its_own_start_is_not_lost_in_a_later_place():
    # PyTorch's closed form at the count 0 has the factor of a milestone at 0.
    falls = torch.MultiStepLR(lr=0.1, milestones=[0, 10])
    rates = sequence(0.1, warmup(0.1), falls).values(19)[8:]
    np.testing.assert_allclose(rates, [0.01] * 10 + [0.001], rtol=1e-6)


def test_functions_and_schedules_are_told_apart():
    for name in ["LambdaLR", "MultiplicativeLR"]:
        with pytest.raises(TypeError, match="`lr_lambda` must be a function"):
            getattr(torch, name)(lr=0.1, lr_lambda=[lambda t: 1.0])
    with pytest.raises(TypeError, match="`schedulers` must be schedules"):
        sequence(0.1, 0.1, decay(0.1))


def test_bad_traced_numbers_are_named_under_checkify():
    build = lambda factor: jax.tree.leaves(torch.LinearLR(lr=0.1, start_factor=factor))
    with lrax.checks():
        checked = checkify.checkify(jax.jit(build))
        assert "`start_factor` must be at most 1" in checked(1.5)[0].get()
        assert checked(0.5)[0].get() is None


def anneal(lr):
    return torch.SWALR(lr=lr, swa_lr=0.05)


def once(lr):
    return torch.OneCycleLR(max_lr=0.2, total_steps=40)


def function(lr):
    return torch.LambdaLR(lr=lr, lr_lambda=FADING)


REFUSED = {  # PyTorch's recursion has no closed form, or it is one that nobody means: and why
    "a floor and a factor that never ends": lambda lr: chain(lr, decay(lr), cosine(lr, 0.01)),
    "a floor and a factor that ends too late": lambda lr: chain(
        lr, warmup(lr, total_iters=30), cosine(lr, 0.01)
    ),
    "SWALR and a factor": lambda lr: chain(lr, decay(lr), anneal(lr)),
    "two cosines": lambda lr: chain(lr, cosine(lr), cosine(lr)),
    "a cosine that finds another's rate": lambda lr: chain(lr, function(lr), cosine(lr)),
    "a sequence resets the rate when it is built": lambda lr: chain(
        lr, decay(lr), sequence(lr, decay(lr), decay(lr))
    ),
    "a chained cosine is a step ahead": lambda lr: sequence(lr, chain(lr, cosine(lr)), decay(lr)),
    "a sequence of a cosine is a step ahead": lambda lr: sequence(
        lr, sequence(lr, cosine(lr), decay(lr)), decay(lr), milestones=[20]
    ),
    "two OneCycleLR share their rates": lambda lr: sequence(lr, once(lr), once(lr)),
    "OneCycleLR beside a sequence": lambda lr: sequence(lr, once(lr), chain(lr, decay(lr))),
    "OneCycleLR from the start": lambda lr: sequence(lr, decay(lr), once(lr), milestones=[0]),
    "a chain from the start": lambda lr: sequence(
        lr, decay(lr), chain(lr, decay(lr)), milestones=[0]
    ),
}


@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
def test_what_has_no_closed_form_is_refused(build):
    with pytest.raises(ValueError, match=r"`schedulers`: .* has no closed form here"):
        build(0.1)


def theirs(lr_scheduler, optimizer, name, keywords):
    """PyTorch's own scheduler."""
    keywords = dict(keywords)
    if "schedulers" in keywords:
        keywords["schedulers"] = [
            theirs(lr_scheduler, optimizer, *each) for each in keywords["schedulers"]
        ]
    if name == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(keywords["schedulers"], optimizer)
    return lr_scheduler.__dict__[name](optimizer, **keywords)


def ours(name, keywords):
    keywords = dict(keywords)
    if "schedulers" in keywords:
        keywords["schedulers"] = [ours(*each) for each in keywords["schedulers"]]
    return getattr(torch, name)(lr=0.1, **keywords)


@pytest.fixture
def lr_scheduler():
    pytest.importorskip("torch")
    from torch.optim import lr_scheduler, swa_utils

    lr_scheduler.SWALR = swa_utils.SWALR
    return lr_scheduler


@pytest.mark.parametrize("name", [name for name in torch.__all__ if not name.endswith("Momentum")])
def test_arguments_and_defaults_are_pytorchs(name, lr_scheduler):
    parameters = inspect.signature(getattr(lr_scheduler, name).__init__).parameters
    wanted = {key: value.default for key, value in parameters.items()}
    found = {
        key: value.default
        for key, value in inspect.signature(getattr(torch, name)).parameters.items()
    }
    assert next(iter(found)) == "lr"
    assert list(found.items())[1:] == [
        pair for pair in wanted.items() if pair[0] not in ("self", "optimizer", "last_epoch")
    ]


def drawn(draw, depth=0):
    """A scheduler with arguments, by chance."""
    some = draw.choice
    plain = {
        "ConstantLR": dict(factor=some([0.5, 0.1]), total_iters=some([0, 1, 3, 7, 12, 2.5])),
        "LinearLR": dict(
            start_factor=some([0.1, 1.0]), end_factor=some([1.0, 0.3, 0.0]), total_iters=some([1, 3, 8, 15, 2.5])
        ),
        "StepLR": dict(step_size=some([1, 3, 5, 2.5]), gamma=some([0.5, 0.9])),
        "MultiStepLR": dict(milestones=some([[3], [2, 7], [0, 4], [1, 5, 5], []]), gamma=0.5),
        "ExponentialLR": dict(gamma=some([0.9, 0.97, 0.99])),
        "PolynomialLR": dict(total_iters=some([1, 4, 10, 20, 7.5]), power=some([1.0, 2.0, 0.5])),
        "CosineAnnealingLR": dict(T_max=some([1, 2, 5, 10, 20, 4.5]), eta_min=some([0.0, 0.0, 0.01])),
        "CosineAnnealingWarmRestarts": dict(T_0=some([1, 4, 9]), T_mult=some([1, 2]), eta_min=0.01),
        "CyclicLR": dict(
            base_lr=some([0.02, 0.2]), max_lr=0.1, step_size_up=some([2, 5]), mode=some(["triangular", "triangular2"])
        ),
        "OneCycleLR": dict(
            max_lr=some([0.3, 0.1]), total_steps=some([10, 60]), pct_start=0.35,
            anneal_strategy=some(["cos", "linear"]), three_phase=some([True, False]),
        ),
        "LambdaLR": dict(lr_lambda=lambda t: 1 / (1 + 0.1 * t)),
        "MultiplicativeLR": dict(lr_lambda=lambda t: 1 - 0.3 / (t + 1)),
        "SWALR": dict(swa_lr=0.05, anneal_epochs=some([0, 1, 6]), anneal_strategy=some(["cos", "linear"])),
    }  # fmt: skip
    name = some([*plain, *(["SequentialLR", "ChainedScheduler"] * 2 if depth < 2 else [])])
    if name in plain and depth:
        return name, plain[name]
    schedulers = [drawn(draw, depth + 1) for _ in range(some([1, 2, 2, 3, 3]))]
    if name == "ChainedScheduler":
        return name, dict(schedulers=schedulers)
    milestones = sorted(some([0, 1, 2, 5, 9, 14, 20]) for _ in schedulers[1:])
    return "SequentialLR", dict(schedulers=schedulers, milestones=milestones)


def test_whatever_is_nested_has_pytorchs_rates_or_is_refused(lr_scheduler, x64):
    import torch as pytorch

    outcomes = []
    with warnings.catch_warnings(), x64:
        warnings.simplefilter("ignore")
        for seed in range(40):
            name, keywords = drawn(random.Random(seed))
            optimizer = pytorch.optim.SGD(
                [pytorch.nn.Parameter(pytorch.zeros(1))], lr=0.1, momentum=0.9
            )
            rates = []
            try:
                schedule = ours(name, keywords)
            except ValueError as error:
                outcomes.append("has no closed form" not in str(error) and error)
                continue
            try:
                scheduler = theirs(lr_scheduler, optimizer, name, keywords)
                for _ in range(70):
                    rates.append(float(optimizer.param_groups[0]["lr"]))
                    optimizer.step()
                    scheduler.step()
            except (ArithmeticError, NotImplementedError, ValueError):
                pass  # where PyTorch fails, ours goes on
            found = schedule.values(len(rates))
            np.testing.assert_allclose(
                found, rates, rtol=0, atol=1e-9 * np.max(np.abs(rates), initial=1e-9)
            )
            outcomes.append(True)
    assert set(outcomes) == {True, False}
    assert sum(outcomes) > len(outcomes) / 2


@pytest.mark.slow
def test_long_chains_are_built_at_once_or_refused():
    # Many steps of factors beside a cosine with a floor are a table, and a table has a limit.
    long = chain(0.1, warmup(0.1, total_iters=100_000), cosine(0.1, 0.01, 1_000_000))
    assert long(50_000) == pytest.approx(0.0549, rel=1e-2)
    with pytest.raises(ValueError, match="`schedulers` must end within"):
        chain(0.1, warmup(0.1, total_iters=1e8), cosine(0.1, 0.01, 2e8))
    # Each SWALR begins at the rate of the update before it.
    swas = [torch.SWALR(0.1, 0.1 * 0.5**i, anneal_epochs=5) for i in range(9)]
    nine = sequence(0.1, *swas, milestones=np.arange(10, 90, 10))
    np.testing.assert_allclose(nine.values([9, 15, 89]), [0.1, 0.05, 0.1 * 0.5**8], rtol=1e-6)
    np.testing.assert_allclose(nine.values([10, 12]), [0.1, 0.0827254], rtol=1e-5)
