"""`lrax.compat.from_config`: what configurations of transformers and PyTorch say."""

import dataclasses
import math

import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import lrax
from lrax.compat import from_config

HUGGING = {
    "lr_scheduler_type": "cosine_with_min_lr",
    "learning_rate": 3e-4,
    "max_steps": 200,
    "warmup_steps": 20,
}
HUGGING |= {"lr_scheduler_kwargs": {"min_lr": 1e-5}}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (HUGGING, ("cosine_with_min_lr", 3e-4, 20, 200, {"min_lr": 1e-5})),
        (
            HUGGING | {"lr_scheduler_kwargs": '{"min_lr": 1e-5}'},
            ("cosine_with_min_lr", 3e-4, 20, 200, {"min_lr": 1e-5}),
        ),
        ({"learning_rate": 1e-3, "max_steps": 50}, ("linear", 1e-3, 0, 50)),
        ({"lr_scheduler_type": "cosine", "max_steps": 50}, ("cosine", 5e-5, 0, 50)),
        (
            {"lr_scheduler_type": "cosine", "max_steps": 51, "warmup_steps": 0.1},
            ("cosine", 5e-5, 6, 51),
        ),
        (
            {"lr_scheduler_type": "cosine", "max_steps": 51, "warmup_ratio": 0.1},
            ("cosine", 5e-5, 6, 51),
        ),
        (
            {"lr_scheduler_type": "cosine", "max_steps": 51, "warmup_ratio": 1},
            ("cosine", 5e-5, 51, 51),
        ),
        (
            {"lr_scheduler_type": "cosine", "max_steps": 51, "warmup_steps": 7.9},
            ("cosine", 5e-5, 7, 51),
        ),
        (
            {
                "lr_scheduler_type": "linear",
                "max_steps": 51,
                "warmup_steps": 9,
                "warmup_ratio": 0.5,
            },
            ("linear", 5e-5, 9, 51),
        ),
        (
            {"lr_scheduler_type": "constant", "learning_rate": 0.1, "warmup_steps": 9},
            ("constant", 0.1),
        ),
        (
            {"lr_scheduler_type": "constant", "learning_rate": 0.1, "warmup_ratio": 0.1},
            ("constant", 0.1),
        ),
        (
            {"lr_scheduler_type": "inverse_sqrt", "learning_rate": 0.1, "warmup_steps": 9},
            ("inverse_sqrt", 0.1, 9),
        ),
        (
            {
                "lr_scheduler_type": "warmup_stable_decay",
                "learning_rate": 0.1,
                "warmup_steps": 9,
                "max_steps": -1,
                "lr_scheduler_kwargs": {"num_decay_steps": 5, "num_stable_steps": 6},
            },
            ("warmup_stable_decay", 0.1, 9, None, {"num_decay_steps": 5, "num_stable_steps": 6}),
        ),
        (
            {
                "lr_scheduler_type": "linear",
                "lr_scheduler_kwargs": None,
                "max_steps": 9,
                "bf16": True,
            },
            ("linear", 5e-5, 0, 9),
        ),
    ],
)
def test_configurations_of_transformers(config, wanted):
    chex.assert_trees_all_equal(
        from_config(config), lrax.compat.transformers.get_scheduler(*wanted), strict=True
    )


def test_steps_stand_in_for_max_steps():
    config = {
        "lr_scheduler_type": "linear",
        "learning_rate": 0.1,
        "num_train_epochs": 3,
        "max_steps": -1,
        "warmup_ratio": 0.1,
    }
    assert (
        repr(from_config(config, steps=50))
        == "warmup_linear(peak=0.1, steps=50, warmup=5, init=0, end=0)"
    )


