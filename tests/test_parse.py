"""Schedules from text: what is read, and that nothing else is."""

import contextlib
import inspect
import re
import time

import chex
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import lrax
from lrax.schedules.parse import parse

CALLS = []
NAMES = {
    name: value
    for name, value in vars(lrax).items()
    if inspect.isfunction(value) and name in lrax.__all__
}
NAMES["torch.OneCycleLR"] = lambda max_lr, total_steps: lrax.one_cycle(max_lr, total_steps)
NAMES["optax.piecewise_constant_schedule"] = lrax.compat.optax.piecewise_constant_schedule


def recorded(*arguments, **keywords):
    CALLS.append((arguments, keywords))
    return lrax.constant(1.0)


NAMES["recorded"] = recorded


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        (
            "warmup_cosine(peak=3e-4, steps=10_000, warmup=500)",
            lrax.warmup_cosine(3e-4, 10_000, 500),
        ),
        ("0.5 * wsd(0.1, 100, 10, 20) + 1e-5", 0.5 * lrax.wsd(0.1, 100, 10, 20) + 1e-5),
        ("2 * 3 * cosine(1, 10)", 6 * lrax.cosine(1, 10)),
        (
            "cooldown(cosine(0.1, 1000), at=500, steps=100)",
            lrax.cooldown(lrax.cosine(0.1, 1000), at=500, steps=100),
        ),
        ("torch.OneCycleLR(max_lr=0.1, total_steps=100)", lrax.one_cycle(0.1, 100)),
        ("multistep(0.1, [30, 60], factor=.5)", lrax.multistep(0.1, [30, 60], 0.5)),
        ("wsd(0.1, 100, 10, 20, shape='1-sqrt')", lrax.wsd(0.1, 100, 10, 20, shape="1-sqrt")),
        ("\n cosine(0.1,\n   100)\n", lrax.cosine(0.1, 100)),
        ("optax.piecewise_constant_schedule(0.1, {30: 0.5})", lrax.multistep(0.1, [30], [0.5])),
        ("0.1", lrax.constant(0.1)),
    ],
)
def test_text_becomes_the_schedule(text, schedule):
    chex.assert_trees_all_equal(parse(text, NAMES), schedule)


@pytest.mark.parametrize(
    "schedule",
    [
        lrax.warmup_cosine(3e-4, 10_000, 500),
        lrax.join([lrax.linear(0.0, 1.0, 20), 1.0, lrax.rex(1.0, 0.0, 30)], [20, 40]),
        lrax.cosine_restarts(1.0, 10, mult=2, cycles=3),
        0.5 * lrax.exponential(0.1, 0.9, staircase=True) + 1e-5,
    ],
    ids=repr,
)
def test_what_a_schedule_prints_is_read_back(schedule):
    chex.assert_trees_all_equal(parse(repr(schedule), NAMES), schedule)


