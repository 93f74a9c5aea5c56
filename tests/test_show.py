"""Seeing schedules: the spans, the terminal, the notebook, the pictures and the command."""

import re
import subprocess
import sys
import time
from xml.etree import ElementTree

import jax
import numpy as np
import optax
import pytest
from cases import CASES
from jax import numpy as jnp

import lrax
from lrax.cli.gallery import gallery
from lrax.cli.main import main
from lrax.cli.names import FRAMEWORKS, ScheduleNames, _own
from lrax.display import axes, terminal
from lrax.display.svg import svg
from lrax.schedules import display
from lrax.schedules.schedule import as_schedule
from lrax.schedules.span import landmarks, span

BRAILLE = re.compile("[\u2801-\u28ff]")


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (lrax.constant(0.1), 100),
        (lrax.warmup_cosine(0.1, 10_000, 500), 11_000),
        (lrax.wsd(0.1, 100, 10, 20), 110),
        (lrax.ramp(0.0, 1.0, 10, begin=10), 22),
        (lrax.exponential(0.1, 0.5, 10, begin=20), 87),  # 20 + 10 log2(100)
        (lrax.exponential(0.1, [0.5, 0.25], 10), 67),
        (lrax.exponential(0.1, 0.5, 10, end=0.025), 22),
        (lrax.exponential(0.1, 1.0, 10), 100),
        (lrax.step_decay(0.1, 30), 90),
        (lrax.multistep(0.1, [30, 80]), 100),
        (lrax.inverse_sqrt(0.1, 100), 1100),
        (lrax.cyclic(0.0, 1.0, 10, 15), 100),
        (lrax.cosine_restarts(1.0, 10, mult=2), 70),
        (lrax.cosine_restarts(1.0, 10, cycles=2), 22),
        (lrax.cosine_restarts(1.0, 10, mult=0.5), 22),  # at 20 the last of infinitely many ends
        (lrax.cosine([0.1, 0.2], [50, 100]), 110),
        (0.5 * lrax.cosine(1.0, 50) + lrax.linear(1.0, 0.0, 100), 110),
        (lrax.join([lrax.linear(0.0, 1.0, 20), lrax.rex(1.0, 0.0, 30)], [70]), 110),
        (lrax.warmup(lrax.cosine(1.0, 80), 20), 110),
        (lrax.warmup(lrax.cosine(1.0, 100), 20, anchor="overlay"), 110),
        (lrax.cooldown(lrax.constant(1.0), 70, 30), 110),
        (lrax.delay(lrax.cosine(1.0, 60), 40, before=lrax.cosine(1.0, 10**6)), 110),
        (lrax.shift(lrax.cosine(1.0, 110), 10), 110),
        (lrax.stretch(lrax.cosine(1.0, 50), 2), 110),
        (lrax.repeat(lrax.cosine(1.0, 50), 10), 40),
        (lrax.stack([lrax.cosine(1.0, 100), 0.5]), 110),
        (lrax.with_noise(lrax.cosine(1.0, 100), 10**6), 110),
        (lrax.cosine(1.0, 0, end=0.5), 100),
        (lrax.Schedule(jnp.add, {"x": np.float32(1)}), 100),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_span(schedule, steps):
    assert schedule.span() == steps


def test_span_of_functions():
    assert 1234 <= span(as_schedule(optax.cosine_decay_schedule(1.0, 1234))) <= 1.1 * 1234 + 1
    assert span(as_schedule(lambda count: count)) == 100
    assert span(as_schedule(lambda count: 0.1)) == 100
    assert span(as_schedule(lambda count: 1 / 0)) == 100


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_builder_can_be_shown(case):
    schedule = case.build()
    assert 2 <= span(schedule) <= 2**31 - 1
    assert all(np.isfinite(count) and words for count, words in landmarks(schedule).marks)


@pytest.mark.slow
@pytest.mark.parametrize("case", {case.builder: case for case in CASES}.values(), ids=str)
def test_every_builder_has_a_picture(case):
    ElementTree.fromstring(case.build()._repr_html_().replace("<br>", "<br/>"))


