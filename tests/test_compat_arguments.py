"""Bad arguments of `lrax.compat`: the law of `test_arguments.py`, over every framework's functions.

A call succeeds where the value has a meaning in the framework, or an error names the argument.
"""

import pkgutil

import calls
import pytest
from test_arguments import complaints, sample, silent

import lrax

CYCLE = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2, "decay_steps": 8}
LENGTHS = {"num_warmup_steps": 2, "num_training_steps": 8}
HUGGING = {"learning_rate": 0.1, "max_steps": 9, "warmup_steps": 2}
TIMM = {"lr": 0.1, "warmup_t": 2, "noise_range_t": (2, 5)}
NEMO = {"lr": 0.1, "max_steps": 9, "warmup_steps": 2, "min_lr": 0.01}
HOLD = {**NEMO, "hold_steps": 2}
COMPOSER = {"lr": 0.1, "horizon": lrax.Horizon(40, dataset_size=10, batch_size=1)}
WARM = {**COMPOSER, "t_warmup": 2, "t_max": 8}
ONE_CYCLE = {"max_lr": 0.1, "total_steps": 9}
PARTS = lambda: [lrax.compat.torch.LinearLR(0.1), lrax.compat.torch.StepLR(0.1, 5)]
HALF = lrax.linear(1.0, 0.5, 9)

