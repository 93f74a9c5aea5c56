"""`lrax.compat.transformers`: its laws, one setting of each function, and live comparisons."""

import inspect
import pickle

import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.experimental import checkify

import lrax
from lrax.compat import transformers as ours
from lrax.compat.transformers import scheduler

STEPS = 60
COUNTS = np.arange(-1, STEPS + 31)
SPANS = {"num_warmup_steps": 7, "num_training_steps": STEPS}
SETTINGS = [
    ("get_constant_schedule", {}),
    ("get_constant_schedule_with_warmup", {"num_warmup_steps": 7}),
    ("get_linear_schedule_with_warmup", SPANS),
    ("get_cosine_schedule_with_warmup", SPANS | {"num_cycles": 0.75}),
    ("get_cosine_schedule_with_warmup", SPANS),
    ("get_cosine_with_hard_restarts_schedule_with_warmup", SPANS | {"num_cycles": 3}),
    ("get_polynomial_decay_schedule_with_warmup", SPANS | {"lr_end": 1e-3, "power": 1.5}),
    ("get_polynomial_decay_schedule_with_warmup", SPANS | {"lr_end": 1e-3, "power": 0.0}),
    ("get_inverse_sqrt_schedule", {"num_warmup_steps": 7, "timescale": 20}),
    ("get_cosine_with_min_lr_schedule_with_warmup", SPANS | {"min_lr_rate": 0.1}),
    ("get_cosine_with_min_lr_schedule_with_warmup", SPANS | {"min_lr": 0.01, "num_cycles": 2.3}),
    ("get_cosine_with_min_lr_schedule_with_warmup_lr_rate", SPANS | {"min_lr": 0.01}),
    (
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
        SPANS | {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2},
    ),
    (
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
        SPANS | {"min_lr_rate": 0.1, "num_cycles": 0.7},
    ),
    ("get_wsd_schedule", SPANS | {"num_decay_steps": 20, "min_lr_ratio": 0.1}),
    (
        "get_wsd_schedule",
        SPANS | {"num_decay_steps": 20, "warmup_type": "1-sqrt", "num_cycles": 1.5},
    ),
]
every_setting = pytest.mark.parametrize(("name", "keywords"), SETTINGS)


def build(name, keywords, lr=0.1):
    return getattr(ours, name)(lr=lr, **keywords)


def test_every_function_has_a_setting():
    assert {name for name, _ in SETTINGS} == set(ours.__all__) - {"get_scheduler"}
    assert set(scheduler.FUNCTIONS.values()) == {getattr(ours, name) for name, _ in SETTINGS}


@every_setting
def test_rates_are_mapped(name, keywords):
    lrs = np.array([0.3, 0.1, 0.02], np.float32)
    mapped = jax.jit(jax.vmap(lambda lr: build(name, keywords, lr)(COUNTS)))(lrs)
    wanted = np.array([build(name, keywords, lr)(COUNTS) for lr in lrs])
    # The law of precision: parts of the peak, which is that of each lane.
    assert np.all(np.abs(mapped - wanted) <= 1e-6 * np.max(wanted, axis=-1, keepdims=True))


@every_setting
def test_every_number_may_be_traced(name, keywords):
    words = {key: value for key, value in keywords.items() if isinstance(value, str)}
    given = {key: float(value) for key, value in keywords.items() if key not in words}
    if given.get("power") == 0:
        return  # known, it is a jump; traced, it must be above 0
    rates = jax.jit(lambda numbers: build(name, numbers | words)(COUNTS))(given)
    np.testing.assert_allclose(rates, build(name, keywords)(COUNTS), rtol=1e-6, atol=1e-8)


@every_setting
def test_one_trace_for_all_values(name, keywords):
    traces = []

    @jax.jit
    def rate(schedule):
        traces.append(schedule)
        return schedule(3)

    for lr, longer in [(0.1, 0), (0.2, 5), (jnp.float32(0.3), np.int32(9)), (np.float64(0.4), 2)]:
        spans = {
            key: value + longer
            for key, value in keywords.items()
            if key in ("num_training_steps", "timescale")
        }
        rate(build(name, keywords | spans, lr))
    assert len(traces) == 1


@every_setting
def test_gradients_are_finite(name, keywords):
    schedule = build(name, keywords)
    gradients = jax.jit(
        jax.vmap(jax.grad(lambda schedule, count: schedule(count)), in_axes=(None, 0))
    )
    found = jax.tree.leaves(gradients(schedule, COUNTS.astype(np.float32)))
    assert found
    assert all(np.all(np.isfinite(gradient)) for gradient in found)


