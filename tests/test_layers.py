"""The house: floors, names, and what an import costs."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lrax
from lrax.cli.main import main

ROOT = Path(lrax.__file__).parent
FLOORS = ["_require", "display", "schedules", "rate", "probes", "controllers", "lr_free", "theory"]
FLOORS += ["training", "tasks", "sweeps", "scaling", "finders", "compat", "cli", "__main__"]
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def imports(path):
    """Modules of lrax that a file imports, as parts below the package: `("schedules", "shapes")`."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level or (node.module or "").split(".")[0] != "lrax", (
                f"{path}: import lrax relatively"
            )
            if node.level:
                base = package[: len(package) - node.level + 1] + tuple(
                    (node.module or "").split(".") if node.module else ()
                )
                for name in node.names:
                    whole = (*base, name.name)
                    is_module = (ROOT.joinpath(*whole)).with_suffix(
                        ".py"
                    ).exists() or ROOT.joinpath(*whole).is_dir()
                    target = whole if is_module else base
                    yield (*target, "__init__") if ROOT.joinpath(*target).is_dir() else target
        elif isinstance(node, ast.Import):
            assert all(name.name.split(".")[0] != "lrax" for name in node.names), (
                f"{path}: import lrax relatively"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_floors_below(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    for target in imports(path):
        if target[0] == parts[0]:
            assert len(parts) > 1, f"{path} imports itself"
            continue  # within a folder: acyclic, below
        assert FLOORS.index(target[0]) < FLOORS.index(parts[0]), (
            f"{'.'.join(parts)} imports {'.'.join(target)}"
        )


def test_imports_are_acyclic():
    graph = {path.relative_to(ROOT).with_suffix("").parts: set(imports(path)) for path in FILES}
    done = set()

    def visit(node, above):
        assert node not in above, f"cycle: {[*above, node]}"
        if node not in done:
            for target in graph.get(node, ()):
                visit(target, [*above, node])
            done.add(node)

    for node in graph:
        visit(node, [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_import_lrax_at_the_top(path):
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.ClassDef)):
            inner = [
                node
                for node in ast.walk(function)
                if isinstance(node, ast.ImportFrom) and node.level
            ]
            assert not inner, f"{path}: an import of lrax inside {function.name}"


def test_floors_are_all_there_is():
    here = {path.stem for path in ROOT.glob("*.py")} | {
        path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()
    }
    assert here - {"__init__"} <= set(FLOORS)


# What a training job that takes a schedule from lrax has no use for. Where JAX or Optax bring one
# of these themselves, it costs nothing more.
HEAVY = ["argparse", "asyncio", "concurrent.futures.thread", "doctest", "flax", "equinox", "html"]
HEAVY += ["jax.extend", "json", "matplotlib", "multiprocessing", "optuna", "orbax", "pandas"]
HEAVY += ["sklearn", "sqlite3", "subprocess", "tqdm", "unittest", "urllib.request", "xarray"]
HEAVY += ["lrax.cli", "lrax.compat.torch", "lrax.controllers", "lrax.lr_free", "lrax.probes"]
HEAVY += ["lrax.scaling", "lrax.sweeps", "lrax.tasks", "lrax.theory"]


def test_import_touches_no_device_and_brings_nothing_heavy():
    program = f"""
import sys, optax
before = set(sys.modules)
import lrax
after = set(sys.modules) - before
packages = {{name.split(".")[0] for name in after}} - {{name.split(".")[0] for name in before}}
print(sorted(packages - set(sys.stdlib_module_names)), sorted(after & set({HEAVY})))
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['lrax'] []"


def test_the_topics_of_the_package_name_what_there_is(capsys):
    topics = lrax.__doc__.partition("- ")[2]
    words = re.findall(r"`([^`]+)`", topics)
    commands = {word.split()[-1] for word in words if word.startswith("python -m lrax")}
    with pytest.raises(SystemExit):
        main(["--help"])
    assert commands == set(re.findall(r"^    (\w+)  ", capsys.readouterr().out, re.MULTILINE))
    names = [word for word in words if re.fullmatch(r"[\w.]+", word)]
    assert all(get(name) is not None for name in names)
    # A family stands for its members.
    assert {name.split(".")[0] for name in names} >= set(QUALIFIED)
    assert {"Schedule", "scale_by_lr", "train", "sweep", "sweep_over", "confirm"} <= set(names)


def test_names_that_load_when_first_used_are_like_the_others():
    program = """
import lrax
assert set(lrax.__all__) <= set(dir(lrax)), "editors complete from `dir`"
assert "sweep" not in vars(lrax)
sweep = lrax.sweep
assert vars(lrax)["sweep"] is sweep, "looked up once"
from lrax import *
assert tasks is lrax.tasks and callable(tasks.digits) and AskTell is lrax.AskTell
try:
    lrax.swep
except AttributeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "module 'lrax' has no attribute 'swep'"


FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
QUALIFIED = [
    name for name in lrax.__all__ if inspect.ismodule(getattr(lrax, name))
]  # families such as `lrax.tasks`
PUBLIC = [name for name in lrax.__all__ if name not in QUALIFIED]
FUNCTIONS = [name for name in PUBLIC if inspect.isfunction(getattr(lrax, name))]
FUNCTIONS += [
    f"{family}.{name}"
    for family in QUALIFIED
    for name in getattr(getattr(lrax, family), "__all__", ())
]


def get(name):
    value = lrax
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_are_documented(name):
    doc = inspect.getdoc(get(name))
    takes_any = bool(inspect.signature(get(name)).parameters)
    for section in ("Returns:", "Example:", ">>>", *(("Args:", "Raises:") if takes_any else ())):
        assert section in doc, f"{name} lacks {section}"
    for parameter in inspect.signature(get(name)).parameters:
        assert f"{parameter}:" in doc, f"{name} does not say what {parameter} is"


def test_help_shows_the_names_of_types():
    signatures = {name: str(inspect.signature(get(name))) for name in FUNCTIONS}
    assert [name for name, text in signatures.items() if "jaxlib" in text] == []


def test_one_name_one_path():
    assert sorted(lrax.__all__) == list(lrax.__all__)
    public = {
        name
        for name in dir(lrax)
        if not name.startswith("_") and not inspect.ismodule(getattr(lrax, name))
    }
    assert public == set(PUBLIC)
    for folder in FOLDERS:
        module = importlib.import_module(f"lrax.{folder}")
        names = {
            name
            for name, value in vars(module).items()
            if name[0] != "_" and not inspect.ismodule(value)
        }
        assert names == set(getattr(module, "__all__", ())), (
            f"lrax.{folder} exports what its __all__ does not name"
        )
        assert not names or folder in QUALIFIED, (
            f"lrax.{folder} exports names and is not public itself"
        )
        # `lrax.linear` is a schedule and `lrax.scaling.linear` a rule: two things, a path each.
        twice = {name for name in names & set(PUBLIC) if get(name) is get(f"{folder}.{name}")}
        assert not twice, f"two paths to names of lrax.{folder}"
    assert all(inspect.getdoc(getattr(lrax, name)) for name in lrax.__all__)