def test_no_value_no_picture():
    schedule = lrax.warmup_cosine(0.1, 100, 10)
    seen = []

    def look(schedule):
        seen.append((schedule.span(), schedule._repr_html_()))
        return 0

    jax.jit(look)(schedule)
    jax.vmap(look)(jax.tree.map(lambda leaf: np.stack([leaf, leaf]), schedule))
    jax.grad(lambda schedule: look(schedule) + schedule(3))(schedule)
    jax.jit(lambda: look(lrax.cosine(0.1, jnp.ones([]))))()
    look(jax.eval_shape(lambda: schedule))
    look(jax.tree.map(lambda _: None, schedule))
    look(jax.tree.map(lambda _: object(), schedule))
    donated = jax.tree.map(jnp.asarray, schedule)
    donated.hyperparams["steps"].delete()
    look(donated)
    assert seen[:5] == [(None, None)] * 5
    assert [steps for steps, _ in seen[5:]] in ([100, None, None], [None, None, None])
    assert seen[-1] == (None, None)
    inside = []
    jax.jit(lambda: inside.append(schedule._repr_html_()))()
    assert inside == [None]  # known numbers, and yet nothing can be evaluated


def test_marks():
    assert dict(landmarks(lrax.wsd(0.1, 100, 10, 20)).marks) == {
        10: "end of warmup",
        80: "start of cooldown",
    }
    assert dict(landmarks(lrax.delay(lrax.warmup_cosine(0.1, 100, 10), 5)).marks) == {
        5: "begin",
        15: "end of warmup",
    }


def test_a_table_of_many_boundaries_stays_short():
    stairs = lrax.multistep(1.0, list(range(1, 200)), 0.99)
    assert len(display.key_rates([stairs], [["a"]], 250).splitlines()) < 15


def test_key_rates():
    schedules = [lrax.wsd(0.1, 100, 10, 20), lrax.constant(0.05)]
    assert display.key_rates(schedules, [["a"], ["b"]], 110).splitlines() == [
        "step      a     b",
        "   0      0  0.05  first",
        "   1   0.01  0.05  second",
        "  10    0.1  0.05  end of warmup of a; peak of a",
        "  80    0.1  0.05  start of cooldown of a",
        "  99  0.005  0.05  last of a",
        " 100      0  0.05  end of a",
        " 200      0  0.05  beyond of a",
    ]
    peak = lrax.warmup(lrax.cosine(0.1, 10**7), 12_345)
    table = display.key_rates([peak], [["a"]], 10**7).splitlines()
    assert next(line for line in table if "peak" in line).split()[0] == "12345"


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 1),
        (0, 3e-4),
        (0, 7.3),
        (0.85, 0.95),
        (0.1, 0.1),
        (0, 0),
        (1e-30, 2e-30),
        (5e5, 6e9),
        (-2, -1),
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_axes_hold_their_values(low, high, log):
    axis = axes.rates_axis(np.array([low, high, np.nan]), 5, log=log)
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 12
    assert list(axis.ticks) == sorted(axis.ticks)
    assert len(set(axis.labels)) == len(axis.labels)
    assert [float(label) for label in axis.labels] == pytest.approx(axis.ticks, rel=1e-4)
    if not log:
        assert axis.low <= low <= high <= axis.high
        assert low > 0 or axis.low <= 0
    places = axis.place(np.array([low, high]))
    assert not log or high <= 0 or np.all((places >= 0) & (places <= 1))


@pytest.mark.parametrize("high", [1, 3, 10, 99, 110, 11_000, 1_234_567, 2**31 - 1])
def test_ticks_of_counts_are_whole(high):
    axis = axes.counts_axis(0, high, 6)
    assert 1 <= len(axis.ticks) <= 8
    assert all(tick.is_integer() and tick <= high for tick in axis.ticks)
    assert len(set(axis.labels)) == len(axis.labels)


def test_numbers_are_short():
    numbers = {
        0.0: "0",
        3e-4: "3e-4",
        0.001: "0.001",
        0.25: "0.25",
        1.0: "1",
        1e5: "1e5",
        2.5e-10: "2.5e-10",
        -0.5: "-0.5",
    }
    assert {value: axes.number(value) for value in numbers} == numbers
    assert axes.counts_text((0, 5000, 10_000)) == ("0", "5k", "10k")
    assert axes.counts_text((0, 500, 1000)) == ("0", "500", "1000")


def chart(*schedules, steps=110, **options):
    counts = display.sampled(steps)
    curves = [curve for schedule in schedules for curve in display.rates(schedule, counts)]
    return terminal.chart(counts, curves, [repr(schedule) for schedule in schedules], **options)


