"""Pictures of sweeps: what they mark, what they must not cut off, how a notebook shows them."""

import base64
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image, pyplot
from test_result import SHAPES, function_result, made, with_choices

import lrax
from lrax.display.swept import BEST

STEPS = np.arange(40)


def texts(figure):
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [text.get_text() for text in found if text.get_text()]


def bold(axes):
    """The one bold curve of a panel."""
    (line,) = [line for line in axes.lines if line.get_linewidth() == 2.2]
    assert line.get_color() == BEST
    return line


def star(axes):
    (line,) = [line for line in axes.lines if line.get_marker() == "*"]
    return float(line.get_xdata()[0]), float(line.get_ydata()[0])


@pytest.mark.parametrize(
    "final",
    [
        [[1.0, 1.2], [0.1, 0.3], [np.nan, 0.5], [np.nan, np.nan]],
        [[1.0]],
        [[-1.0, -2.0], [-5.0, -4.0]],
    ],
    ids=["diverged", "single", "negative"],
)
def test_plot(final):
    figure = made(final).plot()
    left, right = figure.axes[:2]
    assert left.get_xscale() == "log"
    marked = [line for line in left.lines if line.get_label() == "diverged"]
    assert [len(line.get_xdata()) for line in marked] == ([2] if np.isnan(final).any() else [])
    assert len([line for line in right.lines if len(line.get_xdata()) == 40]) == len(final)
    assert len(figure._repr_png_()) > 5000


def test_table_star_bold_curve_and_repr_are_one_point():
    # The interpolated optimum is nearer to the third point; the second one is the best.
    final = np.array([[1.0], [0.300], [0.301], [0.5], [2.0]])
    result = made(final)
    best = result.best.hyperparams["lr"]
    assert best == pytest.approx(10**-2.5)
    assert abs(np.log(result.optimum().value / best)) > 0.3
    rows = result.table().splitlines()[1:]
    assert [row.startswith("*") for row in rows] == [False, True, False, False, False]
    assert f"best lr={best:.3g}" in repr(result)
    left, right = result.plot().axes[:2]
    assert star(left) == (pytest.approx(best), pytest.approx(0.3))
    assert bold(right).get_label() == f"best: lr {best:.3g}"
    assert any("interpolated" in text for text in texts(left.figure))
    (curve,) = result.plot_curves().axes[:1]
    np.testing.assert_allclose(bold(curve).get_ydata(), bold(right).get_ydata())
    parallel = result.plot_parallel().axes[0]
    (line,) = [line for line in parallel.lines if line.get_linewidth() == 2.6]
    assert line.get_ydata()[0] == pytest.approx(0.25)  # the second of five values by ratio


def test_the_best_run_is_not_cut_off():
    result = function_result()
    left, right = result.plot().axes[:2]
    low, high = right.get_ylim()
    best = result.curves["return"][1]
    assert low < best.min()
    assert high > best.max()
    assert right.get_yscale() == left.get_yscale() == "linear"
    assert right.get_ylabel() == "return"
    # A loss whose best run is at first above its start, as after a warmup that is too hot.
    losses = np.ones((2, 1, 40))
    losses[0, 0] = np.where(STEPS < 10, 2.0 + 3 * (STEPS > 2), 0.1)
    losses[0, 0, 0] = losses[1, 0, 0] = 2.0
    right = made([[0.1], [1.0]], losses=losses).plot().axes[1]
    assert right.get_ylim()[1] > 5.0
    assert right.get_yscale() == "log"


def test_an_accuracy_is_never_on_a_logarithmic_axis():
    accuracy = np.array([[0.001, 0.002], [0.1, 0.1], [0.9, 0.8], [0.5, 0.6]])
    result = made(
        np.ones((4, 2)),
        metrics={"accuracy": accuracy},
        objective="accuracy",
        mode="max",
        evaluations={"accuracy": np.stack([accuracy / 100, accuracy], axis=-1)},
        evaluated_at=np.array([20, 40]),
        hyperparams={"lr": np.array([1e-3, 1e-3, 1e-2, 1e-2]), "wd": np.tile([0.0, 0.1], 2)},
    )
    assert result.plot().axes[0].get_yscale() == "linear"
    assert result.plot_curves("accuracy").axes[0].get_yscale() == "linear"
    bar = result.plot_heatmap().axes[1]
    assert bar.get_yscale() == "linear"
    loss = made(np.ones((4, 2)), metrics={"error": accuracy}, objective="error", mode="min")
    assert loss.plot().axes[0].get_yscale() == "log"