def test_literals():
    CALLS.clear()
    parse(
        "recorded(1, -2.5, +3, inf, -inf, True, None, 'a' 'b', [1, (2, -3)], {'k': [1]},"
        " x=2 * 3 + 1)",
        NAMES,
    )
    arguments = (1, -2.5, 3, np.inf, -np.inf, True, None, "ab", [1, (2, -3)], {"k": [1]})
    (call,) = CALLS
    assert call == (arguments, {"x": 7})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text of a schedule must not be empty"),
        ("cosin(0.1, 100)", "unknown name `cosin`; did you mean `cosine`"),
        (
            "OneCycleLR(0.1, 100)",
            "unknown name `OneCycleLR`; did you mean `torch.OneCycleLR` or `one_cycle`?",
        ),
        (
            "torch.OneCyleLR(0.1, 100)",
            "unknown name `torch.OneCyleLR`; did you mean `torch.OneCycleLR`?",
        ),
        ("zzzzzz(1)", "unknown name `zzzzzz`"),
        ("cosine(peak, 100)", "unknown name `peak`"),
        ("cosine", "`cosine` must be called, as in `cosine(...)`"),
        ("cosine(0.1, 100", "cannot read `cosine(0.1, 100`: '(' was never closed (character 7)"),
        ("cosine(0.1,\n100 200)", "(line 2, character 1)"),
        (
            "cosine(0.1)",
            "in `cosine(0.1)`: cosine() missing 1 required positional argument: 'steps'",
        ),
        (
            "1 + cosine(-1, 9)",
            "in `cosine(-1, 9)`: `peak` must be finite and non-negative, got -1.0",
        ),
        (
            "cosine('a', 9)",
            "in `cosine('a', 9)`: `peak` must be a real number or an array of them, got 'a'",
        ),
        (
            "cosine(peak=1, peak=2, steps=3)",
            "`peak` is given twice in `cosine(peak=1, peak=2, steps=3)`",
        ),
        ("-1", " must be finite and non-negative, got -1.0"),
        ("'x'", "`'x'` must be a schedule, is a str"),
        ("None", "`None` must be a schedule, is None"),
        ("cosine(1, 9) * 'x'", "`*` takes schedules and numbers, got `'x'`, a str"),
        ("-cosine(1, 9)", "a sign must stand before a number, got `-cosine(1, 9)`"),
        ("recorded({True: 2})", "the keys of a dict must be strings or numbers, got `True`"),
    ],
)
def test_errors_name_the_part(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "cosine(1, 9).replace(peak=2)",
        "cosine(1, 9).hyperparams",
        "cosine.__globals__",
        "(lambda: cosine)()",
        "[x for x in (1, 2)]",
        "recorded(*[1, 2])",
        "recorded(**{'a': 1})",
        "{**{}}",
        "f'{1}'",
        "b'x'",
        "1j",
        "...",
        "2 ** 9 ** 9",
        "[1] * 1000000000",
        "'a' * 1000000000",
        "True * 2",
        "1 - 2",
        "not 1",
        "1 < 2",
        "1 if 1 else 2",
        "x := 1",
        "x = 1",
        "1; 2",
        "await x",
        "recorded()[0]",
        "NAMES['cosine']",
        "recorded",
        "\0",
        "'\ud800",
    ],
    ids=ascii,
)
def test_nothing_else_is_allowed(text):
    with pytest.raises(
        ValueError,
        match=r"not allowed|unknown name|cannot read|takes schedules|cannot be called|must be "
        r"called|must be strings",
    ):
        parse(text, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "-" * 19_000 + "1",
        "(" * 19_000,
        "1+" * 9_000 + "1",
        "1*" * 9_000 + "1",
        "recorded(" * 60 + "1" + ")" * 60,
        "[" * 60 + "]" * 60,
        "a." * 9_000 + "b",
        "9" * 19_000,
        "1" * 1_000_000,
        "cosine" * 3_000 + "(1)",
    ],
    ids=lambda text: text[:10],
)
def test_hostile_text_is_refused_at_once(text):
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"(?s)\A.{10,400}\Z"):
        parse(text, NAMES)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    ("allowed", "refused", "message"),
    [
        ("recorded([[1]])", "recorded([[[1]]])", "nested too deeply: at most 2 lists"),
        ("recorded([recorded([[1]])])", "recorded([recorded([[[1]]])])", "at most 2 lists"),
        ("recorded(9223372036854775807)", "recorded(9223372036854775808)", "below 2**63"),
        ("2 * 4611686018427387903", "2 * 4611686018427387904", "must be below 2**63"),
        (f"recorded([{'1,' * 4000}])", f"recorded([{'1,' * 4001}])", "at most 4000 list elements"),
        (f"recorded({'recorded(),' * 199})", f"recorded({'recorded(),' * 200})", "200 calls"),
        ("recorded(" * 49 + ")" * 49, "recorded(" * 60 + ")" * 60, "at most 50 parts"),
    ],
    ids=lambda text: text[:20],
)
def test_the_size_of_a_text_is_bounded_before_anything_is_called(allowed, refused, message):
    parse(allowed, NAMES)
    CALLS.clear()
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(refused, NAMES)
    assert not CALLS


@pytest.mark.parametrize(
    "text", ["cosine(0.1\x1b[2J", "'\x07'", "recorded(x='\x9b', x=1)"], ids=ascii
)
def test_messages_can_be_printed(text):
    with pytest.raises(ValueError, match=r"\\x") as caught:
        parse(text, NAMES)
    assert str(caught.value).isprintable()


@hypothesis.given(st.text(alphabet="cosine(),.0123456789 +-*[]{}'\"=e_ \n:@#\\", max_size=40))
@hypothesis.settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_any_text_is_a_schedule_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(parse(text, NAMES), lrax.Schedule)