@pytest.mark.parametrize("width", [20, 47, 80, 200])
@pytest.mark.parametrize("height", [4, 16])
def test_charts_keep_to_the_width(width, height):
    schedules = lrax.warmup_cosine(0.1, 100, 10), lrax.wsd(0.1, 100, 10, 20), lrax.constant(0.03)
    for options in ({}, {"log": True}, {"ascii": True}):
        lines = chart(*schedules, width=width, height=height, **options).splitlines()
        assert max(map(len, lines)) <= width
    assert chart(*schedules, ascii=True).isascii()


def test_a_chart_shows_the_curve():
    lines = chart(lrax.linear(1.0, 0.0, 100), steps=100, width=40, height=8).splitlines()
    assert lines[0].startswith(" 1┤⠙")
    assert lines[7].startswith(" 0┤")
    assert lines[-1] == "  ⠒⠒ linear(init=1, end=0, steps=100)"
    columns = [BRAILLE.search(line).start() for line in lines[:8]]
    assert columns == sorted(columns)
    flat = chart(lrax.constant(0.1), height=5).splitlines()
    assert len(BRAILLE.findall(flat[0])) > 60
    assert not any(map(BRAILLE.search, flat[1:5]))


def test_several_curves_are_told_apart():
    schedules = lrax.cosine(0.1, 100), lrax.linear(0.1, 0.0, 100)
    plain = chart(*schedules)
    assert "\x1b" not in plain
    body, legend = plain.splitlines()[:16], plain.splitlines()[-2:]
    assert all(sum(letter in line for line in body) >= 3 for letter in "ab")
    assert [line.split()[0] for line in legend] == ["a", "b"]
    colored = chart(*schedules, color=True)
    stripped = re.sub("\x1b\\[[0-9;]*m", "", colored)
    assert "\x1b" not in stripped
    assert len(set(re.findall("\x1b\\[38;5;([0-9]+)m", colored))) == 2
    assert max(map(len, stripped.splitlines())) <= 80


def test_charts_of_what_is_not_finite():
    counts = np.arange(4)
    for curve in ([np.nan] * 4, [np.inf, 1, np.nan, 0], [0, 0, 0, 0]):
        for log in (False, True):
            assert terminal.chart(counts, [np.array(curve)], ["x"], log=log)
            ElementTree.fromstring(svg(counts, [np.array(curve)], ["x"], log=log))


def test_svg_is_well_formed_and_small():
    counts = display.sampled(11_000)
    curves = [
        display.rates(lrax.warmup_cosine(3e-4, 10_000, 500), counts)[0],
        np.full(len(counts), 1e-4),
    ]
    text = svg(counts, curves, ["a < b & 'c'\x07", "second"])
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    words = [node.text for node in root.iter(f"{space}text")]
    assert {"step", "learning rate", "0", "1e-4", "3e-4", "10k", "a < b & 'c'", "second"} <= set(
        words
    )
    titles = [node.text for node in root.iter(f"{space}title")]
    assert any(re.fullmatch(r"step \d+: \S+, 1e-4", title) for title in titles)
    assert len(text) < 40_000
    assert not re.search("script|href|url|import|<style", text)
    assert "currentColor" in text  # light on dark pages, dark on light ones
    assert len(svg(counts, [curves[1]], ["flat"])) < 10_000  # two points make a straight line


def test_many_lanes_in_a_notebook():
    picture = lrax.cosine(lrax.log_grid(1e-4, 1e-1, 40), 100)._repr_html_()
    assert "and 28 more" in picture
    assert lrax.cosine(0.1, 100)._repr_html_().count("&lt;") == 0