ROWS = [
    calls.call("compat.from_config", config=HUGGING, steps=20),
    *(
        calls.call(f"compat.torch.{name}", **arguments)
        for name, arguments in {
            "ConstantLR": {"lr": 0.1},
            "LinearLR": {"lr": 0.1},
            "StepLR": {"lr": 0.1, "step_size": 5},
            "MultiStepLR": {"lr": 0.1, "milestones": [3, 6]},
            "ExponentialLR": {"lr": 0.1, "gamma": 0.9},
            "PolynomialLR": {"lr": 0.1, "total_iters": 9},
            "CosineAnnealingLR": {"lr": 0.1, "T_max": 9},
            "CosineAnnealingWarmRestarts": {"lr": 0.1, "T_0": 9},
            "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4},
            "CyclicMomentum": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4},
            "OneCycleLR": ONE_CYCLE,
            "OneCycleMomentum": ONE_CYCLE,
            "LambdaLR": {"lr": 0.1, "lr_lambda": HALF},
            "MultiplicativeLR": {"lr": 0.1, "lr_lambda": HALF},
            "SWALR": {"lr": 0.1, "swa_lr": 0.05},
        }.items()
    ),
    calls.made(
        "compat.torch.SequentialLR",
        lambda: {"lr": 0.1, "schedulers": PARTS(), "milestones": [5]},
    ),
    calls.made("compat.torch.ChainedScheduler", lambda: {"lr": 0.1, "schedulers": PARTS()}),
    *(
        calls.call(f"compat.transformers.{name}", lr=0.1, **arguments)
        for name, arguments in {
            "get_constant_schedule": {},
            "get_constant_schedule_with_warmup": {"num_warmup_steps": 2},
            "get_cosine_schedule_with_warmup": LENGTHS,
            "get_cosine_with_hard_restarts_schedule_with_warmup": LENGTHS,
            "get_cosine_with_min_lr_schedule_with_warmup": {**LENGTHS, "min_lr": 0.01},
            "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": {**LENGTHS, "min_lr": 0.01},
            "get_inverse_sqrt_schedule": {"num_warmup_steps": 2},
            "get_linear_schedule_with_warmup": LENGTHS,
            "get_polynomial_decay_schedule_with_warmup": LENGTHS,
            "get_wsd_schedule": {**LENGTHS, "num_decay_steps": 3},
        }.items()
    ),
    calls.call("compat.transformers.get_scheduler", name="linear", lr=0.1, **LENGTHS),
    *(
        calls.call(f"compat.timm.{name}", **TIMM, **arguments)
        for name, arguments in {
            "CosineLRScheduler": {"t_initial": 8, "cycle_limit": 2},
            "TanhLRScheduler": {"t_initial": 8},
            "PolyLRScheduler": {"t_initial": 8},
            "StepLRScheduler": {"decay_t": 4, "decay_rate": 0.5},
            "MultiStepLRScheduler": {"decay_t": [4, 6], "decay_rate": 0.5},
            "WSDLRScheduler": {"t_initial": 8, "decay_t": 3, "stable_fn": "power"},
        }.items()
    ),
    *(
        calls.call(f"compat.keras.{name}", initial_learning_rate=0.1, **arguments)
        for name, arguments in {
            "CosineDecay": {"decay_steps": 9, "warmup_target": 0.2, "warmup_steps": 2},
            "CosineDecayRestarts": {"first_decay_steps": 9, "m_mul": 0.9},
            "ExponentialDecay": {"decay_steps": 9, "decay_rate": 0.9},
            "InverseTimeDecay": {"decay_steps": 9, "decay_rate": 0.9},
            "PolynomialDecay": {"decay_steps": 9},
        }.items()
    ),
    calls.call("compat.keras.PiecewiseConstantDecay", boundaries=[3], values=[0.1, 0.01]),
    *(
        calls.call(f"compat.optax.{name}", **arguments)
        for name, arguments in {
            "constant_schedule": {"value": 0.1},
            "cosine_decay_schedule": {"init_value": 0.1, "decay_steps": 9},
            "cosine_onecycle_schedule": {"transition_steps": 9, "peak_value": 0.1},
            "linear_onecycle_schedule": {"transition_steps": 9, "peak_value": 0.1},
            "exponential_decay": {"init_value": 0.1, "transition_steps": 9, "decay_rate": 0.9},
            "join_schedules": {"schedules": [HALF, 0.1], "boundaries": [5]},
            "linear_schedule": {"init_value": 0.1, "end_value": 0.01, "transition_steps": 9},
            "piecewise_constant_schedule": {"init_value": 0.1, "boundaries_and_scales": {3: 0.5}},
            "piecewise_interpolate_schedule": {
                "interpolate_type": "linear",
                "init_value": 0.1,
                "boundaries_and_scales": {3: 0.5},
            },
            "polynomial_schedule": {
                "init_value": 0.1,
                "end_value": 0.01,
                "power": 2.0,
                "transition_steps": 9,
            },
            "sgdr_schedule": {"cosine_kwargs": [CYCLE, CYCLE]},
            "warmup_constant_schedule": {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 3},
            "warmup_cosine_decay_schedule": CYCLE,
            "warmup_exponential_decay_schedule": {
                "init_value": 0.0,
                "peak_value": 0.1,
                "warmup_steps": 3,
                "transition_steps": 4,
                "decay_rate": 0.9,
            },
        }.items()
    ),
    *(
        calls.call(f"compat.composer.{name}", **arguments)
        for name, arguments in {
            "StepScheduler": {**COMPOSER, "step_size": "1ep"},
            "MultiStepScheduler": {**COMPOSER, "milestones": ["1ep", 20]},
            "ConstantScheduler": COMPOSER,
            "LinearScheduler": COMPOSER,
            "ExponentialScheduler": {**COMPOSER, "gamma": 0.9},
            "CosineAnnealingScheduler": COMPOSER,
            "CosineAnnealingWarmRestartsScheduler": {**COMPOSER, "t_0": "1ep"},
            "PolynomialScheduler": {**COMPOSER, "power": 2.0},
            "MultiStepWithWarmupScheduler": {**COMPOSER, "t_warmup": 2, "milestones": [5]},
            "ConstantWithWarmupScheduler": {**COMPOSER, "t_warmup": 2},
            "LinearWithWarmupScheduler": WARM,
            "CosineAnnealingWithWarmupScheduler": WARM,
            "PolynomialWithWarmupScheduler": WARM,
        }.items()
    ),
    *(
        calls.call(f"compat.nemo.{name}", **arguments)
        for name, arguments in {
            "WarmupPolicy": NEMO,
            "WarmupHoldPolicy": HOLD,
            "SquareAnnealing": NEMO,
            "SquareRootAnnealing": NEMO,
            "CosineAnnealing": {**NEMO, "constant_steps": 1},
            "NoamAnnealing": {**NEMO, "d_model": 8},
            "NoamHoldAnnealing": HOLD,
            "WarmupAnnealing": NEMO,
            "InverseSquareRootAnnealing": NEMO,
            "T5InverseSquareRootAnnealing": {"max_steps": 9, "constant_steps": 2},
            "PolynomialDecayAnnealing": NEMO,
            "PolynomialHoldDecayAnnealing": HOLD,
            "WarmupHoldAnnealLinear": HOLD,
            "WarmupHoldAnnealOneMinusSquareRoot": HOLD,
            "inverse_power": {"peak": 0.1, "timescale": 3, "exponent": 1.0},
        }.items()
    ),
    calls.call("compat.deepspeed.WarmupLR", lr=0.1, warmup_num_steps=3),
    calls.call("compat.deepspeed.WarmupDecayLR", total_num_steps=9, warmup_num_steps=3),
    calls.call("compat.deepspeed.WarmupCosineLR", lr=0.1, total_num_steps=9, warmup_num_steps=3),
    calls.call("compat.deepspeed.OneCycle", cycle_min_lr=0.01, cycle_max_lr=0.1),
    calls.call("compat.deepspeed.LRRangeTest"),
    calls.call(
        "compat.megatron.OptimizerParamScheduler",
        init_lr=0.0,
        max_lr=0.1,
        min_lr=0.01,
        lr_warmup_steps=2,
        lr_decay_steps=9,
        lr_decay_style="WSD",
        wsd_decay_steps=3,
    ),
    calls.call(
        "compat.megatron.weight_decay",
        start_wd=0.0,
        end_wd=0.1,
        wd_incr_steps=9,
        wd_incr_style="linear",
    ),
    calls.call(
        "compat.maxtext.create_learning_rate_schedule", steps=20, learning_rate_schedule_steps=10
    ),
    calls.call(
        "compat.big_vision.create_learning_rate_schedule",
        total_steps=9,
        batch_size=8,
        data_size=16,
        decay_type="polynomial",
        warmup_examples=16,
        cooldown_steps=2,
        power=2.0,
        end=0.1,
    ),
    calls.call("compat.big_vision.cooldown_factor", total_steps=9, cooldown_steps=2),
    calls.call("compat.t5x.create_learning_rate_scheduler"),
    calls.call(
        "compat.levanter.lr_scheduler", num_train_steps=20, batch_size=8, seq_length=16, cooldown=2
    ),
    calls.call("compat.levanter.lr_scheduler", num_train_steps=20, cycles=2, decay=0.5),
]


@pytest.mark.parametrize("call", ROWS, ids=str)
def test_some_bad_arguments_are_named(call):
    assert complaints(call, sample(call, every=14)) == []


@pytest.mark.slow
@pytest.mark.parametrize("call", ROWS, ids=str)
def test_all_bad_arguments_are_named(call):
    assert complaints(call, sample(call, every=1)) == []


@pytest.mark.parametrize("call", ROWS, ids=str)
def test_the_calls_of_the_table_are_valid(call):
    assert silent(call()) is None


def test_the_table_has_every_function():
    names = {call.name for call in ROWS}
    for module in pkgutil.iter_modules(lrax.compat.__path__):
        if module.ispkg:
            for name in getattr(lrax.compat, module.name).__all__:
                assert f"compat.{module.name}.{name}" in names