@pytest.mark.parametrize(
    ("name", "values", "scale"),
    [
        ("val_loss", [1.0, 3.0], "log"),  # as the training loss has, whatever the range
        ("val_loss", [0.0, 3.0], "linear"),
        ("val_accuracy", [0.01, 0.9], "linear"),
        ("grad_norm", [1.0, 3.0], "linear"),
        ("grad_norm", [0.01, 3.0], "log"),
        ("momentum", [0.0, 3.0], "linear"),
    ],
)
@pytest.mark.parametrize("objective", ["train_loss", "return"])
def test_the_axis_of_a_curve_that_is_not_the_objective(name, values, scale, objective):
    curve = np.tile(values, (2, 1, 1))
    monitors = {name: curve, "return": curve}
    fields = dict(metrics={"return": [[1.0], [2.0]]}, monitors=monitors, record_every=20)
    mode = "min" if objective == "train_loss" else "max"
    result = made([[1.0], [0.1]], objective=objective, mode=mode, **fields)
    assert result.plot_curves(name).axes[0].get_yscale() == scale


def test_the_curve_of_the_objective_is_drawn_where_it_was_evaluated_on_the_way():
    """As after a stop rule, whose looks do not include the end of the run."""
    final, nan = np.array([[0.5], [0.3], [0.9]]), np.nan
    fields = dict(metrics={"error": final}, objective="error", stopped_at=np.array([40, 40, 20]))
    looks = np.array([[[0.8, 0.6]], [[0.7, 0.4]], [[1.0, 0.9]]])
    on_the_way = dict(evaluations={"error": looks}, evaluated_at=np.array([10, 20]))
    result = made([[0.2], [0.4], [1.0]], **fields, **on_the_way)
    for axes in (result.plot().axes[1], result.plot_curves().axes[0]):
        assert axes.get_ylabel() == "error"
        assert bold(axes).get_xdata().tolist() == [10, 20, 40]
        np.testing.assert_allclose(bold(axes).get_ydata(), [0.7, 0.4, 0.3], rtol=1e-6)
        (pruned,) = [line for line in axes.lines if line.get_ydata()[0] == 1.0]
        np.testing.assert_allclose(pruned.get_ydata(), [1.0, 0.9, nan], rtol=1e-6)
    assert result.series().name == "error"
    # Evaluated at the end alone, the objective has no curve.
    for axes in (made(final, **fields).plot().axes[1], result.rank_by("train_loss").plot().axes[1]):
        assert axes.get_ylabel() == "training loss"


def test_plot_over_a_rate_that_may_be_zero():
    figure = made([[1.0], [0.5]], hyperparams={"decay": np.array([0.0, 0.1])}).plot()
    assert figure.axes[0].get_xscale() == "linear"


def test_choices_have_places_and_labels():
    result = with_choices()
    assert result.plot().axes[0].get_xlabel() == "embedding"
    left, right = result.plot("schedule").axes[:2]
    assert [label.get_text() for label in left.get_xticklabels()] == ["cosine", "wsd", "constant"]
    assert star(left) == (1.0, pytest.approx(0.205))
    assert bold(right).get_label() == "best: schedule wsd"
    assert not any("optimum" in text for text in texts(left.figure))
    legend = [text.get_text() for text in right.get_legend().get_texts()]
    assert legend == ["best: schedule wsd", "cosine", "wsd", "constant"]
    assert result.plot_heatmap().axes[0].get_xlabel() == "embedding"
    ticks = result.plot_heatmap("schedule").axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["cosine", "wsd", "constant"]
    assert {"cosine", "wsd", "constant", "best"} <= set(texts(result.plot_parallel()))
    long = with_choices(labels={"schedule": [repr(shape) * 3 for shape in SHAPES]})
    for figure in (long.plot("schedule"), long.plot_heatmap(), long.plot_parallel()):
        assert len(figure._repr_png_()) > 5000
    only = made([[1.0], [0.5]], hyperparams={"s": np.arange(2.0)}, labels={"s": ["a", "b"]})
    assert [label.get_text() for label in only.plot().axes[0].get_xticklabels()] == ["a", "b"]