def test_pictures():
    stacked = lrax.stack([lrax.cosine(0.1, 100), lrax.linear(0.1, 0.0, 50)])
    figure = lrax.display.schedules(
        [lrax.constant(0.05), stacked, optax.cosine_decay_schedule(0.1, 80)]
    )
    (ax,) = figure.axes
    lines = ax.get_lines()
    assert len(lines) == 4
    assert lines[1].get_color() == lines[2].get_color() != lines[0].get_color()
    np.testing.assert_allclose(
        lines[2].get_ydata(), lrax.linear(0.1, 0.0, 50).values(111), atol=1e-7
    )
    np.testing.assert_array_equal(lines[0].get_xdata(), np.arange(111))
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[0] == "constant(value=0.05)"
    assert texts[1].endswith("(2 lanes)")
    assert texts[2] == "cosine_decay_schedule"

    again = lrax.display.schedules(lrax.cosine(0.1, 10), 20, labels=["mine"], ax=ax, log=True)
    assert again is figure
    assert ax.get_yscale() == "log"
    assert ax.get_legend().get_texts()[-1].get_text() == "mine"
    with pytest.raises(ValueError, match="`labels` must be one for each of 1 schedules, got 2"):
        lrax.display.schedules([lrax.cosine(0.1, 10)], labels=["a", "b"])
    with pytest.raises(ValueError, match="`schedules` must be at least one schedule"):
        lrax.display.schedules([])
    with pytest.raises(TypeError, match=r"`schedules\[0\]` must be a Schedule or a function"):
        lrax.display.schedules([0.1])
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        lrax.display.schedules([lrax.cosine(0.1, 10)], 0)


@pytest.mark.slow  # a process of its own; the next test runs in this one
def test_the_command(tmp_path):
    texts = [
        "warmup_cosine(peak=3e-4, steps=10000, warmup=500)",
        "0.5 * cosine(3e-4, 10_000) + 1e-5",
    ]
    command = [sys.executable, "-m", "lrax", "show", *texts, "--out", "a.png", "--width", "70"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines[:17])) <= 70
    assert lines[0].startswith(" 3e-4┤")
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == ["step", "a", "b"]
    peak = next(line for line in table if "end of warmup of a; peak of a" in line)
    assert peak.split()[:2] == ["500", "3e-4"]
    assert [line.split()[0] for line in table[1:7]] == ["0", "1", "500", "9999", "10000", "20000"]
    assert lines[-1] == "picture: a.png"
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_in_this_process(capsys):
    assert main(["show", "exponential([0.1, 0.2], 0.9)", "--steps", "30", "--log"]) == 0
    out = capsys.readouterr().out
    assert "lane 1 of exponential" in out
    assert re.search(r"^ +30 .* last shown$", out, re.MULTILINE)
    assert main(["show", *["constant(0.1)"] * 9]) == 0
    assert "step " not in capsys.readouterr().out  # too many columns for a table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin(0.1, 100)", "lrax: unknown name `cosin`; did you mean `cosine`"),
        (
            "cosine(0.1)",
            "lrax: in `cosine(0.1)`: cosine() missing 1 required positional argument: 'steps'",
        ),
        (
            "cosine(0.1, -1)",
            "lrax: in `cosine(0.1, -1)`: `steps` must be finite and non-negative, got -1.0",
        ),
        ("cosine(0.1", "lrax: cannot read `cosine(0.1`: '(' was never closed"),
        ("cosine([1, 2], [1, 2, 3])", "lrax: cannot evaluate `cosine([1, 2], [1, 2, 3])`: "),
        ("sweep()", "lrax: unknown name `sweep`"),
    ],
)
def test_bad_text_is_one_line(capsys, text, message):
    assert main(["show", text]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "torch.OneCycleLR(max_lr=0.1, total_steps=100)",
        "compat.torch.OneCycleLR(max_lr=0.1, total_steps=100)",  # as it prints itself
        "lrax.cosine(0.1, 100)",  # as code has it
        "optax.piecewise_constant_schedule(0.1, {30: 0.5, 60: 0.1})",
        "deepspeed.WarmupDecayLR(total_num_steps=100, warmup_max_lr=0.1, warmup_num_steps=10)",
        "multiply(0.5, keras.CosineDecay(0.1, 100))",
    ],
)
def test_what_code_and_prints_say_is_shown(capsys, text):
    assert main(["show", text, "--width", "60"]) == 0
    printed = " ".join(
        re.split(r"\n +", re.search(r"  ⠒⠒ (.*?)\n\n", capsys.readouterr().out, re.DOTALL)[1])
    )
    assert main(["show", printed, "--width", "60"]) == 0  # and what that prints is read back


