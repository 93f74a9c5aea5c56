"""README, CI and the package's metadata say the same."""

import re
import tomllib
from pathlib import Path

import cases

import lrax

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def command(section):
    return re.search(rf"## {section}\n.*?```sh\n(.*?)\n```", README, re.DOTALL).group(1)


def test_ci_runs_exactly_the_readmes_test_command():
    assert command("Tests") in CI.splitlines()


def test_the_first_command_sets_up_and_runs_the_demo():
    first = command("Try it")
    assert first.startswith("python3 -m venv .venv && .venv/bin/pip install")
    assert first.endswith("&& .venv/bin/python -m lrax demo")


def test_every_builder_is_in_the_readme():
    table = README[README.index("| builder |") : README.index("## The rate is state")]
    missing = [name for name in cases.FORMULAS if f"`{name}" not in table]
    assert missing == []


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
        {"plot", "sweep", "flax", "equinox", "optuna", "orbax", "xarray"}
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
    ]  # tested with the real ones


def test_version():
    assert lrax.__version__ == PROJECT["version"]
