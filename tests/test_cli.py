"""The command line, as a person meets it."""

import dataclasses
import importlib
import re
import shlex
import socket
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import lrax
from lrax.cli import (
    again,
    demo as cli_demo,
    objects,
    report,
    show as cli_show,
    sweep as cli_sweep,
    values,
)
from lrax.cli.main import _parser, main

MODULE = """
import jax
import lrax
import numpy as np
import optax
from jax import numpy as jnp

x = np.linspace(-1.0, 1.0, 64, dtype=np.float32)
task = lrax.Task(
    init=lambda key: {"w": jax.random.normal(key)},
    loss=lambda params, batch: jnp.mean((params["w"] * batch["x"] - batch["y"]) ** 2),
    batch=lrax.minibatches({"x": x, "y": 3 * x}, size=16),
    evaluate=lambda params: {"error": abs(params["w"] - 3)},
)
number = 3
start = {"w": 2.0}


def width(step):
    return step.batch["x"].shape[0]


def make():
    return task


def broken():
    raise ValueError("a mistake of my own")


def sgd(lr, momentum=0.0):
    return optax.sgd(lr, momentum=momentum)


def two(first, second):
    return optax.chain(optax.sgd(first), optax.scale_by_schedule(second))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module of a task, as the current one."""
    (tmp_path / "of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("of_mine", None)
    objects._file.cache_clear()


def test_demo(tmp_path):
    words = "demo --steps 30 --seeds 1 --runs 7 --out a.png --no-progress"
    command = [sys.executable, "-m", "lrax", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    first, _, rate, *rest = done.stdout.splitlines()
    assert first == "digits: the rate for 30 steps of Adam under a warmup and a cosine"
    found = float(re.match(r"([\d.e-]+) is the rate for 30 steps, by val_loss", rate)[1])
    assert 1e-3 < found < 1
    # One seed: the answer says that it is not certain, and the option that would help.
    assert "cannot tell: " in done.stdout
    assert "`lrax.find` with --seeds 3 and --runs 14 would" in done.stdout
    assert "picture: a.png" in rest
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    # What comes next: the code that uses the rate, and a command that exists.
    assert f"optax.adam(lrax.warmup_cosine({found:g}, 30, 3))" in done.stdout
    assert "**found.hyperparams" in done.stdout
    words = shlex.split(rest[-1])
    assert words[:3] == ["python", "-m", "lrax"]
    assert objects.DECAYS[_parser().parse_args(words[3:]).decay] is lrax.warmup_cosine


def test_help_and_errors_read_well(capsys):
    for arguments in (["--help"], ["demo", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    assert "the most that the search may cost, in full runs (15)" in capsys.readouterr().out
    for arguments, message in (
        ([], "the following arguments are required: COMMAND"),
        (["sing"], "invalid choice: 'sing'"),
        (["demo", "--steps", "2"], "argument --steps: must be at least 10, got 2"),
        (["demo", "--steps", "many"], "argument --steps: invalid number value: 'many'"),
        (["demo", "--low", "-1"], "argument --low: must be positive and finite, got -1"),
        (["demo", "--out", "no/a.png"], "argument --out: must be a file name in a folder that"),
        (["demo", "--seeds", "9" * 30], "argument --seeds: must be at most 100000, got 999"),
        (["demo", "--\x1b[31mred"], r"unrecognized arguments: --\x1b[31mred"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err


def test_failures_are_one_line(capsys):
    assert main(["demo", "--low", "1", "--high", "0.1"]) == 2
    message = "lrax: --low and --high must be two finite rates above 0, the lower one first, got"
    assert capsys.readouterr().err == f"{message} (1.0, 0.1)\n"


def sweep(capsys, *words):
    status = main(["sweep", *words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_sweep_end_to_end(folder, capsys):
    command = "sweep of_mine.py:task --optimizer of_mine.py:sgd --lr 1e-3:10:5 --seeds 2"
    command += " --grid momentum=0,0.5 --steps 40 --warmup 10% --decay cosine"
    command += " --objective error --out found"
    status = main(command.split())
    shown, err = capsys.readouterr()
    assert (status, err) == (0, "")
    lines = shown.splitlines()
    assert lines[0] == (
        "of_mine.py:task: 10 points x 2 seeds = 20 runs of 40 steps,"
        " by of_mine.py:sgd under warmup_cosine(lr, 40, 4)"
    )
    assert sum(line.endswith(("done", "diverged")) for line in lines) == 10
    for word in (
        "device:",
        "time:",
        "plan:",
        "lowest error",
        "files:   found.csv, found.npz, found.png",
    ):
        assert word in shown
    assert re.search(
        r"^best:    lr \S+, with momentum \S+\n +lowest error: \S+ ±", shown, re.MULTILINE
    )
    assert re.search(r"^optimum: lr \S+, between \S+ and \S+; interpolated", shown, re.MULTILINE)
    result = lrax.SweepResult.load("found.npz")
    assert result.losses.shape == (10, 2, 40)
    assert result.objective == "error"
    assert list(result.hyperparams) == ["lr", "momentum"]
    assert (folder / "found.png").read_bytes()[:4] == b"\x89PNG"
    assert len((folder / "found.csv").read_text().splitlines()) == 21


def test_sweep_is_the_sweep(folder, capsys):
    status, shown, err = sweep(
        capsys, "of_mine:make", "--lr", "0.01,0.1,1", "--steps", "30", "--out", "a.npz"
    )
    assert (status, err) == (0, "")
    assert shown.startswith("of_mine:make: 3 points of 30 steps, by optax:adam\n")
    found = lrax.SweepResult.load("a.npz")
    task = sys.modules["of_mine"].task
    np.testing.assert_array_equal(
        found.losses, lrax.sweep(task, optax.adam, [0.01, 0.1, 1], steps=30).losses
    )


@pytest.mark.parametrize(
    ("warmup", "decay", "words", "schedule"),
    [
        ("0", "constant", "optax:sgd", lrax.constant(0.5)),
        (
            "10%",
            "constant",
            "optax:sgd under warmup_constant(learning_rate, 2)",
            lrax.warmup_constant(0.5, 2),
        ),
        (
            "4",
            "linear",
            "optax:sgd under warmup_linear(learning_rate, 20, 4)",
            lrax.warmup_linear(0.5, 20, 4),
        ),
        (
            "0%",
            "cosine",
            "optax:sgd under warmup_cosine(learning_rate, 20, 0)",
            lrax.warmup_cosine(0.5, 20, 0),
        ),
    ],
)
def test_optimizers_under_a_schedule(warmup, decay, words, schedule):
    optimizer, said = objects.optimizer("optax:sgd", steps=20, warmup=warmup, decay=decay)
    assert said == words
    found = optimizer(learning_rate=0.5)
    gradient, rates = np.float32(1.0), []
    state = found.init(gradient)
    for _ in range(20):
        update, state = found.update(gradient, state)
        rates.append(-float(update))
    np.testing.assert_allclose(rates, schedule.values(20), rtol=1e-6)


def test_sweep_at_an_edge_prints_the_command_that_goes_on(folder, capsys):
    words = [
        "of_mine.py:task",
        "--lr=1e-4:1e-3:5",
        "--steps",
        "20",
        "--out",
        "a",
        "--no-progress",
        "--checkpoint",
        "c",
    ]
    status, shown, _ = sweep(capsys, *words)
    assert status == 0
    assert "the highest learning rate of the grid: a higher one may be better" in shown
    command = re.search(r"^next:    python -m lrax sweep (.*)$", shown, re.MULTILINE)[1]
    assert command == (
        "of_mine.py:task --steps 20 --out a-2 --no-progress --checkpoint c-2"
        " --lr 0.0005623:0.003162:4"
    )
    assert sweep(capsys, *shlex.split(command))[0] == 0
    assert {"a.npz", "a-2.npz", "c.npz", "c-2.npz"} <= {path.name for path in folder.iterdir()}
    status, shown, _ = sweep(capsys, *words)  # once more, from its checkpoint
    assert "from the checkpoint's step 20 on" in shown


def test_sweep_where_everything_diverges(folder, capsys):
    words = ["of_mine:task", "--optimizer", "of_mine:sgd", "--lr", "1e10:1e20:3", "--steps", "40"]
    status, shown, _ = sweep(capsys, *words)
    assert status == 1
    assert "best:    none: every point diverged with some seed; try lower rates" in shown
    assert shown.endswith("--steps 40 --lr 1:1e+15:4\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "nothing_here:task",
            "there is no module 'nothing_here' in the current folder or among the installed pack",
        ),
        ("nothing.py:task", "there is no file "),
        (
            "of_mine",
            "the task must be module:attribute or path/to/file.py:attribute, got 'of_mine'",
        ),
        (
            "of_mine:tusk",
            "of_mine has no 'tusk'; it has broken, make, number, sgd, start, task, two, width, x",
        ),
        (
            "of_mine:number",
            "of_mine:number must be a lrax.Task or a function that returns one, but is an object"
            " of type int",
        ),
        ("of_mine:task --optimizer optax:adm", "optax has no 'adm'; it has ada"),
        (
            "of_mine:task --optimizer of_mine:number",
            "must be a function that returns an optax optimizer, but is an object of type int",
        ),
        (
            "of_mine:task --warmup 101%",
            "--warmup must be steps or percent of the 1000 steps, such as 100 or 10%, got",
        ),
        (
            "of_mine:task --lr 1,2 --grid learning_rate=3",
            "--lr and --grid both give values of 'learning_rate'",
        ),
        ("of_mine:task --grid b1=0,1 --grid b1=0.5", "--grid gives values of 'b1' twice"),
    ],
)
def test_what_is_not_there_is_named(folder, capsys, words, message):
    status, shown, err = sweep(capsys, *words.split())
    assert (status, shown) == (2, "")
    assert err.startswith("lrax: ")
    assert message in err


def test_what_a_sweep_refuses_is_one_line_that_names_the_option(folder, capsys):
    for words, status, message in (
        ("--objective acc", 2, "lrax: --objective must be one of 'train_loss', 'error', got 'acc'"),
        ("--grid b7=1,2", 2, "lrax: --lr and --grid must name parameters of the optimizer"),
        ("--execution fast", 2, "lrax: --execution must be one of 'auto'"),
        ("--checkpoint no/a.npz", 2, "lrax: --checkpoint must be a place that can be written"),
        ("--devices 99", 2, "lrax: --devices must be at most the "),
        ("--lr 1:2:9999 --seeds 99", 2, "lrax: --lr, --grid and --seeds must make at most 100000"),
    ):
        found, _, err = sweep(capsys, "of_mine:task", *words.split())
        assert (found, err.count("\n")) == (status, 1), err
        assert err.startswith(message)
    with pytest.raises(ValueError, match="a mistake of my own"):  # is shown with its traceback
        main(["sweep", "of_mine:broken"])


BAD = ("", " ", "nan", "inf", "-1", "0", "1e999", "2**64", str(2**64), "é", "\x1b[2J", "a\0b")
BAD += ("1:2", ":", ",", "1,,2", "x=1", "=", "%", "/", "..", "a" * 5000)
OPTIONS = "optimizer lr grid steps seeds warmup decay params objective mode select eval-every stop"
OPTIONS = (
    OPTIONS + " monitor record-every execution devices budget checkpoint out processes process-id"
).split()


COMMANDS = [("sweep of_mine:task", option) for option in OPTIONS]
COMMANDS += [("demo", option) for option in ("low", "high", "seeds", "runs", "steps", "out")]
COMMANDS += [("show constant(1)", option) for option in ("steps", "width", "out")]


@pytest.mark.parametrize(("command", "option"), COMMANDS)
def test_bad_values_end_without_a_traceback(folder, capsys, monkeypatch, command, option):
    """Each value is refused with a message that can be printed, or gets as far as the work."""

    def stand_in(*arguments, **given):
        raise objects.Mistake("the command was read")

    monkeypatch.setattr(cli_sweep, "sweep", stand_in)
    monkeypatch.setattr(cli_demo, "find", stand_in)
    monkeypatch.setattr(cli_show, "_print", stand_in)
    for value in BAD:
        try:
            status = main([*command.split(), f"--{option}={value}"])
        except SystemExit as end:  # argparse
            status = end.code
        err = capsys.readouterr().err
        assert status == 2
        assert err.replace("\n", "").isprintable(), err


@pytest.mark.parametrize("value", BAD)
def test_bad_tasks_end_without_a_traceback(folder, capsys, value):
    for text in (value, f"{value}:task", f"{value}.py:task", f"of_mine:{value}"):
        try:
            status = main(["sweep", text])
        except SystemExit as end:  # argparse, of a text that begins with a dash
            status = end.code
        assert status == 2
        assert capsys.readouterr().err.replace("\n", "").isprintable()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CallableParams:
    """Parameters that can be called, as an Equinox module can."""

    weight: float

    def __call__(self, x):
        return self.weight * x


def test_parameters_that_can_be_called_are_not_called(monkeypatch):
    model = CallableParams(2.0)
    for value in (model, lambda: model):
        monkeypatch.setattr(objects, "named", lambda text, what, value=value: value)
        assert objects.parameters("module:start") is model


def test_sweep_starts_from_given_parameters(folder, capsys, monkeypatch):
    seen = {}

    def stand_in(task, optimizer, grid, **given):
        seen.update(given)
        raise objects.Mistake("enough")

    monkeypatch.setattr(cli_sweep, "sweep", stand_in)
    assert main(["sweep", "of_mine:task", "--params", "of_mine:start", "--select", "best"]) == 2
    assert seen["params"] == {"w": 2.0}
    assert seen["select"] == "best"
    assert "mode" not in seen  # the library infers it from the name


def test_monitors_are_recorded_and_a_dry_run_estimates(folder, capsys):
    words = "of_mine:task --lr 0.1,1 --steps 20 --monitor grad_norm --monitor of_mine:width"
    words = [*words.split(), "--record-every", "5", "--out", "a", "--no-progress"]
    status, shown, err = sweep(capsys, *words, "--dry-run")
    assert (status, err) == (0, "")
    assert "2 lanes: about " in shown
    assert not (folder / "a.npz").exists()
    assert sweep(capsys, *words)[0] == 0
    found = lrax.SweepResult.load("a.npz")
    assert {name: values.shape for name, values in found.monitors.items()} == {
        "grad_norm": (2, 1, 4),
        "width": (2, 1, 4),
    }
    status, _, err = sweep(capsys, "of_mine:task", "--monitor", "grad")
    assert status == 2
    assert "--monitor must be one of grad_norm, " in err


def result(losses, metric, *, status="done", causes="", mode="max"):
    """A result of a sweep of three rates, as the report is given one."""
    points, seeds = np.shape(metric)
    return lrax.SweepResult(
        hyperparams={"learning_rate": np.array([0.1, 1.0, 10.0])},
        seeds=[str(seed) for seed in range(seeds)],
        losses=np.broadcast_to(np.float32(losses), (points, seeds, 4)).copy(),
        steps=4,
        metrics={"val_accuracy": np.asarray(metric, np.float32)},
        status=np.full((points, seeds), status),
        stopped_at=np.full(points, 4),
        causes=np.full((points, seeds), causes),
        objective="val_accuracy",
        mode=mode,
        info={"versions": {}, "device": "cpu", "compile_seconds": 0.0, "run_seconds": 0.0},
    )


def test_the_report_has_one_best_and_names_the_direction():
    shown = report.report(result(1.0, [[0.5, 0.5], [0.9, 0.9], [0.8, 0.8]]))
    assert "\n* " in shown
    (best,) = re.findall(r"^best: +(.*)\n +(.*)$", shown, re.MULTILINE)
    assert best == ("learning rate 1", "highest val accuracy: 0.9 ±0")
    assert re.search(r"^optimum: learning rate .*; interpolated between the points", shown, re.M)


def test_the_report_rounds_the_speed_to_a_plain_number():
    found = result(1.0, [[0.5, 0.5], [0.9, 0.9], [0.8, 0.8]])  # 6 lanes of 4 updates
    for speed, text in ((999.4, "999"), (999.6, "1k"), (999_600, "1M")):
        found.info["run_seconds"] = 24 / speed
        assert f"({text} updates a second)" in report.report(found)


@pytest.mark.parametrize(
    ("found", "reason", "goes_on"),
    [
        (result(1.0, [[np.nan]] * 3), "'val_accuracy' is not a finite number at any point", False),
        (result(1.0, [[np.nan]] * 3, status="diverged"), "every point diverged", True),
        (result(np.nan, [[np.nan]] * 3, status="diverged"), "check the data", False),
    ],
)
def test_the_report_says_why_there_is_no_best(found, reason, goes_on):
    shown = report.report(found, lambda name, edge: f"{name} {edge}er")
    assert reason in " ".join(shown.split())
    assert "best:    none: " in shown
    assert ("next:    learning_rate lower" in shown) == goes_on


def test_help_of_sweep(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["sweep", "--help"])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 120
    for word in (
        "TASK [options]",
        "--distributed",
        "examples:",
        "exit status:",
        "low:high:n:linear",
    ):
        assert word in shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1e-3:1e-1:3", [1e-3, 1e-2, 1e-1]),
        ("1e-3:1e-1:3:log", [1e-3, 1e-2, 1e-1]),
        ("0:1:3:linear", [0, 0.5, 1]),
        ("1e-3,1e-2", [1e-3, 1e-2]),
        ("0.1", [0.1]),
    ],
)
def test_values(text, wanted):
    np.testing.assert_allclose(values.axis(text).values, wanted)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--lr 1:2",
            "must be low:high:n, low:high:n:linear or a list, such as 1e-5:1:48 or 1e-3,1e-2, got"
            " '1:2'",
        ),
        ("--lr 1:2:3:cubic", "must be low:high:n, low:high:n:linear or a list"),
        ("--lr a,b", "must be low:high:n or a list of numbers"),
        ("--lr 1:2:3.5", "must be two numbers and a count"),
        ("--lr 1e300:1e308:3", "argument --lr: cannot be made: "),
        ("--lr 2:1:3", "must go from a lower to a higher finite number"),
        ("--lr 1:2:1", "must have at least 2 values"),
        (
            "--lr 0:1:3",
            "has equal ratios and must begin above 0; with equal distances it is 0:1:3:linear",
        ),
        ("--lr 0:1:3:log", "with equal distances it is 0:1:3:linear, got '0:1:3:log'"),
        ("--grid 1e-3:1:3", "must be name=values"),
        ("--budget soon", "must be seconds, or such as 90s, 10min or 2h, got 'soon'"),
        ("--out no_such_folder/a", "must be a file name in a folder that exists"),
        ("--decay sine", "invalid choice: 'sine'"),
        ("--steps 0", "must be at least 1, got 0"),
    ],
)
def test_values_that_cannot_be_read(capsys, option, message):
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", "lrax.tasks:digits", *option.split()])
    assert message in capsys.readouterr().err


def test_commands_that_go_on():
    axes = {
        "lr": values.axis("1,2,4"),
        "wd": values.axis("1e-3:1:4"),
        "m": values.axis("0:1:5:linear"),
    }
    words = [
        "sweep",
        "a:task",
        "--grid",
        "wd=1e-3:1:4",
        "--grid",
        "m=0:1:5:linear",
        "--out",
        "r/a-9",
    ]
    for name, edge, tail in (
        ("lr", "high", "--grid wd=1e-3:1:4 --grid m=0:1:5:linear --out r/a-10 --lr 2,4,8,16"),
        ("lr", "low", "--grid wd=1e-3:1:4 --grid m=0:1:5:linear --out r/a-10 --lr 0.25,0.5,1,2"),
        ("wd", "low", "--grid m=0:1:5:linear --out r/a-10 --grid wd=1e-05:0.01:4"),
    ):
        assert (
            again.extended(words, axes, "lr", name, edge) == f"python -m lrax sweep a:task {tail}"
        )
    assert (
        again.extended(words, axes, "lr", "m", "high") is None
    )  # a momentum of 1.25 is nothing to try
    axes = {"lr": values.axis("1:3:5:linear")}
    assert again.extended(["--grid=lr=1:3:5:linear"], axes, "lr", "lr", "high").endswith(
        "lrax --lr 2.5:4:4:linear"
    )
    assert (
        again.extended([], {"lr": values.axis("1:4:4:linear")}, "lr", "lr", "low") is None
    )  # would go below 0
    assert (
        again.extended([], {"lr": values.axis("3")}, "lr", "lr", "low") is None
    )  # no ratio is known


def test_long_tables_are_cut_to_the_best(folder, capsys, monkeypatch):
    monkeypatch.setattr(report, "ROWS", 3)
    shown = sweep(capsys, "of_mine:task", "--lr", "1e-2:1:9", "--steps", "30")[1]
    rows = shown.split("status\n")[1].split("\n\n")[0].splitlines()
    assert len(rows) == 4
    assert rows[-1] == "(the best 3 of 9 points)"
    assert sum(row.startswith("*") for row in rows) == 1
    rates = [float(row.strip("* ").split()[0]) for row in rows[:-1]]
    assert rates == sorted(rates)


def test_files_that_need_a_package_that_is_not_there(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    shown = sweep(capsys, "of_mine:task", "--lr", "1e-2:1:9", "--steps", "30", "--out", "lr0.1")[1]
    assert "files:   lr0.1.npz, lr0.1.png\n" in shown
    assert "no lr0.1.csv: this needs pandas, which is not installed" in shown


@pytest.mark.slow  # the library's own two processes are in test_hosts.py
def test_two_processes(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = "sweep of_mine:task --lr 1e-3:1:9 --steps 30 --out both --processes 2"
    words += f" --coordinator 127.0.0.1:{port}"
    command = [sys.executable, "-m", "lrax", *words.split(), "--process-id"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = [subprocess.Popen([*command, str(i)], **pipes) for i in range(2)]
    (first, _), (second, _) = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert "best:    learning rate" in first
    assert "best:" not in second  # nor anything else of lrax's
    assert lrax.SweepResult.load("both.npz").losses.shape == (9, 1, 30)
    alone = lrax.sweep(
        objects.task("of_mine:task"), optax.adam, lrax.log_grid(1e-3, 1, 9), steps=30
    )
    np.testing.assert_allclose(
        lrax.SweepResult.load("both.npz").losses, alone.losses, rtol=1e-5, atol=1e-6
    )


def test_find_prints_the_rate_and_writes_the_picture(folder, capsys):
    words = "find of_mine:task --optimizer of_mine:sgd --steps 12 --objective error --runs 7"
    words += " --seeds 1 --bounds 1e-2:1e2 --no-progress --out found.png"
    status = main(words.split())
    out = capsys.readouterr().out
    rate = float(re.search(r"([\d.e-]+) is the rate for 12 steps, by error", out)[1])
    assert 0.1 < rate < 10  # the curvature is 2/3: it diverges above 3
    assert status == ("cannot tell" in out)
    assert (folder / "found.png").read_bytes()[:4] == b"\x89PNG"


def test_find_takes_several_rates(folder, capsys):
    words = "find of_mine:task --optimizer of_mine:two --steps 12 --objective error --runs 12"
    words += " --names first,second --bounds first=1e-2:1e1 --bounds second=1e-3:1 --seeds 1"
    main([*words.split(), "--no-progress", "--warmup", "1"])
    out = capsys.readouterr().out
    assert "by of_mine:two under warmup_constant(first, second, 1)" in out
    assert re.search(r"first [\d.]+ \(.*\), second [\d.]+ \(.*\) are the rates for 12 steps", out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--bounds 3", "must be low:high"),
        ("--bounds =1:3", "must be low:high"),
        ("--bounds low:3", "must be low:high, such as 1e-4:1, or name=low:high, got 'low:3'"),
        ("--bounds 1:3 --bounds 1:4", "--bounds must be given once"),
        ("--bounds 1:3 --bounds lr=1:4", "--bounds must be for all rates, or for each name"),
        ("--names lr,other", "--names must be parameters of the optimizer"),
        ("--bounds 1:0.1", "--bounds must be two finite rates"),
        ("--runs 0.1", "--runs must be at least 1"),
        ("--objective nothing_known --mode min", "--objective must be one of"),
    ],
)
def test_find_names_the_wrong_option(folder, capsys, words, message):
    command = ["find", "of_mine:task", "--steps", "2", "--objective", "error", *words.split()]
    try:
        status = main(command)
    except SystemExit as error:  # by argparse
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err