def test_the_rate_may_be_traced():
    rates = jax.vmap(lambda lr: from_config(HUGGING | {"learning_rate": lr})(20))(
        jnp.array([0.1, 0.2])
    )
    np.testing.assert_allclose(rates, [0.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    "head",
    [
        {"scheduler": "OneCycleLR"},
        {"class": "torch.optim.lr_scheduler.OneCycleLR"},
        {"class": "OneCycleLR"},
    ],
)
def test_classes_of_pytorch(head):
    schedule = from_config(head | {"lr": 0.1, "max_lr": 0.5, "total_steps": 100})
    wanted = lrax.compat.torch.OneCycleLR(lr=0.1, max_lr=0.5, total_steps=100)
    chex.assert_trees_all_equal(schedule, wanted, strict=True)


def test_schedulers_in_a_list_take_over_the_rate():
    parts = [
        {"scheduler": "LinearLR", "start_factor": 0.1, "total_iters": 5},
        {"scheduler": "CosineAnnealingLR", "T_max": 20},
    ]
    schedule = from_config(
        {"scheduler": "SequentialLR", "lr": 0.1, "schedulers": parts, "milestones": [5]}
    )
    torch = lrax.compat.torch
    children = [torch.LinearLR(0.1, 0.1, total_iters=5), torch.CosineAnnealingLR(0.1, T_max=20)]
    chex.assert_trees_all_equal(schedule, torch.SequentialLR(0.1, children, [5]), strict=True)


def test_numbers_may_be_texts():
    # YAML 1.1 reads 1e-4 as text.
    config = {"learning_rate": "1e-4", "max_steps": "50", "warmup_ratio": "0.1"}
    assert repr(from_config(config)) == repr(
        from_config({"learning_rate": 1e-4, "max_steps": 50, "warmup_ratio": 0.1})
    )
    parts = [{"scheduler": "StepLR", "step_size": "3"}, {"class": "ExponentialLR", "gamma": ".9"}]
    config = {"scheduler": "SequentialLR", "lr": "1e-1", "schedulers": parts, "milestones": ["5"]}
    torch = lrax.compat.torch
    children = [torch.StepLR(0.1, 3), torch.ExponentialLR(0.1, 0.9)]
    chex.assert_trees_all_equal(from_config(config), torch.SequentialLR(0.1, children, [5]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "`config` must have one of the keys 'scheduler', .*, got none"),
        (
            {"lr_schedular_type": "linear"},
            "must have one of the keys .*; is 'lr_schedular_type' misspelled",
        ),
        (
            {"learning_rate": 0.1, "lr_schedular_type": "cosine"},
            "unknown key 'lr_schedular_type'; did you mean 'lr_scheduler_type'",
        ),
        (
            {"lr_scheduler_type": "cosin", "max_steps": 9},
            r"`config\['lr_scheduler_type'\]` must be one of .*did you mean 'cosine'",
        ),
        (
            {"lr_scheduler_type": "greedy"},
            "must be a schedule of the step count, got 'greedy', which follows the loss",
        ),
        ({"lr_scheduler_type": "linear"}, r"`config\['max_steps'\]` must be .*, got -1"),
        (
            {"lr_scheduler_type": "inverse_sqrt", "warmup_ratio": 0.1},
            r"`config\['max_steps'\]` must be",
        ),
        (
            {"lr_scheduler_type": "linear", "max_steps": 9, "warmup_ratio": 2},
            r"`config\['warmup_ratio'\]` must be from 0 to 1, got 2",
        ),
        (
            {"lr_scheduler_type": "linear", "max_steps": 9, "warmup_steps": -1},
            r"`config\['warmup_steps'\]` must be .*, got -1",
        ),
        (
            HUGGING | {"lr_scheduler_kwargs": {"min_lr": 0, "num_cycle": 1}},
            "got 'num_cycle'; did you mean 'num_cycles'",
        ),
        (HUGGING | {"learning_rate": -1}, "`lr` must be finite and non-negative, got -1"),
        (
            {"lr_scheduler_type": "warmup_stable_decay", "max_steps": 9},
            r"`config\['lr_scheduler_kwargs'\]` must have the key 'num_decay_steps'",
        ),
        (
            {"scheduler": "OneCycle", "lr": 0.1},
            r"`config\['scheduler'\]` must be one of .*; did you mean 'OneCycleLR'",
        ),
        (
            {"class": "timm.scheduler.CosineLRScheduler", "lr": 0.1},
            "must be a class of torch.optim.lr_scheduler, got 'timm",
        ),
        (
            {"class": "torch.optim.lr_scheduler.ReduceLROnPlateau", "lr": 0.1},
            "which follows the loss",
        ),
        (
            {"scheduler": "StepLR", "step_size": 3},
            "`config` must have the key 'lr' for StepLR, got 'step_size'",
        ),
        (
            {"scheduler": "StepLR", "lr": 0.1, "step_sizes": 3},
            "got 'step_sizes'; did you mean 'step_size'",
        ),
        (
            {"scheduler": "ChainedScheduler", "lr": 0.1, "schedulers": [3]},
            r"`config\['schedulers'\]` must be dicts",
        ),
    ],
)
def test_bad_configurations_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        from_config(config)


def test_bad_types_are_named():
    with pytest.raises(TypeError, match="`config` must be a dict, got 3"):
        from_config(3)
    with pytest.raises(TypeError, match=r"in `config`: `lr` must be a real number.*, got 'abc'"):
        from_config({"learning_rate": "abc", "max_steps": 9})
    with pytest.raises(TypeError, match=r"`config\['max_steps'\]` must be a number, got 'nine'"):
        from_config({"learning_rate": 0.1, "max_steps": "nine"})
    with pytest.raises(TypeError, match=r"`config\['lr_scheduler_kwargs'\]` must be a dict"):
        from_config({"learning_rate": 0.1, "max_steps": 9, "lr_scheduler_kwargs": [1]})
    with pytest.raises(ValueError, match="`steps` must be None for a class of PyTorch"):
        from_config({"scheduler": "StepLR", "lr": 0.1, "step_size": 3}, steps=9)


def test_the_arguments_of_transformers_are_taken_whole():
    args = pytest.importorskip("transformers.training_args").TrainingArguments
    config = {field.name: field.default for field in dataclasses.fields(args)}
    config = {key: None if value is dataclasses.MISSING else value for key, value in config.items()}
    schedule = from_config(config | {"max_steps": 70, "warmup_steps": 0.03})
    wanted = lrax.compat.transformers.get_scheduler(
        "linear", config["learning_rate"], math.ceil(70 * 0.03), 70
    )
    chex.assert_trees_all_equal(schedule, wanted, strict=True)
