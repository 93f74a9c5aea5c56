"""The tables of other frameworks' schedulers are complete, and their two sides are equal."""

import re
from pathlib import Path

import numpy as np
import pytest

import lrax

README = (Path(__file__).parent.parent / "lrax" / "compat" / "README.md").read_text()
FRAMEWORKS = ("torch", "transformers", "timm", "keras", "optax")
NAMES = dict(
    lr=0.1, low=0.01, T=100, W=10, step=20, gamma=0.5, factor=0.25, power=2.0, milestones=[30, 60]
)
NAMES["f"] = lambda count: 1 / (1 + count)


def rows():
    for section in re.findall(r"\| \w+ \(`lrax\.compat\.\w+`\) \| lrax \|\n(?:\|.*\n)+", README):
        framework = re.search(r"lrax\.compat\.(\w+)", section)[1]
        for theirs, ours in re.findall(r"^\| `(.*)` \| (.*?) ?\|$", section, flags=re.MULTILINE):
            yield framework, theirs, ours


ROWS = list(rows())


def test_every_scheduler_is_there():
    assert {row[0] for row in ROWS} == set(FRAMEWORKS)
    for framework in FRAMEWORKS:
        shown = {re.match(r"\w+", theirs)[0] for name, theirs, _ in ROWS if name == framework}
        module = getattr(lrax.compat, framework)
        public = {
            name
            for name in module.__all__
            if not name.startswith("get_") or name == "get_scheduler"
        }
        assert shown == public


# What the frameworks have, of the versions in `golden/`, that is no function of the step count:
# controllers, base classes, and transformers' view into its Adafactor.
ELSE = {
    ("torch.optim.lr_scheduler", "torch"): {"LRScheduler", "ReduceLROnPlateau"},
    ("timm.scheduler", "timm"): {"PlateauLRScheduler", "Scheduler"},
    ("keras.optimizers.schedules", "keras"): {"LearningRateSchedule", "serialize", "deserialize"},
    ("optax.schedules", "optax"): {
        *(
            "Schedule",
            "StatefulSchedule",
            "WrappedSchedule",
            "InjectHyperparamsState",
            "InjectStatefulHyperparamsState",
        ),
        *("inject_hyperparams", "inject_stateful_hyperparams"),
    },
    ("transformers.optimization", "transformers"): {
        *("get_adafactor_schedule", "get_greedy_schedule", "get_reduce_on_plateau_schedule")
    },
}


@pytest.mark.parametrize(("path", "framework"), ELSE)
def test_there_is_no_other_scheduler(path, framework):
    theirs = pytest.importorskip(path, exc_type=ImportError)
    public = {name for name in dir(theirs) if name[0] != "_" and callable(getattr(theirs, name))}
    if framework == "torch":
        public = set(theirs.__all__)
    elif framework == "timm":
        public = {name for name in public if name.endswith("Scheduler")}
    elif framework == "transformers":
        public = {name for name in public if name.startswith("get_")}
    assert public - ELSE[path, framework] <= set(getattr(lrax.compat, framework).__all__)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row[2].startswith("`") and "..." not in row[2]], ids=str
)
def test_both_sides_are_equal(row):
    framework, theirs, ours = row
    form = re.match(r"`([^`]*)`", ours)[1]
    wanted = eval(theirs, vars(getattr(lrax.compat, framework)) | NAMES)
    found = eval(form, vars(lrax) | NAMES)
    # PyTorch's one-cycle bounces in the update after its last.
    counts = np.arange(100 if "OneCycleLR" in theirs else 140)
    np.testing.assert_allclose(
        found.values(counts), wanted.values(counts), rtol=1e-5, atol=1e-7 * wanted.values(140).max()
    )