@every_setting
def test_copies_are_equal(name, keywords):
    schedule = build(name, keywords)
    for same in [
        pickle.loads(pickle.dumps(schedule)),
        eval(repr(schedule), vars(lrax)),
        schedule.replace(),
    ]:
        chex.assert_trees_all_close(same, schedule, rtol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [{"lr": -1}, {"lr": np.nan}, {"num_warmup_steps": -1}, {"num_training_steps": np.inf}],
)
@every_setting
def test_bad_numbers_are_named(name, keywords, changes):
    [(key, bad)] = changes.items()
    if key in inspect.signature(getattr(ours, name)).parameters and key in {"lr", *keywords}:
        with pytest.raises(ValueError, match=f"`{key}` must be .*, got "):
            build(name, keywords | changes) if key != "lr" else build(name, keywords, bad)
        if key != "lr":
            with lrax.checks():
                checked = checkify.checkify(
                    jax.jit(lambda value: jax.tree.leaves(build(name, keywords | {key: value})))
                )
                assert f"`{key}` must be " in checked(float(bad))[0].get()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linar", 0.1), "`name` must be one of 'linear', .*, got 'linar'"),
        (
            ("greedy", 0.1),
            "`name` must be a schedule of the step count, got 'greedy', which follows the loss",
        ),
        (("reduce_lr_on_plateau", 0.1), "which follows the loss"),
        (("cosine", 0.1, None, 50), "`num_warmup_steps` must be given for 'cosine'"),
        (("cosine", 0.1, 5), "`num_training_steps` must be given for 'cosine'"),
        (
            ("polynomial", 0.1, 5, 50, {"lr_end": 0.1}),
            "`lr` must be above `lr_end`, got",
        ),
        (
            ("cosine_with_min_lr", 0.1, 5, 50),
            "one of `min_lr` and `min_lr_rate` must be given, got None and None",
        ),
        (
            ("cosine_with_min_lr", 0.1, 5, 50, {"min_lr": 0, "min_lr_rate": 0}),
            "must be given, got 0 and 0",
        ),
        (
            ("cosine_warmup_with_min_lr", 0.1, 5, 50, {"min_lr": 0, "warmup_lr_rate": 2}),
            "`warmup_lr_rate` must be at most",
        ),
        (
            ("warmup_stable_decay", 0.1, 5, None, {"num_decay_steps": 9}),
            "`num_training_steps` and `num_stable_steps`",
        ),
        (
            ("warmup_stable_decay", 0.1, 5, 50, {"num_decay_steps": 9, "decay_type": "sqrt"}),
            "`decay_type` must be one of",
        ),
    ],
)
def test_bad_calls_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ours.get_scheduler(*arguments)


def test_unknown_arguments_are_refused_as_there():
    with pytest.raises(TypeError, match="num_cycle"):
        ours.get_scheduler("cosine", 0.1, 5, 50, {"num_cycle": 1})
    assert (
        repr(ours.get_scheduler("constant", 0.1, scheduler_specific_kwargs={"a": 1}))
        == "constant(value=0.1)"
    )


def test_restarts_are_exact_where_a_cycle_is_no_whole_number():
    # 100 / 6 in float32 is too large: a remainder by it would put the third restart one step late.
    schedule = ours.get_cosine_with_hard_restarts_schedule_with_warmup(1.0, 0, 100, 6)
    assert float(schedule(50)) == 1.0
    assert float(schedule(100)) == 0.0


@pytest.mark.parametrize("cycles", [0.5, 3, 51, 0.7])
def test_waves_keep_their_digits_over_many(cycles):
    counts = np.array([1_000, 54_321, 99_983, 120_017])
    schedule = ours.get_cosine_with_min_lr_schedule_with_warmup(
        1.0, 1000, 100_000, cycles, min_lr=0.1
    )
    wanted = 0.55 + 0.45 * np.cos(2 * np.pi * cycles * (counts - 1000) / 99_000)
    np.testing.assert_allclose(schedule(counts), wanted, rtol=0, atol=1e-6)


def test_the_translations_are_in_the_words_of_lrax():
    wanted = {
        "linear": "warmup_linear(peak=0.1, steps=50, warmup=5, init=0, end=0)",
        "constant": "constant(value=0.1)",
        "inverse_sqrt": "inverse_sqrt(peak=0.1, warmup=5, end=0)",
    }
    assert {name: repr(ours.get_scheduler(name, 0.1, 5, 50)) for name in wanted} == wanted


@pytest.mark.parametrize("name", scheduler.FUNCTIONS)
def test_arguments_and_defaults_are_those_of_transformers(name):
    theirs = pytest.importorskip("transformers.optimization")
    function = theirs.TYPE_TO_SCHEDULER_FUNCTION[name]
    assert function.__name__ == scheduler.FUNCTIONS[name].__name__
    wanted = {key: value.default for key, value in inspect.signature(function).parameters.items()}
    found = {
        key: value.default
        for key, value in inspect.signature(scheduler.FUNCTIONS[name]).parameters.items()
    }
    assert {key: value for key, value in found.items() if key != "lr"} == {
        key: value for key, value in wanted.items() if key not in ("optimizer", "last_epoch")
    }
    assert next(iter(found)) == "lr"


def test_every_name_of_transformers_is_known():
    utils = pytest.importorskip("transformers.trainer_utils")
    assert {member.value for member in utils.SchedulerType} == scheduler.FUNCTIONS.keys() | set(
        scheduler.CONTROLLERS
    )
    assert repr(ours.get_scheduler(utils.SchedulerType.CONSTANT, 0.1)) == "constant(value=0.1)"


@pytest.mark.parametrize("spans", [(0, 33), (9, 33), (33, 33), (40, 33)])
@pytest.mark.parametrize(
    "name", ["linear", "cosine", "cosine_with_restarts", "constant_with_warmup", "inverse_sqrt"]
)
def test_rates_are_those_of_transformers(name, spans):
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("transformers.optimization")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = theirs.get_scheduler(name, optimizer, *spans)
    rates = []
    for _ in range(70):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(
        ours.get_scheduler(name, 0.2, *spans).values(70), rates, rtol=0, atol=2e-7
    )
