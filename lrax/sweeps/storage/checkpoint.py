"""A sweep's state on disk, so that a run that is killed goes on where it was."""

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import orbax, store

FORMAT = "lrax.Checkpoint/2"


class State(NamedTuple):
    """A sweep under way, on the host: what `Run` makes of it, and takes back."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Checkpoint:
    """Saves a sweep's state to one place every so many seconds, and gives it back to the same call.

    It is a file, or a directory that Orbax keeps, and is replaced whole or not at all, so there is
    one good state at any moment. What the state belongs to, its configuration, is stored beside it:
    a state of another one is refused.
    """

    def __init__(self, path: str | os.PathLike[str], every: float, configuration: dict[str, Any]):
        self._in_orbax = orbax.names(path)
        if self._in_orbax:
            self.path = orbax.location(path)
        else:
            path = Path(path)
            self.path = str(path if path.suffix else path.with_suffix(".npz"))
        self._every = every
        self._configuration = configuration
        self._saved_at = time.monotonic()
        self._saved = False  # or loaded

    def load(self) -> State | None:
        """The state to go on from, or `None` where there is none yet.

        Raises:
          ValueError: if it is no whole checkpoint, or one of another configuration.
        """
        try:
            arrays, facts = (orbax if self._in_orbax else store).load(self.path, FORMAT)
        except FileNotFoundError:
            return None
        differences = _differences(facts["configuration"], self._configuration)
        if differences:
            raise ValueError(
                f"`checkpoint` must be of the same sweep, got one of another in {self.path}:\n  "
                + "\n  ".join(differences)
                + "\nGive the arguments of that sweep again to go on with it, or another path to begin anew."
            )
        self._saved = True
        return State(facts, arrays)

    def probe(self):
        pass

    def try_save(self, state, *, write=True):
        self.save(state, write=write)

    @property
    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_at >= self._every

    def save(self, state: State, *, write: bool = True) -> None:
        """Replaces the state that is there; only marks the time unless `write`.

        Raises:
          OSError: if it cannot be written; the one that was there is kept.
        """
        self._saved_at = time.monotonic()
        if not write:
            return
        facts = {"configuration": self._configuration, **state.facts}
        try:
            if self._in_orbax:
                orbax.save(self.path, state.arrays, facts, FORMAT)
            else:
                store.save(self.path, state.arrays, facts, FORMAT, compressed=False)
        except OSError as error:
            kept = " The one saved before is kept." if self._saved else ""
            raise OSError(
                error.errno,
                f"the checkpoint could not be written: {error.strerror}.{kept}",
                self.path,
            ) from error
        self._saved = True
        self._saved_at = time.monotonic()


def digest(*values: Any) -> str:
    """A fingerprint of arrays and texts."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(values):
        if isinstance(leaf, str):
            found.update(
                re.sub(r"0x[0-9a-f]+", "", leaf).encode()
            )  # addresses, which differ from run to run
        else:
            array = np.asarray(leaf)
            found.update(f"{array.dtype.name}{array.shape}".encode())
            found.update(
                np.ascontiguousarray(array).view(np.uint8).data if array.ndim else array.tobytes()
            )
    return found.hexdigest()[:16]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = list(dict.fromkeys([*old, *new]))
    return [
        f"{name}: {_short(old.get(name))} there, {_short(new.get(name))} here"
        for name in names
        if repr(old.get(name)) != repr(new.get(name))  # for a NaN of the grid is unequal to itself
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:70]} ... {text[-20:]}"
