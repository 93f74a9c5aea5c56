"""README, CI and the package's metadata say the same."""

import re
import shlex
import tomllib
import types
from pathlib import Path

import cases
import optax
import pytest

import lrax
from lrax import _require
from lrax.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests" / "benchmarks" / "README.md"]
PAGES += [ROOT / "lrax" / "compat" / "README.md"]


def command(section):
    return re.search(rf"## {section}\n.*?```sh\n(.*?)\n```", README, re.DOTALL).group(1)


def test_ci_runs_exactly_the_readmes_test_command():
    assert command("Tests") in CI.splitlines()


def test_the_first_command_sets_up_and_runs_the_demo():
    first = command("Try it")
    assert first.startswith("python3 -m venv .venv && .venv/bin/pip install")
    assert first.endswith("&& .venv/bin/python -m lrax demo")


def test_every_builder_is_in_the_readme():
    section = README[README.index("## A schedule is a value") : README.index("## The rate is")]
    assert [name for name in cases.FORMULAS if f"`{name}`" not in section] == []


def test_it_is_a_front_page():
    assert len(README.splitlines()) <= 160
    picture = re.search(r"!\[[^]]*\]\((.*?)\)", README)[1]
    assert (ROOT / picture).stat().st_size < 200_000
    assert re.search(rf"python -m lrax sweep .*--out {picture.removesuffix('.png')}`", README)


def test_its_commands_and_names_exist(capsys):
    for name in set(re.findall(r"\blrax((?:\.\w+)+)(?=[`(\[\]])", README)):
        found = lrax
        for part in name[1:].split("."):
            found = getattr(found, part)
    for line in re.findall(r"python -m lrax (\w+) ([^`\n]*)[`\n]", README):
        words = [line[0], *shlex.split(line[1])]
        assert main._parser().parse_args(words)
    for module in set(re.findall(r"python -m (tests\.benchmarks\.\w+)", README)):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_every_benchmark_has_its_command_on_the_page():
    folder = ROOT / "tests" / "benchmarks"
    commands = {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text()}
    page = (folder / "README.md").read_text()
    assert commands <= set(re.findall(r"python -m tests\.benchmarks\.(\w+)", page))


def test_how_to_install_is_said_in_one_place():
    """Nothing says to install lrax by name alone, for no index has it."""
    address = PROJECT["urls"]["Repository"]
    (line,) = re.findall(r"^pip install .*$", README, re.MULTILINE)
    assert line == f'pip install "lrax[all] @ git+{address}"'
    for page in PAGES:
        for words in re.findall(r"pip install[^\n]*", page.read_text()):
            assert re.search(r'git\+|"\.\[', words), f"{page}: {words}"


def test_every_extra_is_listed():
    (words,) = re.findall(r"The extras are\n(.*?)\n\n", README, re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", words)) == sorted(PROJECT["optional-dependencies"])


def test_an_error_says_how_to_install_as_the_page_does():
    (line,) = re.findall(r"^pip install .*$", README, re.MULTILINE)
    assert _require.installing("all") == f'{line}, or pip install ".[all]" in a clone'


def test_the_logger_of_contributing_logs():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    code = re.search(r"```py\n(.*?)\nlrax\.sweep\(", page, re.DOTALL)[1]
    scope, logged = {}, []
    exec(code, scope)
    run = types.SimpleNamespace(log=lambda found, step: logged.append((step, found)))
    rates = [0.1, 0.2]
    task = lrax.tasks.diabetes()
    logger = scope["to_wandb"](run, rates)
    lrax.sweep(task, optax.sgd, rates, steps=4, eval_every=2, on_event=logger)
    keys = {key for _, found in logged for key in found}
    assert {"loss", "alive", "learning_rate", "val_loss/0.1", "val_r2/0.2"} <= keys
    assert max(step for step, _ in logged) == 4


def test_oldest_versions_are_the_lower_bounds():
    pins = dict(
        re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / ".ci" / "oldest.txt").read_text(), re.MULTILINE)
    )
    extras = PROJECT["optional-dependencies"]
    required = [
        *PROJECT["dependencies"],
        *(need for name, needs in extras.items() if name != "dev" for need in needs),
    ]
    bounds = dict(
        re.match(r"([\w-]+) >= ([\d.]+)(?:$|;)", need).groups() for need in required if ">=" in need
    )
    assert bounds.keys() == pins.keys()
    for name, bound in bounds.items():
        assert pins[name].startswith(bound), name


def test_the_source_names_extras_that_exist():
    extras, named = PROJECT["optional-dependencies"], {}
    for path in (ROOT / "lrax").rglob("*.py"):
        for name in re.findall(r"_require\.extra\([^)]*, \"([\w-]+)\"\)", path.read_text()):
            named[name] = path.name
    assert (
        {"plot", "sweep", "flax", "equinox", "optuna", "orbax", "xarray", "tensorboard"}
        <= named.keys()
        <= extras.keys()
    )
    tested = re.search(r"lrax\[(.*)\]", extras["tests"][0])[1].split(",")
    assert tested == [
        "all",
        "flax",
        "equinox",
        "optuna",
        "orbax",
        "xarray",
        "tensorboard",
    ]  # tested with the real ones


def test_version():
    assert lrax.__version__ == PROJECT["version"]
