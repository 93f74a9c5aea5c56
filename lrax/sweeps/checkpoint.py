"""A sweep's state on disk, so that a run that is killed goes on where it was."""

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import store

FORMAT = "lrax.Checkpoint/1"


class State(NamedTuple):
    """A sweep under way, on the host."""

    done: int  # updates made by every lane
    lanes: list[np.ndarray]  # leaves
    records: list[np.ndarray]  # leaves, each [done, groups, members]
    evaluations: list[tuple[int, dict[str, np.ndarray]]]


class Checkpoint:
    """Saves a sweep's state to one file every so many seconds, and gives it back to the same call.

    A file is replaced whole or not at all, so there is one good state at any moment. What the state belongs to, its
    configuration, is stored beside it: a state of another one is refused.
    """

    def __init__(self, path: str | os.PathLike[str], every: float, configuration: dict[str, Any]):
        path = Path(path)
        self.path = path if path.suffix else path.with_suffix(".npz")
        self._every = every
        self._configuration = configuration
        self._saved_at = time.monotonic()

    def load(self) -> State | None:
        """The state to go on from, or `None` where there is no file yet.

        Raises:
          ValueError: if the file is no whole checkpoint, or one of another configuration.
        """
        try:
            arrays, facts = store.load(self.path, FORMAT)
        except FileNotFoundError:
            return None
        differences = _differences(facts["configuration"], self._configuration)
        if differences:
            raise ValueError(
                f"`checkpoint` must be of the same sweep, got one of another in {self.path}:\n  "
                + "\n  ".join(differences)
                + "\nGive the arguments of that sweep again to go on with it, or another path to begin anew."
            )
        of = lambda group: [arrays[f"{group}/{i}"] for i in range(facts[group])]
        names = facts["metrics"]
        evaluations = [
            (at, {name: arrays[f"evaluations/{i}/{name}"] for name in names})
            for i, at in enumerate(facts["evaluated_at"])
        ]
        return State(facts["done"], of("lanes"), of("records"), evaluations)

    @property
    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_at >= self._every

    def save(self, state: State) -> None:
        """Replaces the file.

        Raises:
          OSError: if it cannot be written; the file that was there is kept.
        """
        arrays = {
            f"{group}/{i}": leaf for group in ("lanes", "records") for i, leaf in enumerate(getattr(state, group))
        }
        for i, (_, metrics) in enumerate(state.evaluations):
            arrays |= {f"evaluations/{i}/{name}": values for name, values in metrics.items()}
        facts = {
            "configuration": self._configuration,
            "done": state.done,
            "lanes": len(state.lanes),
            "records": len(state.records),
            "evaluated_at": [at for at, _ in state.evaluations],
            "metrics": sorted({name for _, metrics in state.evaluations for name in metrics}),
        }
        try:
            store.save(self.path, arrays, facts, FORMAT, compressed=False)
        except OSError as error:
            kept = " The one saved before is kept." if self.path.exists() else ""
            raise OSError(
                error.errno, f"the checkpoint could not be written: {error.strerror}.{kept}", str(self.path)
            ) from error
        self._saved_at = time.monotonic()


def digest(*values: Any) -> str:
    """A fingerprint of arrays and texts."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(values):
        if isinstance(leaf, str):
            found.update(re.sub(r"0x[0-9a-f]+", "", leaf).encode())  # addresses, which differ from run to run
        else:
            array = np.asarray(leaf)
            found.update(f"{array.dtype.name}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).view(np.uint8).data if array.ndim else array.tobytes())
    return found.hexdigest()[:16]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = list(dict.fromkeys([*old, *new]))
    return [
        f"{name}: {_short(old.get(name))} there, {_short(new.get(name))} here"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:70]} ... {text[-20:]}"
