"""The command line, as a person meets it."""

import subprocess
import sys

import pytest

from lrax.__main__ import main


def test_demo(tmp_path):
    command = [sys.executable, "-m", "lrax", "demo", "--rates", "5", "--steps", "30", "--out", "a.png", "--no-progress"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "digits: 5 rates x 2 seeds = 10 runs of 30 steps, all at once"
    header = next(line for line in lines if "status" in line)
    assert header.split() == ["learning_rate", "train", "loss", "val_accuracy", "val_loss", "status"]
    assert sum(line.endswith(("done", "diverged")) for line in lines) == 5
    for word in ("device:", "time:", "to compile", "best:    learning rate", "between", "picture: a.png"):
        assert word in done.stdout
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert done.stderr == ""


def test_help_and_errors_read_well(capsys):
    for arguments in (["--help"], ["demo", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    assert "learning rates to try (default: 48)" in capsys.readouterr().out
    for arguments, message in (
        ([], "the following arguments are required: COMMAND"),
        (["sing"], "invalid choice: 'sing'"),
        (["demo", "--rates", "2"], "argument --rates: must be at least 3, got 2"),
        (["demo", "--steps", "many"], "argument --steps: invalid number value: 'many'"),
        (["demo", "--low", "-1"], "argument --low: must be positive and finite, got -1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err


def test_failures_are_one_line(capsys):
    assert main(["demo", "--low", "1", "--high", "0.1"]) == 1
    assert capsys.readouterr().err == "lrax: `low` must be at most `high`, got 1.0 and 0.1\n"
    assert main(["demo", "--out", "no_such_folder/a.png", "--rates", "3", "--steps", "10"]) == 1
    assert "no_such_folder" in capsys.readouterr().err
