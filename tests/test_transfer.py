"""`transfer`: each table against its source, and laws over all of them."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from lrax import scaling
from lrax.scaling.published import ALL, POWERS, PUBLISHED
from lrax.scaling.setting import AXES

SMALL = scaling.Setting(width=256, depth=4, batch=64, tokens=2.5e9)
LARGE = scaling.Setting(width=1024, depth=12, batch=256, tokens=3e10)
WIDTH, DEPTH, BATCH, TOKENS = 4, 3, 4, 12  # the ratios
GIVEN = {"lr": 3e-4, "weight_decay": 0.1, "eps": 1e-8, "b1": 0.9, "b2": 0.99, "warmup": 1000}
PAIRS = [(rules, optimizer) for rules, source in PUBLISHED.items() for optimizer in source.rows]
every_pair = pytest.mark.parametrize(("rules", "optimizer"), PAIRS, ids="-".join)


def moved(rules, optimizer="adamw", *, from_=SMALL, to=LARGE, **given):
    return scaling.transfer(given or GIVEN, from_=from_, to=to, optimizer=optimizer, rules=rules)


def close(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


def factors(result, name):
    """The factors of the kinds, without those of 1."""
    kinds = result.multipliers.get(name, {})
    return {kind: factor for kind, factor in kinds.items() if factor != 1}


def test_completed_is_the_table_of_its_paper():
    # Table 1 with alpha = 1; m_N, m_L, m_B and m_D are the ratios.
    m_n, m_l, m_b, m_d = WIDTH, DEPTH, BATCH, TOKENS
    result = moved("completed")
    close(
        result.hyperparams,
        {
            "lr": 3e-4 * np.sqrt(m_b / m_d),
            "weight_decay": 0.1 * np.sqrt(m_b / m_d),
            "eps": 1e-8 * np.sqrt(m_d / m_b),
            "b1": 1 - m_b / m_d * (1 - 0.9),
            "b2": 1 - m_b / m_d * (1 - 0.99),
            "warmup": 1000 * m_d / m_b,
        },
    )
    close(factors(result, "lr"), {"hidden": 1 / m_n, "output": 1 / m_n})
    close(factors(result, "weight_decay"), {"hidden": m_n, "output": m_n})
    block = 1 / m_n / m_l
    eps = {"hidden": block, "vector": block, "qk_norm": 1 / m_l, "input": 1 / m_n}
    close(factors(result, "eps"), eps)
    close(factors(result, "init"), {"hidden": m_n**-0.5, "output": 1 / m_n})
    close(factors(result, "residual"), {"hidden": 1 / m_l})
    # The decay of AdamW reaches back over the same part of the run.
    rate = result.hyperparams["lr"] * result.hyperparams["weight_decay"]
    assert rate * m_d / m_b == pytest.approx(3e-4 * 0.1, rel=1e-12)


def test_completed_adamh_is_the_code_of_marin():
    # lr and adam_lr of `CompletedAdamHHeuristic`, from its reference point.
    batch, tokens = 256, 3e10
    result = moved("completed_adamh", "adam", lr=6.56e-4, eps=1.85e-8, b1=0.9, b2=0.9999)
    ratio = (batch * 2.5e9) / (64 * tokens)
    close(
        result.hyperparams,
        {
            "lr": 6.56e-4 * np.sqrt(ratio),
            "eps": 1.85e-8 * np.sqrt(1 / ratio),
            "b1": 0.9,
            "b2": 0.9999 ** (batch / 64),
        },
    )
    matrices = 0.0063 * np.sqrt(batch / 64) * (2.5e9 / tokens) ** 0.3
    alone = moved("completed_adamh", "adam", lr=0.0063)
    rate = alone.hyperparams["lr"] * alone.multipliers["lr"]["hidden"]
    assert rate == pytest.approx(matrices, rel=1e-12)


def test_hyperp_is_the_code_of_archscale():
    result = moved("hyperp", "muon", lr=6e-4, momentum=0.95, weight_decay=0.0)
    rate = 6e-4 * np.sqrt(BATCH) * np.sqrt(1 / DEPTH) * TOKENS ** (-0.32)
    close(result.hyperparams, {"lr": rate, "momentum": 0.95, "weight_decay": 0.0})
    close(factors(result, "residual"), {"hidden": DEPTH**-0.5})
    assert factors(result, "lr") == {}


def test_sdew_is_the_code_of_archscale():
    result = moved("sdew", lr=6e-4, eps=1e-8, b1=0.9, b2=0.95, weight_decay=0.1)
    root = np.sqrt(BATCH)
    expected = {"lr": 6e-4, "eps": 1e-8 / root, "b1": 0.9, "b2": 1 - 0.05 * root}
    close(result.hyperparams, {**expected, "weight_decay": 0.1 * root})


def test_power_lines_keep_the_law_of_the_timescale():
    # tau = batch / (lr * decay * tokens) = c * (tokens / size)^-0.52
    size = 1e9
    tau = lambda batch, decay, tokens: batch / (3e-4 * decay * tokens)
    found = moved("power_lines").hyperparams["weight_decay"]
    c = tau(64, 0.1, 2.5e9) / (2.5e9 / size) ** -0.52
    expected = c * (3e10 / size) ** -0.52
    assert tau(256, found, 3e10) == pytest.approx(expected, rel=1e-12)


def test_rules_of_the_batch_are_those_of_one_thing():
    batch = {"batch": 256, "base_batch": 64}
    found = moved("sde", "adam", lr=3e-4, b1=0.9, b2=0.99, eps=1e-8).hyperparams
    assert tuple(found.values()) == scaling.adam_sde(3e-4, 0.9, 0.99, 1e-8, **batch)
    assert moved("half_life").hyperparams["b2"] == scaling.ema(0.99, **batch)
    found = moved("linear", "sgd", lr=0.1, momentum=0.9, warmup=1000).hyperparams
    assert found == {"lr": scaling.linear(0.1, **batch), "momentum": 0.9, "warmup": 250}


def test_completep_is_complete_p():
    result = moved("completep")
    rule = scaling.complete_p(WIDTH, DEPTH)
    close(factors(result, "lr"), {"hidden": rule.hidden_lr})
    close(factors(result, "weight_decay"), {"hidden": rule.hidden_wd})
    outside = dict.fromkeys(("input", "output", "final"), 1 / WIDTH)
    close(factors(result, "eps"), {"hidden": rule.eps, "vector": rule.eps, **outside})
    close(factors(result, "residual"), {"hidden": rule.residual})
    assert result.hyperparams == GIVEN


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_mup_is_mup_multipliers(optimizer):
    def shapes(width):
        array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
        return {
            "hidden": array(width, width),
            "input": array(100, width),
            "output": array(width, 10),
            "vector": array(width),
        }

    trees = scaling.mup_multipliers(shapes(256), shapes(1024), optimizer=optimizer)
    result = moved("mup", optimizer, lr=0.1, weight_decay=0.1)
    assert result.hyperparams == {"lr": 0.1, "weight_decay": 0.1}
    for name in ("lr", "weight_decay", "init", "forward"):
        kinds = result.multipliers.get(name, {})
        tree = getattr(trees, name)
        close({kind: kinds.get(kind, 1.0) for kind in tree}, tree)


@every_pair
def test_the_same_setting_gives_the_same_numbers(rules, optimizer):
    result = moved(rules, optimizer, from_=LARGE, momentum=0.9, **GIVEN)
    assert result.hyperparams == {"momentum": 0.9, **GIVEN}
    assert all(factor == 1 for kinds in result.multipliers.values() for factor in kinds.values())
    assert result.warnings == []
    nothing = scaling.Setting()
    assert moved(rules, optimizer, from_=nothing, to=nothing).hyperparams == GIVEN


@every_pair
def test_two_transfers_are_one_over_both(rules, optimizer):
    between = scaling.Setting(width=384, depth=6, batch=96, tokens=7e9)
    first = moved(rules, optimizer, to=between)
    second = moved(rules, optimizer, from_=between, **first.hyperparams)
    whole = moved(rules, optimizer)
    close(second.hyperparams, whole.hyperparams)
    for name, kinds in whole.multipliers.items():
        twice = {kind: first.multipliers[name][kind] * factor for kind, factor in kinds.items()}
        for kind, factor in second.multipliers[name].items():
            one = first.multipliers[name][kind] * factor
            assert one == pytest.approx(kinds[kind], rel=1e-12)
        assert set(twice) == set(second.multipliers[name])
    back = moved(rules, optimizer, from_=LARGE, to=SMALL, **whole.hyperparams)
    close(back.hyperparams, GIVEN)


@every_pair
def test_axes_are_those_of_the_rows(rules, optimizer):
    source = PUBLISHED[rules]
    used = {axis for row in source.rows[optimizer] for axis in AXES if getattr(row, axis)}
    assert used <= set(source.axes)
    assert set(source.tested) <= set(source.axes)
    assert all(row.form == "times" for row in source.rows[optimizer] if row.kind != ALL)


@every_pair
def test_the_explanation_names_the_source_and_each_factor(rules, optimizer):
    result = moved(rules, optimizer)
    text = result.explain()
    assert str(result) == text
    assert PUBLISHED[rules].source in text
    assert PUBLISHED[rules].valid in text
    lines = text.splitlines()
    for row in PUBLISHED[rules].rows[optimizer]:
        assert any(line.split()[:2] == [row.name, row.kind or "all"] for line in lines)
    assert all(f"warning: {warning}" in lines for warning in result.warnings)
    # A range that nobody told is said to be unknown.
    (tested,) = (line for line in lines if line.startswith("tested range: "))
    assert len(tested.split(",")) == len(PUBLISHED[rules].axes)
    for axis in PUBLISHED[rules].axes:
        largest = PUBLISHED[rules].tested.get(axis)
        assert (f"{axis} up to x {largest}" if largest else f"{axis} not known") in tested


def test_the_table_of_horizons_has_the_exponents_of_the_rules():
    table = scaling.horizon.__doc__
    for name, power in POWERS.items():
        line = next(line for line in table.splitlines() if f"| {name} |" in line)
        _, _, exponent, *words, _ = [cell.strip() for cell in line.split("|")]
        assert float(exponent) == power.exponent
        assert words == [power.optimizer, power.condition, power.source]
    assert table.count("\n    | ") == 1 + len(POWERS)
    for rules, exponent, paper in (("completed", -0.5, "2512.22382"), ("hyperp", -0.32, "2603.2")):
        *_, rows = PUBLISHED[rules].rows.values()
        assert next(row.tokens for row in rows if row.name == "lr") == exponent
        assert any(f"{exponent} |" in line and paper in line for line in table.splitlines())


def test_numbers_may_be_traced_and_have_lanes():
    whole = moved("completed").hyperparams
    traced = jax.jit(lambda given: moved("completed", **given).hyperparams)(GIVEN)
    lanes = {name: np.array([value, value]) for name, value in GIVEN.items()}
    wide = moved("completed", **lanes).hyperparams
    for name, value in whole.items():
        np.testing.assert_allclose(traced[name], value, rtol=1e-6)
        np.testing.assert_allclose(wide[name], [value, value], rtol=1e-12)
        assert isinstance(value, float)


def test_names_come_back_as_they_came():
    result = moved("completed", learning_rate=3e-4)
    assert list(result.hyperparams) == ["learning_rate"]
    assert factors(result, "learning_rate") == factors(moved("completed", lr=1.0), "lr")


def warned(pattern, *args, **kwargs):
    found = moved(*args, **kwargs).warnings
    assert any(pattern in warning for warning in found), found


def test_warnings_say_what_the_rules_do_not():
    wider = dataclasses.replace(SMALL, width=256 * 128)
    warned("the source tested at most 64", "mup", to=wider)
    warned("`tokens` is missing in `to`", "completed", to=dataclasses.replace(SMALL, tokens=None))
    warned("`batch` changes by a factor of 4, and the rules 'mup' say nothing about it", "mup")
    warned("`eps` was not given", "completed", lr=0.1)
    warned("`lr` is unchanged, because the rules 'half_life'", "half_life")
    warned("and not for plain Muon", "hyperp", "muon")
    warned("Use `multipliers` too, for kinds of parameters: `lr`", "mup", lr=0.1)


@pytest.mark.parametrize("times", [10, 16])
def test_a_moving_average_that_is_lost_is_told(times):
    larger = scaling.Setting(batch=64 * times)
    result = moved("sde", from_=scaling.Setting(batch=64), to=larger)
    assert result.hyperparams["b1"] == 0
    assert result.hyperparams["b2"] == pytest.approx(1 - 0.01 * times, rel=1e-12)
    lost = [warning for warning in result.warnings if "no average is left" in warning]
    assert [warning.split()[0] for warning in lost] == ["`b1`"]


def test_what_no_source_covers_is_refused():
    with pytest.raises(ValueError, match="`optimizer` must be one of 'adam', 'adamw' for"):
        moved("completed", "sgd")
    with pytest.raises(ValueError, match="`rules` must be one of 'mup', 'completep'"):
        moved("magic")
    with pytest.raises(ValueError, match="`hyperparams` must have names among 'lr'"):
        moved("mup", rate=0.1)
    with pytest.raises(ValueError, match="`hyperparams` must have one of 'lr' and"):
        moved("mup", lr=0.1, learning_rate=0.1)
    with pytest.raises(TypeError, match=r"`from_` must be an `lrax\.scaling\.Setting`"):
        moved("mup", from_={"width": 1})
    with pytest.raises(ValueError, match="`width` must be finite and positive, got 0"):
        scaling.Setting(width=0)