def test_the_names_are_all_that_is_public_and_nothing_else():
    trainers = {"deepspeed", "megatron", "nemo", "maxtext", "big_vision", "t5x"}
    trainers |= {"levanter", "composer"}
    assert set(FRAMEWORKS) == trainers | {"torch", "transformers", "timm", "keras", "optax"}
    public = {
        f"{family}.{name}" for family in FRAMEWORKS for name in getattr(lrax.compat, family).__all__
    }
    names = ScheduleNames()
    assert {name for name in names if "." in name} == public
    own = {case.builder for case in CASES} | {"stack"}
    assert {name for name in names if "." not in name} == own
    for name in names:
        assert names[name] is names[f"lrax.{name}"]
        assert ("compat." + name in names) == ("." in name)
    for wrong in ("sweep", "compat.cosine", "torch", "lrax", "torch.chained", "os.system", ""):
        assert wrong not in names


@pytest.mark.slow
def test_a_framework_is_loaded_only_for_its_names(tmp_path):
    code = """
import sys
from lrax.cli.main import main
main(["show", "cosine(0.1, 100)"])
main(["show", "timm.TanhLRScheduler(0.1, 100)"])
print(*(name for name in sys.modules if name.startswith("lrax.compat.")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[2] for name in done.stdout.splitlines()[-1].split()}
    assert loaded & set(FRAMEWORKS) == {"timm"}


ESCAPE = "\x1b]0;title\x07"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 49 + "]" * 49,
        f"cosine({'[' * 40}1{']' * 40}, 100)",
        "cosine([[[1]]], 100)",
        f"cosine({'(' * 45}1{')' * 45}, 'a')",
        "cosine(0.1, 100)" + ESCAPE,
        f"cosine(0.1, '{ESCAPE}')",
        f"wsd(0.1, 100, 10, 10, shape='{ESCAPE}')",
        f"'{ESCAPE}'",
        "\u202ecosine(0.1, 100",
        f"cosine([{'[1],' * 1500}], [{'1,' * 1500}])",
        f"cosine([{'1,' * 65}], 100)",
        "cosine([], 100)",
        "constant([[]])",
        "+".join(["cosine(0.1, 100)"] * 201),
        "cosine(0.1, " + "9" * 400 + ")",
        "9223372036854775807 * 9223372036854775807 * cosine(0.1, 100)",
        f"from_values([{'1,' * 4001}])",
        "levanter.lr_scheduler(100, cycles=2147483647)",
        "torch.ChainedScheduler(0.1, [torch.StepLR(0.1, 100000000), torch.StepLR(0.1, 3)])",
        f"torch.SequentialLR(0.1, [{'torch.SWALR(0.1, 0.01, 10000000),' * 9}], [1,2,3,4,5,6,7,8])",
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_hostile_text_is_refused_in_a_line_or_shown(capsys, text):
    """No traceback, no control character, no long wait; the bounds of builders are theirs."""
    begin = time.process_time()
    status = main(["show", text])
    captured = capsys.readouterr()
    assert time.process_time() - begin < 20
    assert (captured.out + captured.err).replace("\n", "").isprintable()
    assert (status, captured.err.count("\n")) in ((2, 1), (0, 0))


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["show", "--help"])
    out = capsys.readouterr().out
    for word in ("examples:", "warmup_cosine", "--log", "--names"):
        assert word in out
    assert main(["show", "--names"]) == 0
    assert {"cosine_restarts", "torch.OneCycleLR"} < set(capsys.readouterr().out.split())
    assert main(["show"]) == 2
    assert "at least one schedule" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["show", "constant(1)", "--steps", "0"])
    assert "argument --steps: must be at least 1, got 0" in capsys.readouterr().err


def test_the_gallery_has_every_builder_with_its_formula_and_use():
    entries = gallery()
    assert {entry.name for entry in entries} == set(_own())
    for entry in entries:
        rates = entry.schedule.values(np.arange(entry.steps))
        assert np.all(np.isfinite(rates))
        if entry.name != "constant":  # an example that shows nothing is none
            assert np.ptp(rates) > 0.05 * np.max(rates)
        assert entry.line.endswith(".")
        assert entry.formula or entry.name == "one_cycle"  # whose formula is in its sentences
        assert entry.use.startswith("Use ")


@pytest.mark.slow  # the picture takes many seconds to draw
def test_the_gallery_is_printed_and_drawn(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "gallery.png"
    assert main(["show", "--all", "--width", "60", "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "wsd: Warmup, stable, decay" in out
    assert r"\eta(t) = \text{value}" in out
    assert picture.stat().st_size > 10_000
    assert main(["show", "--all", "constant(1)"]) == 2
    assert "give no SCHEDULE" in capsys.readouterr().err