def test_the_heat_map_frames_the_best():
    result = with_choices()
    axes = result.plot_heatmap("embedding", "schedule").axes[0]
    (frame,) = axes.lines
    assert (np.mean(np.unique(frame.get_xdata())), np.mean(np.unique(frame.get_ydata()))) == (1, 1)
    for names, message in ((("schedule", "schedule"), "different"), (("x",), "`x` must be one of")):
        with pytest.raises(ValueError, match=message):
            result.plot_heatmap(*names)
    with pytest.raises(ValueError, match="at least 2 hyperparameters"):
        made([[1.0], [0.5]]).plot_heatmap()


def test_scattered_points():
    grid = lrax.sobol({"lr": (1e-4, 1e-1), "wd": (1e-3, 1.0)}, 16)
    final = (np.log(grid["lr"] / 1e-2) ** 2 + 0.1)[:, None]
    result = made(final, hyperparams=dict(grid))
    left = result.plot().axes[0]
    assert star(left)[0] == pytest.approx(result.best.hyperparams["lr"])
    assert "best" in texts(result.plot_heatmap())
    assert result.plot_parallel() is not None
    assert result.plot_curves(by="wd").axes[1].get_ylabel() == "wd"


@pytest.mark.parametrize("curve", ["grad_norm", "norm", "error", "train_loss"])
def test_every_kind_of_curve_is_drawn(curve):
    rising = np.linspace(1.0, [[3.0], [50.0]], 4, axis=-1)
    result = made(
        [[1.0], [0.1]],
        aux={"norm": np.ones((2, 1, 40))},
        monitors={"grad_norm": rising},
        record_every=10,
        evaluations={"error": rising[..., :2]},
        metrics={"error": rising[..., 1]},
        evaluated_at=np.array([20, 40]),
    )
    axes = result.plot_curves(curve).axes[0]
    series = result.series(curve)
    np.testing.assert_array_equal(bold(axes).get_xdata(), series.at)
    np.testing.assert_allclose(bold(axes).get_ydata(), series.values[1].mean(axis=0), rtol=1e-6)
    low, high = axes.get_ylim()
    assert low < series.values.min()
    assert high > series.values[..., :1].max()
    with pytest.raises(ValueError, match="`curve` must be one of"):
        result.plot_curves("lr")
    with pytest.raises(ValueError, match="`by` must be one of 'lr', got 'wd'"):
        result.plot_curves(curve, by="wd")


def test_only_training_losses_are_smoothed_and_the_axis_says_so():
    rng = np.random.default_rng(0)
    noise = rng.uniform(1, 2, (2, 1, 400)).astype(np.float32)
    # A rate that drops at once: a mean over updates would show rates that no run had.
    rate = np.where(np.arange(400) < 200, [[[0.1]], [[0.2]]], 0.01)
    result = made(
        [[1.0], [1.5]],
        losses=noise,
        aux={"norm": noise},
        monitors={"rate": rate},
        evaluations={"error": noise},
        metrics={"error": noise[..., -1]},
        evaluated_at=1 + np.arange(400),
    )
    for name in ("norm", "rate", "error"):
        axes = result.plot_curves(name).axes[0]
        assert axes.get_ylabel() == name
        drawn = np.stack([line.get_ydata() for line in axes.lines])
        np.testing.assert_allclose(drawn, result.series(name).values[:, 0], rtol=1e-6)
    for axes in (result.plot_curves().axes[0], result.plot().axes[1]):
        assert axes.get_ylabel() == "training loss, mean of 8"
        assert axes.lines[0].get_ydata()[100] == pytest.approx(noise[0, 0, 93:101].mean())
    assert made([[1.0], [0.1]]).plot_curves().axes[0].get_ylabel() == "training loss"


