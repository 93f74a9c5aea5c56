"""The laws that every rule of the rate obeys, over one table of rules.

A new rule gets one entry in `RULES`. Its `make` takes the rule's numbers by keyword, so that the
laws can trace them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax

# Exact in bfloat16, so that a rule that follows gradients has the same rates there.
PARAMS = {"w": jnp.linspace(-1.0, 0.25, 6).reshape(2, 3), "b": jnp.full(3, 0.5)}
STEPS = 14
# A loss that stalls twice, a metric measured at every third update, and what no rule knows.
LOSSES = np.array([3, 2, 2, 2, 2, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], np.float32)
SIGNALS = {
    "val_loss": np.array([2, 2, 2, 1, 1, 1, 1, 1, 1, 1.5, 1.5, 1.5, 0.5, 0.5], np.float32),
    "measurement": {"val_loss": np.arange(STEPS, dtype=np.int32) // 3},
    "fresh": {"val_loss": np.arange(STEPS) % 3 == 0},
    "late": np.arange(STEPS) >= 5,
    "unknown": np.zeros((STEPS, 2), np.float32),
}
# Each update is made at other parameters, on a batch of another curvature.
PLACES = 1 - np.arange(STEPS, dtype=np.float32) / 32
CURVATURES = np.array([1, 2, 4, 1, 1, 2, 4, 8, 8, 2, 1, 1, 4, 2], np.float32)


class Rule(NamedTuple):
    make: Callable  # of the numbers, by keyword
    numbers: dict[str, tuple[float, float]]  # the numbers of two lanes
    first: float | None = None  # the rate before the first update; None: that of the first update
    whole: bool = False  # whether it must see all parameters, since it evaluates the loss
    bfloat16: float = 1e-6  # how near its rates are to those of float32, relatively
    again: bool = False  # whether it is another row of a rule, for the slow run alone


controllers = lrax.controllers
plateau = lrax.controllers.plateau
greedy = lrax.controllers.greedy
polyak = lrax.controllers.polyak
hypergradient = lrax.controllers.hypergradient
kl = lrax.controllers.kl
RULES = {
    "number": Rule(lambda value: value, {"value": (0.1, 0.2)}),
    "schedule": Rule(
        lambda peak, steps: lrax.warmup_cosine(peak, steps, 3),
        {"peak": (0.1, 0.2), "steps": (10.0, 20.0)},
    ),
    "function": Rule(lambda slope: lambda count: slope / (1.0 + count), {"slope": (0.1, 0.3)}),
    "plateau": Rule(
        lambda factor, patience: plateau(factor=factor, patience=patience),
        {"factor": (0.1, 0.5), "patience": (1, 2)},
    ),
    "plateau of every number": Rule(
        lambda **numbers: plateau(metric="val_loss", counting="keras", mode="max", **numbers),
        {
            "factor": (0.1, 0.5),
            "patience": (1, 2),
            "rtol": (0.0, 0.01),
            "atol": (0.1, 0.0),
            "cooldown": (0, 2),
            "floor": (0.0, 0.3),
            "eps": (0.0, 1e-8),
            "spike": (0.1, np.inf),
        },
    ),
    "plateau with restarts": Rule(
        lambda factor, floor: plateau(factor=factor, floor=floor, patience=0, restart=True),
        {"factor": (0.5, 0.25), "floor": (0.5, 0.1)},
    ),
    "greedy": Rule(
        lambda **numbers: 0.1 * greedy(metric="val_loss", mode="max", window=3, **numbers),
        {
            "factor": (0.5, 0.8),
            "patience": (0, 1),
            "rtol": (0.0, 0.01),
            "atol": (0.1, 0.0),
            "cooldown": (0, 1),
            "warmup": (1, 0),
            "floor": (0.5, 0.1),
            "ceiling": (2.0, np.inf),
            "eps": (0.0, 1e-8),
            "reset_after": (1, np.inf),
        },
        first=0.1,
    ),
    "polyak": Rule(
        polyak,
        {
            "max_rate": (0.2, np.inf),
            "c": (0.5, 1.0),
            "f_min": (0.25, 0.0),
            "eps": (0.0, 0.5),
            "growth": (1.125, 1.5),
        },
        first=np.nan,
    ),
    **{
        f"hypergradient, {kind}": Rule(
            functools.partial(hypergradient, kind=kind),
            {"learning_rate": (0.1, 0.2), "hyper_rate": (0.01, 0.02)},
        )
        for kind in ("additive", "multiplicative")
    },
    "hypergradient, hdm": Rule(
        functools.partial(hypergradient, kind="hdm"),
        {"learning_rate": (0.3, 0.4), "hyper_rate": (0.1, 0.2)},
        whole=True,
        bfloat16=0.02,
    ),
    "kl": Rule(
        # The metric stands in for a divergence.
        lambda **numbers: lrax.cosine(0.1, 20) * kl(metric="val_loss", zero="small", **numbers),
        {
            "target": (1.2, 0.6),
            "kl_factor": (1.25, 2.0),
            "lr_factor": (2.0, 1.5),
            "floor": (0.5, 0.1),
            "ceiling": (2.0, np.inf),
        },
        first=0.1,
    ),
    "schedule * plateau": Rule(
        lambda peak, patience: lrax.linear(peak, 0.01, 12) * plateau(factor=0.5, patience=patience),
        {"peak": (0.1, 0.2), "patience": (0, 2)},
    ),
    "plateau * schedule": Rule(
        lambda peak: plateau(factor=0.5, patience=0) * lrax.linear(peak, 0.01, 12),
        {"peak": (0.1, 0.2)},
    ),
    "number * plateau": Rule(
        lambda peak: peak * plateau(factor=0.5, patience=0, metric="val_loss"),
        {"peak": (0.1, 0.2)},
    ),
    "plateau * plateau": Rule(
        lambda factor: (
            plateau(factor=factor, patience=1) * plateau(factor=0.5, patience=0, metric="val_loss")
        ),
        {"factor": (0.1, 0.5)},
    ),
    "number * (schedule * (plateau * plateau))": Rule(
        lambda peak: (
            np.float32(2)
            * (lrax.cosine(peak, 20) * (plateau(patience=1) * plateau(metric="val_loss")))
        ),
        {"peak": (0.1, 0.2)},
    ),
    "adgd": Rule(
        lambda init_rate: controllers.adgd(init_rate), {"init_rate": (0.1, 0.2)}, whole=True
    ),
    "schedule * adgd of 2024": Rule(
        lambda peak, init_rate: lrax.cosine(peak, 20) * controllers.adgd(init_rate, variant="2024"),
        {"peak": (1.0, 0.5), "init_rate": (0.1, 0.2)},
        whole=True,
        again=True,
    ),
    "barzilai_borwein": Rule(
        lambda init_rate, reach: controllers.barzilai_borwein(init_rate, reach=reach),
        {"init_rate": (0.1, 0.2), "reach": (100.0, np.inf)},
        whole=True,
    ),
    "barzilai_borwein, short": Rule(
        lambda init_rate: controllers.barzilai_borwein(init_rate, variant="short", reach=100.0),
        {"init_rate": (0.1, 0.2)},
        whole=True,
        again=True,
    ),
    "critical": Rule(
        lambda guess, fraction, every, decay: controllers.critical(
            guess, fraction=fraction, every=every, decay=decay
        ),
        {"guess": (1.0, 0.3), "fraction": (0.5, 0.2), "every": (2, 3), "decay": (0.5, 0.0)},
        first=0.5,
        whole=True,
    ),
    "cosine * critical by a signal": Rule(
        lambda peak, fraction: (
            lrax.cosine(peak, 20) * controllers.critical(fraction=fraction, every="val_loss")
        ),
        {"peak": (1.0, 0.5), "fraction": (0.5, 0.2)},
        first=0.5,
        whole=True,
        again=True,
    ),
    "velocity": Rule(
        lambda up, window: 0.1 * controllers.velocity(up=up, window=window),
        {"up": (1.5, 2.0), "window": (3, 4)},
        again=True,
    ),
    "velocity of every number": Rule(
        lambda **numbers: 0.1 * controllers.velocity(metric="value", **numbers),
        {
            "up": (1.5, 2.0),
            "down": (0.5, 0.7),
            "window": (3, 3),
            "errors": (0.0, 1.0),
            "shrink": (0.8, 0.5),
            "floor": (0.1, 0.0),
            "ceiling": (2.0, np.inf),
        },
    ),
    "back_off": Rule(
        lambda **numbers: 0.1 * controllers.back_off(metric="val_loss", window=4, **numbers),
        {"factor": (0.5, 0.2), "recovery": (4, 2), "floor": (0.3, 0.1), "sigmas": (0.1, 0.2)},
    ),
    "auto_cooldown": Rule(
        lambda **numbers: 0.1 * controllers.auto_cooldown(**numbers),
        {
            "steps": (6, 4),
            "end": (0.1, 0.0),
            "patience": (1, 2),
            "rtol": (0.1, 0.0),
            "atol": (0.0, 0.1),
            "decay": (0.0, 0.3),
        },
    ),
    "schedule * cooldown_on": Rule(
        lambda peak, steps, end: (
            lrax.linear(peak, 0.01, 12)
            * controllers.cooldown_on("late", steps, end=end, shape="linear")
        ),
        {"peak": (0.1, 0.2), "steps": (4, 6), "end": (0.1, 0.0)},
    ),
    "a user's own": Rule(
        lambda decay: lrax.RateRule(
            init=lambda params: {"scale": 1.0},
            rate=lambda count, state, *, updates, params, **extra: (
                decay * state["scale"],
                {"scale": decay * state["scale"]},
            ),
        ),
        {"decay": (0.5, 0.9)},
        first=np.nan,
    ),
}
everywhere = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if rule.again else [])
        for name, rule in RULES.items()
    ],
)


def lane(name, which=0):
    return {number: lanes[which] for number, lanes in RULES[name].numbers.items()}


def rule_of(name):
    return RULES[name].make(**lane(name))


def rows_of(params):
    """What changes from update to update; `place` is the parameters."""
    places = jax.tree.map(lambda leaf: jnp.einsum("i,...->i...", PLACES, leaf), params)
    places = jax.tree.map(lambda rows, leaf: rows.astype(leaf.dtype), places, params)
    rows = {"value": LOSSES, "place": places, "curvature": CURVATURES, **SIGNALS}
    return jax.tree.map(jnp.asarray, rows)


@functools.cache
def host_rows():
    return jax.tree.map(np.asarray, rows_of(PARAMS))


def extra_at(step):
    return jax.tree.map(lambda row: row[step], host_rows())


def gradients(params):
    return jax.tree.map(lambda leaf: (leaf + 1).astype(leaf.dtype), params)


def update(optimizer, state, extra, params=PARAMS):
    """One update, as a run makes it: with the loss and the gradient of its batch as functions."""
    extra = dict(extra)
    place, curvature = extra.pop("place"), extra.pop("curvature")
    losses = lambda leaf: jnp.sum(leaf.astype(jnp.float32) ** 2) / 2
    functions = {
        "value_fn": lambda params: curvature * sum(map(losses, jax.tree.leaves(params))),
        "grad_fn": lambda params: jax.tree.map(
            lambda leaf: curvature.astype(leaf.dtype) * leaf, params
        ),
    }
    grad = functions["grad_fn"](place)
    return optimizer.update(gradients(params), state, place, grad=grad, **functions, **extra)


def steps_of(optimizer, params=PARAMS):
    """Rates, updates and the last state, in one scan."""

    def body(state, extra):
        updates, state = update(optimizer, state, extra, params)
        return state, (state, updates)

    state, (states, updates) = jax.lax.scan(body, optimizer.init(params), rows_of(params))
    return lrax.get_lr(states), updates, state


@functools.cache
def program(name):
    """The optimizer of the first lane, and its compiled update, which every law shares."""
    optimizer = lrax.scale_by_lr(rule_of(name))
    return optimizer, jax.jit(functools.partial(update, optimizer))


def walk(name, state, steps):
    """The rates of some updates one by one, and the state after them."""
    rates = []
    for step in steps:
        _, state = program(name)[1](state, extra_at(step))
        rates.append(float(lrax.get_lr(state)))
    return rates, state


@functools.cache
def expected(name):
    rates, _ = walk(name, program(name)[0].init(PARAMS), range(STEPS))
    return np.asarray(rates, np.float32)


def described(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)


@everywhere
def test_the_rate_multiplies_the_updates(name):
    rates, updates, _ = jax.jit(lambda: steps_of(program(name)[0]))()
    np.testing.assert_allclose(rates, expected(name), rtol=1e-6)
    for leaf, gradient in gradients(PARAMS).items():
        steps = -np.asarray(rates).reshape(-1, *[1] * gradient.ndim) * np.asarray(gradient)
        np.testing.assert_allclose(updates[leaf], steps, rtol=1e-6)
    assert np.isfinite(rates).all()
    assert name == "number" or len(set(expected(name).tolist())) > 1


@everywhere
def test_before_the_first_update(name):
    state = lrax.scale_by_lr(rule_of(name)).init(PARAMS)
    first = RULES[name].first
    # The first metric is better than none, so no rule of the table has reduced its rate by then.
    np.testing.assert_allclose(lrax.get_lr(state), expected(name)[0] if first is None else first)


@everywhere
def test_compiled_once_with_donated_state(name):
    optimizer, _ = program(name)
    traces = []

    def next_state(state, extra):
        traces.append(None)
        return update(optimizer, state, extra)[1]

    next_state = jax.jit(next_state, donate_argnums=0)
    state = optimizer.init(PARAMS)
    before = described(state)
    for step in range(STEPS):
        state = next_state(state, extra_at(step))
    np.testing.assert_allclose(lrax.get_lr(state), expected(name)[-1], rtol=1e-6)
    assert described(state) == before
    assert len(traces) == 1


@everywhere
def test_init_runs_on_shapes(name):
    optimizer = lrax.scale_by_lr(rule_of(name))
    shapes = jax.eval_shape(optimizer.init, PARAMS)
    assert described(shapes) == described(optimizer.init(PARAMS))
    floats = [leaf for leaf in jax.tree.leaves(shapes) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}


@everywhere
def test_numbers_are_swept_in_one_program(name):
    numbers = {key: jnp.asarray(lanes) for key, lanes in RULES[name].numbers.items()}
    rates_of = lambda numbers: steps_of(lrax.scale_by_lr(RULES[name].make(**numbers)))[0]
    swept = jax.jit(jax.vmap(rates_of))(numbers)
    np.testing.assert_allclose(swept[0], expected(name), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(swept[1], jax.jit(rates_of)(lane(name, 1)), rtol=1e-6, atol=1e-7)
    assert (swept[0] != swept[1]).any()


@everywhere
def test_bfloat16_parameters(name):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    optimizer = lrax.scale_by_lr(rule_of(name))
    rates, updates, state = jax.jit(lambda: steps_of(optimizer, params))()
    np.testing.assert_allclose(rates, expected(name), rtol=RULES[name].bfloat16, atol=1e-7)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
    assert described(state) == described(optimizer.init(params))
    scalars = [leaf for leaf in jax.tree.leaves(state) if not leaf.ndim]
    assert not any(leaf.dtype == jnp.bfloat16 for leaf in scalars)


@everywhere
def test_float64(name, x64):
    with x64:
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), PARAMS)
        rates, updates, _ = jax.jit(lambda: steps_of(lrax.scale_by_lr(rule_of(name)), params))()
        assert rates.dtype == jnp.float64
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float64")}
        np.testing.assert_allclose(rates, expected(name), rtol=1e-5)


@everywhere
def test_multisteps(name):
    # The rule sees every second update, and the extra arguments of that.
    rates, _ = walk(name, program(name)[0].init(PARAMS), range(1, STEPS, 2))
    optimizer = optax.MultiSteps(program(name)[0], 2)
    stepped, _, _ = jax.jit(lambda: steps_of(optimizer))()
    np.testing.assert_allclose(stepped[1::2], rates, rtol=1e-6)


@everywhere
def test_partition(name):
    labels = {"w": "body", "b": "head"}
    optimizer = optax.partition(
        {"body": lrax.scale_by_lr(rule_of(name)), "head": lrax.scale_by_lr(0.5)}, labels
    )
    if RULES[name].whole:
        with pytest.raises(TypeError, match=r"`params` must be all parameters: `.*` evaluates the"):
            optimizer.init(PARAMS)
        return
    # A rule that follows gradients sees those of its own group.
    alone = steps_of(program(name)[0], {"w": PARAMS["w"]})[0]
    rates, updates, _ = jax.jit(lambda: steps_of(optimizer))()
    np.testing.assert_allclose(rates["body"], alone, rtol=1e-6)
    np.testing.assert_array_equal(rates["head"], [0.5] * STEPS)
    np.testing.assert_allclose(updates["b"], -0.5 * np.full((STEPS, 3), 1.5))


@everywhere
def test_a_held_rule_goes_on_being_fed(name):
    _, state = walk(name, program(name)[0].init(PARAMS), range(4))
    rates, held = walk(name, lrax.set_lr(state, 0.25), range(4, 9))
    assert rates == [0.25] * 5
    updates, _ = program(name)[1](held, extra_at(9))
    np.testing.assert_allclose(updates["b"], -0.25 * np.full(3, 1.5))
    rates, _ = walk(name, lrax.set_lr(held, None), range(9, STEPS))
    np.testing.assert_allclose(rates, expected(name)[9:], rtol=1e-6)


@everywhere
def test_products_with_numbers_on_either_side(name):
    rule = rule_of(name)
    if not isinstance(rule, lrax.RateRule):
        rule = lrax.rate.rule.as_rule(rule, "learning_rate")
    for two in (
        2,
        2.0,
        np.float32(2),
        np.array(2.0),
        jnp.float32(2),
        lrax.constant(2),
        lambda _: 2,
    ):
        for scaled in (two * rule, rule * two):
            assert isinstance(scaled, lrax.RateRule)
    # The state is that of the rule alone, so that a checkpoint goes from one to the other.
    _, state = walk(name, program(name)[0].init(PARAMS), range(5))
    doubled = lrax.scale_by_lr(np.float32(2) * rule)
    _, state = update(doubled, state, extra_at(5))
    assert float(lrax.get_lr(state)) == pytest.approx(2 * float(expected(name)[5]), rel=1e-6)
    with pytest.raises(TypeError, match=r"unsupported operand|multiply"):
        rule * "fast"
    with pytest.raises(ValueError, match="must be a scalar, got one of shape"):
        np.ones(3) * rule


@dataclasses.dataclass(frozen=True)
class Own(lrax.RateRule):
    """A rule that is a dataclass of its own."""

    decay: float = 0.5


def steady(params):
    return ()


def halved(count, state, **extra):
    return 0.5, state


def twice(count):
    return 2.0


OWN = Own(steady, halved, decay=0.25)
COSINE = lrax.cosine(0.1, 100)
WRITTEN = {
    "cosine(peak=0.1, steps=100, end=0) * controllers.plateau()": COSINE * plateau(),
    "controllers.plateau(factor=0.5, metric='val_loss') * cosine(peak=0.1, steps=100, end=0)": (
        plateau(factor=0.5, metric="val_loss", patience=10) * COSINE
    ),
    "0.1 * controllers.plateau(patience=2)": 0.1 * plateau(patience=np.float32(2)),
    "controllers.plateau() * 2": plateau() * jnp.float32(2),
    "twice * RateRule(init=steady, rate=halved)": twice * lrax.RateRule(steady, halved),
    "halve() * Own(decay=0.25)": lrax.RateRule(steady, halved, name="halve()") * OWN,
    "Own(decay=0.25) * 2 * Own(decay=0.25)": OWN * 2 * OWN,
    "2 * (Own(decay=0.25) * Own(decay=0.25))": 2 * (OWN * OWN),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_product_reads_as_it_was_written(text):
    assert repr(WRITTEN[text]) == text


def test_a_product_of_traced_numbers_has_a_text():
    texts = []
    jax.make_jaxpr(lambda rate: texts.append(repr(rate * plateau(factor=rate))))(0.1)
    assert texts == ["float32[] * controllers.plateau(factor=float32[])"]


def test_a_rule_whose_state_changes_is_refused():
    def grows(count, state, **arguments):
        return 0.1, jnp.concatenate([state, state])

    optimizer = lrax.scale_by_lr(lrax.RateRule(lambda params: jnp.ones(1), grows))
    with pytest.raises(
        TypeError, match=r"keeps its structure, shapes and dtypes, got float32\[2\]"
    ):
        optimizer.update(PARAMS, optimizer.init(PARAMS))


def without_extra(count, state, *, updates, params):
    return 0.1, state


def by_keyword(*, count, state, **extra):
    return 0.1, state


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((steady, without_extra), r"`rate` .* \(count, state, \*, .*\), without `\*\*extra`"),
        ((steady, by_keyword), r"`rate` must have the signature \(count, state, \*, updates"),
        ((lambda: (), halved), r"`init` must have the signature \(params\), got \(\)"),
        ((steady, halved, lambda: 0.1), r"`first` must have the signature \(state\), got"),
    ],
)
def test_what_a_rules_functions_must_take_is_said_when_it_is_made(functions, message):
    with pytest.raises(TypeError, match=message):
        lrax.RateRule(*functions)


class Lookalike(NamedTuple):
    """Has the functions of a rule and is none."""

    init: Callable = steady
    rate: Callable | None = halved
    first: Callable | None = None


@pytest.mark.parametrize(
    ("lookalike", "message"),
    [
        (Lookalike(rate=None), r"got Lookalike\(.*which lacks `rate`: write `lrax\.RateRule\("),
        (Lookalike(init=None), "which lacks `init`"),
        (Lookalike(), r"of another type: write `lrax\.RateRule\(rule\.init, rule\.rate\)`"),
        (optax.scale(1.0), "which lacks `rate`"),
    ],
)
def test_what_a_rule_of_another_type_lacks_is_said(lookalike, message):
    with pytest.raises(TypeError, match=rf"`learning_rate` must be an `lrax.RateRule`.*{message}"):
        lrax.scale_by_lr(lookalike)


def test_a_function_of_the_count_may_have_an_init_of_its_own():
    class Decay:
        def init(self):
            return 0.1

        def __call__(self, count):
            return 0.5

    assert float(lrax.get_lr(lrax.scale_by_lr(Decay()).init(PARAMS))) == 0.5


def follows(count, state, *, loss, **extra):
    return loss, state


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lrax.RateRule(steady, lambda *_, **__: 0.1), "`learning_rate` .* returns the rate and"),
        (lrax.RateRule(steady, lambda *_, **__: ("a", ())), "`learning_rate` .* rate is a number"),
        (lrax.RateRule(steady, lambda *_, **__: (None, ())), "`learning_rate` .* is a number"),
        (lrax.RateRule(steady, lambda *_, **__: (0.1, "a")), "`learning_rate` .* of arrays, got"),
        (lrax.RateRule(lambda _: "a", halved), "`learning_rate` .* pytree of arrays, got 'a'"),
        (lrax.RateRule(steady, halved, lambda _: "a"), "`learning_rate` .* a number, got 'a'"),
        (lrax.RateRule(steady, follows), "`loss` must be given to `update`"),
    ],
)
@pytest.mark.parametrize("factor", [None, 1.0, OWN])
def test_what_a_rule_must_return_is_said_at_the_first_update(rule, message, factor):
    optimizer = lrax.scale_by_lr(rule if factor is None else factor * rule)

    def first_update():
        return optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)

    with pytest.raises(TypeError, match=message):
        first_update()
    with pytest.raises(TypeError, match=message):
        jax.jit(first_update)()


def test_a_state_of_another_rule_is_named():
    own = lrax.scale_by_lr(plateau())
    state = lrax.scale_by_lr(lrax.RateRule(lambda _: jnp.ones(2), halved)).init(PARAMS)
    message = r"`state` must come from .* controllers\.plateau\(\), whose .*, got float32\[2\]"
    with pytest.raises(TypeError, match=message):
        own.update(PARAMS, state, PARAMS, value=1.0)
    broken = lrax.scale_by_lr(lrax.RateRule(steady, lambda *_, **__: (1 / 0, ())))
    state = broken.init(PARAMS)
    with pytest.raises(ZeroDivisionError):  # an error of the rule itself stays
        broken.update(PARAMS, state)


def test_a_rule_of_several_rates_is_refused():
    several = lrax.RateRule(lambda params: (), lambda count, state, **_: (jnp.ones(2), state))
    optimizer = lrax.scale_by_lr(several)
    state = optimizer.init(PARAMS)
    with pytest.raises(
        ValueError, match=r"`learning_rate` must be a scalar, got one of shape \(2,\)"
    ):
        optimizer.update(PARAMS, state)


def test_a_rule_sees_its_own_group_alone():
    norm = lrax.RateRule(
        init=lambda params: (),
        rate=lambda count, state, *, updates, params, **extra: (optax.tree.norm(updates), state),
    )
    optimizer = optax.masked(lrax.scale_by_lr(norm), {"w": False, "b": True})
    _, state = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)
    assert float(lrax.get_lr(state)) == pytest.approx(float(jnp.linalg.norm(PARAMS["b"])))


@pytest.mark.parametrize(
    ("functions", "name"),
    [((1, len), "init"), ((len, None), "rate"), ((len, len, 0.1), "first")],
)
def test_a_rule_is_made_of_functions(functions, name):
    with pytest.raises(TypeError, match=f"`{name}` must be a function, got"):
        lrax.RateRule(*functions)
    with pytest.raises(TypeError, match="`name` must be a str, got 3"):
        lrax.RateRule(steady, halved, name=3)


def test_a_rule_in_the_place_of_a_rate_is_explained():
    with pytest.raises(ValueError, match=r"optax\.chain\(optax\.scale_by_adam\(\), lrax\.scale_by"):
        optax.adam(0.1 * lrax.controllers.plateau())
