"""`lrax.lr_free`: equal to the authors' packages, and the laws of its methods over one table."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import golden
import jax
import numpy as np
import optax
import problems
import pytest
from golden import record_lr_free as recorded
from jax import numpy as jnp

import lrax
from lrax.lr_free.schedule_free import ScheduleFreeState

free = lrax.lr_free
SETTINGS = golden.read("lr_free")["settings"]


# --- equal to the authors' packages ---


def structure(setting):
    """The words of a setting, and the names of the numbers that may be None: one program each."""
    words = {key: value for key, value in setting["keywords"].items() if isinstance(value, bool)}
    maybe = {"beta3", "init_rate"} & set(setting["keywords"])
    return (setting["name"], *sorted(words.items()), *sorted(maybe))


STRUCTURES = {}
for one in SETTINGS:
    STRUCTURES.setdefault(structure(one), []).append(one)


@pytest.mark.parametrize("key", STRUCTURES, ids=lambda key: "-".join(map(str, key)))
def test_equal_to_the_authors_packages(key, x64):
    settings = STRUCTURES[key]
    name = settings[0]["name"]
    given = [setting["keywords"] for setting in settings]
    words = {word: value for word, value in given[0].items() if isinstance(value, bool)}
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(getattr(free, name)).parameters.values()
        if parameter.name not in ("lr", *words) and not isinstance(parameter.default, bool)
    }
    numbers = {
        number: np.array([float(keywords.get(number, default)) for keywords in given])
        for number, default in defaults.items()
        if default is not None or number in given[0]
    }
    rates = np.array([setting["factor"] * recorded.RATES[setting["lr"]] for setting in settings])
    scales = np.array([recorded.SCALES[setting["gradients"]] for setting in settings])

    def run(numbers, rates, scales):
        optimizer = getattr(free, name)(lambda count: rates[count], **words, **numbers)
        init, average = free.polynomial_average()
        params = {"w": jnp.array(recorded.START[:3]), "b": jnp.array(recorded.START[3:])}

        def body(carry, given):
            params, state, averages = carry
            noise, scale = given
            x = jnp.concatenate([params["w"], params["b"]])
            grad = scale * recorded.gradient_of(x, noise)
            grads = {"w": grad[:3], "b": grad[3:]}
            value = recorded.loss_of(x, noise)
            updates, state = optimizer.update(grads, state, params, value=value)
            params = optax.apply_updates(params, updates)
            averaged, averages = average(params, averages)
            return (params, state, averages), (params, averaged)

        start = (params, optimizer.init(params), init(params))
        (params, state, _), (places, averages) = jax.lax.scan(body, start, (recorded.NOISE, scales))
        if name.startswith("schedule_free"):
            last = free.schedule_free_eval_params(state, params)
        else:
            last = jax.tree.map(lambda leaf: leaf[-1], averages)
        return places, state, last, lrax.get_lr(state)

    with x64:
        places, state, last, rate = jax.jit(jax.vmap(run))(numbers, rates, scales)
        joined = jnp.concatenate([places["w"], places["b"]], axis=-1)
    if name in ("prodigy", "dadapt_adam"):
        estimates = state.distance
    elif name.startswith("momo"):
        estimates = state.model.lower_bound
    elif isinstance(rate, dict):
        estimates = np.stack([rate["['w']"], rate["['b']"]], axis=1)
    else:
        estimates = rate
    for index, setting in enumerate(settings):
        found = joined[index, list(recorded.AT)]
        np.testing.assert_allclose(found, setting["params"], rtol=1e-8, atol=1e-10)
        estimate = setting["estimate"]
        wanted = estimate if isinstance(rate, dict) else np.ravel(estimate)[0]
        np.testing.assert_allclose(estimates[index], wanted, rtol=1e-8)
        if "average" in setting:
            average = np.concatenate([last["w"][index], last["b"][index]])
            np.testing.assert_allclose(average, setting["average"], rtol=1e-8, atol=1e-10)


def test_the_record_covers_every_method_and_word():
    assert {setting["name"] for setting in SETTINGS} == set(recorded.METHODS)
    assert len(SETTINGS) >= 50
    for name in recorded.METHODS:
        ours = set(inspect.signature(getattr(free, name)).parameters) - {"lr"}
        tried = {key for s in SETTINGS if s["name"] == name for key in s["keywords"]}
        assert tried == ours, name


# --- the laws ---


class Method(NamedTuple):
    make: Callable  # of `lr` and the numbers, by keyword
    numbers: dict[str, tuple[float, float]]  # the numbers of two lanes
    peak: float = 1.0
    steps: int = 400  # within which it comes near the minimum of a quadratic


EXACT = {"init_distance": (1e-2, 2e-2), "b1": (0.9, 0.8), "b2": (0.99, 0.95), "eps": (1e-8, 1e-3)}
DECAY = {"weight_decay": (0.01, 0.1)}
FREE = {"b1": (0.9, 0.8), "warmup": (4, 0), "weight_lr_power": (2.0, 1.0)}
METHODS = {
    "prodigy": Method(
        free.prodigy, EXACT | DECAY | {"distance_coef": (1.0, 0.5), "growth_rate": (np.inf, 1.5)}
    ),
    "dadapt_adam": Method(free.dadapt_adam, EXACT | DECAY | {"growth_rate": (np.inf, 1.5)}),
    "dog": Method(free.dog, DECAY | {"reps_rel": (1e-2, 1e-1), "eps": (1e-8, 1e-3)}),
    "layers of dog": Method(
        functools.partial(free.dog, layerwise=True), {"reps_rel": (1e-2, 1e-1), "eps": (1e-8, 1e-3)}
    ),
    "momo": Method(free.momo, DECAY | {"beta": (0.9, 0.5), "lower_bound": (0.0, 1.0)}, peak=0.5),
    "momo_adam": Method(
        free.momo_adam,
        DECAY
        | {"b1": (0.9, 0.5), "b2": (0.99, 0.9), "eps": (1e-8, 1e-3), "lower_bound": (0.0, 0.5)},
        peak=0.5,
    ),
    "schedule_free_sgd": Method(free.schedule_free_sgd, FREE | DECAY | {"r": (0.0, 1.0)}, peak=0.3),
    "schedule_free_adamw": Method(
        free.schedule_free_adamw, FREE | DECAY | {"b2": (0.99, 0.9), "eps": (1e-8, 1e-3)}, peak=0.3
    ),
}
everywhere = pytest.mark.parametrize("name", METHODS)
PARAMS = {"w": jnp.linspace(-1.0, 2.0, 6).reshape(2, 3), "b": jnp.array([0.5, -0.5])}
STEPS = 12
NONE = jnp.zeros(STEPS)
ONES = jnp.ones(STEPS)


def loss_of(params):
    return 2.0 * jnp.sum((params["w"] - 1) ** 2) + 0.5 * jnp.sum((params["b"] + 2) ** 2)


def lane(name, which=0):
    return {number: lanes[which] for number, lanes in METHODS[name].numbers.items()}


def scanned(name, numbers, rates, spoils, params=PARAMS):
    """The parameters after each update, and the states: the first is that before all."""
    method = METHODS[name]
    optimizer = method.make(lambda count: method.peak * rates[count], **numbers)
    state = optimizer.init(params)

    def body(carry, spoil):
        params, state = carry
        value, grads = jax.value_and_grad(loss_of)(params)
        grads = jax.tree.map(lambda grad: grad + spoil.astype(grad.dtype), grads)
        updates, state = optimizer.update(grads, state, params, value=value, unknown=spoil)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    _, places = jax.lax.scan(body, (params, state), spoils)
    return jax.tree.map(
        lambda one, rest: jnp.concatenate([one[None], rest]), (params, state), places
    )


@functools.cache
def program(name):
    """What every law shares: the method as a compiled function of its numbers and rates."""
    return jax.jit(functools.partial(scanned, name))


def at(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def described(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)


@everywhere
def test_a_gradient_that_is_not_finite_changes_nothing(name):
    run = functools.partial(program(name), lane(name), ONES)
    for bad in (np.nan, np.inf, 1e30):
        params, states = run(NONE.at[5].set(bad))
        assert_same(at((params, states), 6), at((params, states), 5))
        assert all(np.isfinite(leaf[-1]).all() for leaf in jax.tree.leaves(states))
    # The update after it is the one that would have been made.
    assert_same(at(params, 7), at(run(NONE)[0], 6))


@everywhere
def test_a_rate_of_0_changes_no_parameter(name):
    rates = ONES.at[:3].set(0.0).at[7].set(0.0)
    params, states = program(name)(lane(name), rates, NONE)
    assert_same(at(params, 3), at(params, 0))
    moved = states.z if "schedule" in name else params  # there, the average goes on
    assert_same(at(moved, 8), at(moved, 7))
    assert all(np.isfinite(leaf[1:]).all() for leaf in jax.tree.leaves((params, states)))
    assert not np.array_equal(params["w"][4], params["w"][3])
    if name in ("prodigy", "dadapt_adam"):
        assert_same(at(states, 8), at(states, 7)._replace(count=np.int32(8), learning_rate=0.0))
        assert states.steps[-1] == STEPS - 4
    if "dog" not in name:
        assert (at(lrax.get_lr(states), 3), at(lrax.get_lr(states), 8)) == (0.0, 0.0)


@everywhere
def test_lanes_equal_each_alone(name):
    numbers = {number: jnp.asarray(lanes) for number, lanes in METHODS[name].numbers.items()}
    lanes = jax.jit(jax.vmap(functools.partial(scanned, name), in_axes=(0, None, None)))
    params, states = lanes(numbers, ONES, NONE)
    for which in (0, 1):
        alone = program(name)(lane(name, which), ONES, NONE)
        jax.tree.map(
            lambda left, right: np.testing.assert_allclose(left, right, rtol=2e-5, atol=1e-6),
            at((params, states), which),
            at(alone, ...),
        )
    assert not np.array_equal(*params["w"][:, -1])


@everywhere
@pytest.mark.parametrize("wide", [False, True])
def test_shapes_and_dtypes_stay(name, wide, x64):
    make = functools.partial(METHODS[name].make, lrax.warmup_cosine(1.0, 20, 3), **lane(name))

    def check(params, float_dtype):
        optimizer = make()
        grads = params
        state = jax.eval_shape(optimizer.init, params)
        update = lambda state: optimizer.update(grads, state, params, value=jnp.ones(()))
        updates, after = jax.eval_shape(update, state)
        assert described(updates) == described(params)
        assert jax.tree.map(str, jax.tree.leaves(after)) == jax.tree.map(
            str, jax.tree.leaves(state)
        )
        floats = [
            leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        assert {leaf.dtype for leaf in floats if not leaf.shape} == {jnp.dtype(float_dtype)}
        assert min(leaf.dtype.itemsize for leaf in floats) >= 4

    cast = lambda dtype: jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    if not wide:
        for dtype in ("float16", "bfloat16", "float32"):
            check(cast(dtype), "float32")
        return
    with x64:
        for dtype in ("bfloat16", "float32", "float64"):
            check(cast(dtype), "float64")


@everywhere
def test_compiled_once_with_donated_state(name):
    method = METHODS[name]
    optimizer = method.make(lrax.constant(method.peak), **lane(name))
    traces = []

    def update(params, state):
        traces.append(None)
        value, grads = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    update = jax.jit(update, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, PARAMS)
    state = optimizer.init(params)
    for _ in range(3):
        params, state = update(params, state)
    params, state = update(params, lrax.set_lr(state, 0.01))
    rates = lrax.get_lr(state)
    for rate in rates.values() if isinstance(rates, dict) else [rates]:
        assert float(rate) == pytest.approx(0.01)
    params, state = update(params, lrax.set_lr(state, None))
    rates = lrax.get_lr(state)
    for rate in rates.values() if isinstance(rates, dict) else [rates]:
        assert float(rate) != pytest.approx(0.01)
    assert len(traces) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, state)))


@everywhere
def test_groups_are_as_each_alone(name):
    method = METHODS[name]
    make = lambda: method.make(lrax.constant(method.peak), **lane(name))
    optimizer = optax.partition({"body": make(), "head": make()}, {"w": "body", "b": "head"})

    def steps(optimizer, params):
        def body(carry, _):
            params, state = carry
            grads = jax.tree.map(lambda leaf: leaf + 1, params)
            updates, state = optimizer.update(grads, state, params, value=jnp.float32(3.0))
            params = optax.apply_updates(params, updates)
            return (params, state), lrax.get_lr(state)

        (params, _), rates = jax.lax.scan(body, (params, optimizer.init(params)), length=4)
        return params, rates

    def both(params):
        alone = {key: steps(make(), {key: leaf}) for key, leaf in params.items()}
        return steps(optimizer, params), alone

    (params, rates), alone = jax.jit(both)(PARAMS)
    for key, label in (("w", "body"), ("b", "head")):
        np.testing.assert_allclose(params[key], alone[key][0][key], rtol=1e-5)
        rate = alone[key][1]
        # Of layers, the label in the partition and the path of the array name the rate.
        found = rates[f"{label}/['{key}']" if "layers" in name else label]
        np.testing.assert_allclose(found, rate, rtol=1e-5)


@everywhere
def test_it_finds_the_minimum_of_a_quadratic(name):
    method = METHODS[name]
    start = {}
    if "init_distance" in method.numbers:
        start = {"init_distance": 1e-6}
    elif "dog" in name:
        start = {"reps_rel": 1e-6}
    steps = 3000 if "dog" in name else method.steps
    schedule = lrax.warmup_cosine(method.peak, steps, 20)
    optimizer = method.make(schedule, **start)

    def body(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    run = lambda params: jax.lax.scan(body, (params, optimizer.init(params)), length=steps)[0]
    params, state = jax.jit(run)(PARAMS)
    if isinstance(state, ScheduleFreeState):
        params = free.schedule_free_eval_params(state, params)
    assert float(loss_of(params)) < 1e-3 * float(loss_of(PARAMS))


@everywhere
def test_swept_over_one_number_in_one_program(name, tmp_path):
    method = METHODS[name]
    # What the first 12 updates depend on.
    number = {"dog": "reps_rel", "momo": "lower_bound"}.get(name, next(iter(method.numbers)))
    values = np.linspace(*method.numbers[number], 5)
    traces = []

    def optimizer(**hyperparams):
        traces.append(None)
        return method.make(lrax.cosine(method.peak, 12), **hyperparams)

    task = problems.regression()
    monitors = [lrax.monitors.learning_rate]
    sweep = functools.partial(lrax.sweep, task, optimizer, {number: values}, steps=12)
    whole = sweep(monitors=monitors)
    assert len(traces) < len(values)
    assert set(whole.status[:, 0]) == {"done"}
    assert not np.array_equal(whole.losses[0], whole.losses[1])
    rates = [values for key, values in whole.monitors.items() if key.startswith("learning_rate")]
    assert rates
    assert all(np.isfinite(values).all() for values in rates)
    # Interrupted and gone on with: the same bits.
    part = sweep(monitors=monitors, checkpoint=tmp_path / "sweep", checkpoint_every=0, budget=0)
    assert part.losses.shape[-1] <= 12
    again = sweep(monitors=monitors, checkpoint=tmp_path / "sweep")
    np.testing.assert_array_equal(again.losses, whole.losses)


# --- what each method is for ---


def test_get_lr_reads_the_distance_times_the_schedule():
    for name in ("prodigy", "dadapt_adam"):
        rates = jnp.linspace(0.5, 1.5, STEPS)
        _, states = program(name)(lane(name), rates, NONE)
        wanted = states.distance[:-1] * rates
        np.testing.assert_allclose(lrax.get_lr(states)[1:], wanted, rtol=1e-6)
        first = METHODS[name].numbers["init_distance"][0]
        np.testing.assert_allclose(lrax.get_lr(states)[0], first * rates[0], rtol=1e-6)
    _, states = program("dog")(lane("dog"), ONES, NONE)
    wanted = states.rule.distance / np.sqrt(states.rule.squares + 1e-8)
    np.testing.assert_allclose(lrax.get_lr(states)[1:], wanted[1:], rtol=1e-6)
    assert np.isnan(lrax.get_lr(states)[0])


def test_a_held_rate_replaces_the_estimate_and_not_the_bias_correction():
    params = jnp.array([1.0])
    for bias_correction, step in ((False, 0.1 / np.sqrt(0.001)), (True, 1.0)):
        optimizer = free.prodigy(bias_correction=bias_correction)
        state = lrax.set_lr(optimizer.init(params), 0.25)
        updates, state = jax.jit(optimizer.update)(jnp.array([3.0]), state, params)
        np.testing.assert_allclose(updates, -0.25 * step, rtol=1e-4)
        assert lrax.get_lr(state) == 0.25
    optimizer = free.momo()
    state = lrax.set_lr(optimizer.init(params), 0.25)
    updates, state = jax.jit(optimizer.update)(jnp.array([3.0]), state, params, value=1.0)
    np.testing.assert_allclose(updates, -0.75)


def test_get_lr_reads_a_restored_state():
    state = free.prodigy(init_distance=0.5).init(PARAMS)
    restored = {"opt_state": [state._asdict()]}
    assert lrax.get_lr(restored) == 0.5
    assert lrax.get_lr(lrax.set_lr(restored, 0.25)) == 0.25


def test_the_sum_of_squares_does_not_stall_in_bfloat16():
    params = jnp.zeros(4, jnp.bfloat16)
    optimizer = free.dog(lr=1e-6)
    body = lambda state, _: (optimizer.update(jnp.ones_like(params), state, params)[1], None)
    state = jax.jit(lambda: jax.lax.scan(body, optimizer.init(params), length=2000)[0])()
    assert state.rule.squares == 8000


def test_schedule_free_in_bfloat16_stays_at_the_minimum():
    # Optax, which keeps all in bfloat16, stays at 8e-4.
    optimizer = free.schedule_free_sgd(0.2, warmup=5)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)

    def body(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss_of)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimizer.init(params))
    params, state = jax.jit(lambda start: jax.lax.scan(body, start, length=1000)[0])(start)
    average = free.schedule_free_eval_params(state, params)
    assert described(average) == described(params)
    assert float(loss_of(average)) < 2e-4


def test_eval_params_under_a_chain_and_a_partition():
    groups = {
        "free": optax.chain(optax.clip(1.0), free.schedule_free_sgd(0.1)),
        "sgd": optax.sgd(1.0),
    }
    optimizer = optax.partition(groups, {"w": "free", "b": "sgd"})
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(3):
        updates, state = optimizer.update(jax.grad(loss_of)(params), state, params)
        params = optax.apply_updates(params, updates)
    found = free.schedule_free_eval_params(state, params)
    np.testing.assert_array_equal(found["b"], params["b"])
    assert not np.array_equal(found["w"], params["w"])
    with pytest.raises(ValueError, match="`state` must hold the state of"):
        free.schedule_free_eval_params(optax.sgd(1.0).init(PARAMS), PARAMS)
    for bad in (None, {"w": PARAMS["w"]}, {"w": PARAMS["b"], "b": PARAMS["b"]}):
        with pytest.raises(ValueError, match="`params` must be like the parameters"):
            free.schedule_free_eval_params(state, bad)


def test_an_initial_rate_lasts_until_the_parameters_move():
    optimizer = free.dog(lrax.from_values([0.0, 1.0, 1.0]), init_rate=0.5)
    params = jnp.array([1.0, 2.0])
    state = optimizer.init(params)
    assert lrax.get_lr(state) == 0.0
    rates = []
    for grads in ([1.0, 1.0], [0.0, 0.0], [1.0, 1.0]):
        _, state = optimizer.update(jnp.array(grads), state, params)
        rates.append(float(lrax.get_lr(state)))
    assert rates == [0.0, 0.5, 0.5]


def test_what_an_update_lacks_is_named():
    for name, method in METHODS.items():
        optimizer = method.make(1.0)
        state = optimizer.init(PARAMS)
        with pytest.raises(ValueError, match="`params` must be given to `update`"):
            optimizer.update(PARAMS, state, value=1.0)
        if name.startswith("momo"):
            with pytest.raises(TypeError, match=f"`value` must be given to `update`: `{name}`"):
                optimizer.update(PARAMS, state, PARAMS)


def test_a_distance_may_not_shrink():
    for make in (free.prodigy, free.dadapt_adam):
        with pytest.raises(ValueError, match=r"`growth_rate` must be at least 1, got 0\.5"):
            make(growth_rate=0.5)


def test_a_rule_is_no_rate_of_a_method():
    with pytest.raises(TypeError, match="`lr` must be a number, a Schedule or a function"):
        free.prodigy(lrax.controllers.plateau())