@pytest.mark.slow
def test_the_legend_of_the_objective_covers_no_point():
    final = np.array([[1.0, 1.2], [0.1, 0.3], [0.5, 0.6], [np.nan, 0.5]])
    for figure in (made(final).plot(), with_choices().plot("schedule"), with_choices().plot()):
        figure.draw_without_rendering()  # places the legend
        (legend,) = figure.legends
        assert "mean" in [text.get_text() for text in legend.get_texts()]
        place = legend.get_window_extent()
        assert not any(place.overlaps(axes.get_tightbbox()) for axes in figure.axes)
        left = figure.axes[0]
        assert left.get_legend() is None


def test_of_thousands_of_points_some_hundreds_are_drawn_and_the_best_among_them():
    final = 1 + np.abs(np.arange(1500) - 701.0)[:, None] / 1000
    axes = made(final).plot_curves().axes[0]
    assert 300 <= len(axes.lines) <= 301
    assert "300 of 1500 points" in axes.get_title()
    assert bold(axes).get_ydata()[-1] == pytest.approx(1.0)


def test_a_figure_is_a_value_of_its_own():
    before = pyplot.get_fignums()
    figure = made([[1.0], [0.1]]).plot()
    assert pyplot.get_fignums() == before
    assert isinstance(figure, pyplot.Figure)
    again = pickle.loads(pickle.dumps(figure))
    assert type(again) is type(figure)
    assert len(again._repr_png_()) > 5000
    assert len(lrax.display.schedules(lrax.cosine(0.1, 10))._repr_png_()) > 5000


def test_a_result_in_a_notebook_is_a_table_and_a_picture(tmp_path, monkeypatch):
    labels = ["<lambda>", "a & b", "wsd"]
    html = with_choices(labels={"schedule": labels})._repr_html_()
    assert html.count("<tr") == 7
    assert html.count("font-weight:bold") == 1
    assert "&lt;lambda&gt;" in html
    assert "a &amp; b" in html
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', html)[1]
    (tmp_path / "a.png").write_bytes(base64.b64decode(picture))
    assert image.imread(tmp_path / "a.png").shape[1] > 1000
    many = made(np.linspace(1, 2, 100)[:, None])._repr_html_()
    assert many.count("<tr") == 61
    assert "The best 60 of 100 points" in many
    assert "font-weight:bold" not in made(np.full((3, 1), np.nan))._repr_html_()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "<img" not in made([[1.0], [0.1]])._repr_html_()


CELLS = [
    "import warnings; warnings.simplefilter('error')\n"
    "import numpy as np, optax, lrax\n"
    "task = lrax.tasks.diabetes()\n"
    "result = lrax.sweep(task, optax.adam, [1e-3, 1e-2], steps=10, progress=False)",
    "result.plot()",
    "result",
    "result.plot_curves()",
    "result.plot_parallel()",
    "lrax.display.schedules(lrax.cosine(0.1, 100))",
    "import matplotlib.pyplot as plt\nresult.plot()",
]


@pytest.mark.slow
def test_a_real_kernel_shows_the_pictures():
    nbformat = pytest.importorskip("nbformat", exc_type=ImportError)
    nbclient = pytest.importorskip("nbclient", exc_type=ImportError)
    pytest.importorskip("ipykernel", exc_type=ImportError)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    root = str(Path(__file__).parent.parent)
    # In a process of its own: the client's event loop leaves warnings behind in this one.
    program = (
        "import sys, nbformat, nbclient\n"
        "notebook = nbformat.read(sys.stdin, 4)\n"
        "nbclient.NotebookClient(notebook, kernel_name='python3', timeout=300).execute()\n"
        "nbformat.write(notebook, sys.stdout)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        input=nbformat.writes(notebook),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert nbclient is not None
    for cell in nbformat.reads(done.stdout, 4).cells[1:]:
        outputs = [output for output in cell.outputs if "data" in output]
        assert len(outputs) == 1, (cell.source, cell.outputs)
        data = outputs[0]["data"]
        if cell.source == "result":
            assert "<table" in data["text/html"]
            assert "data:image/png" in data["text/html"]
        else:
            assert len(base64.b64decode(data["image/png"])) > 5000, cell.source
