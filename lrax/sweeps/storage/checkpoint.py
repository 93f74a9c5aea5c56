"""A sweep's state on disk, so that a killed run continues where it was."""

import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import files, orbax, store
from .arrays import Expected, Facts, Kind

Tree = Any  # a pytree

FORMAT = "lrax.Checkpoint/4"

# Says how an entry of the stored configuration differs from that of this sweep; None if it does
# not.
Comparison = Callable[[Any, Any], str | None]


class State(NamedTuple):
    """A sweep under way, on the host: JSON facts and arrays."""

    facts: Facts
    arrays: dict[str, np.ndarray]


class Checkpoint:
    """Saves a sweep's state to one place every so many seconds, and gives it back to the same call.

    The place is a file, or a directory that Orbax keeps. It is replaced as a whole or not at all,
    so that there is one good state at any moment. The configuration that the state belongs to is
    stored beside it: a state of another configuration is refused.

    Args:
      path: The place.
      every: Seconds between two saves.
      configuration: What the state belongs to, as JSON.
      comparisons: For entries of the configuration that need not be equal, what must hold.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: float,
        configuration: Facts,
        comparisons: Mapping[str, Comparison] | None = None,
    ):
        self._in_orbax = orbax.names(path)
        if self._in_orbax:
            self.path = orbax.location(path)
        else:
            path = Path(path)
            self.path = str(path if path.suffix else path.with_suffix(".npz"))
        self._every = every
        self._configuration = configuration
        self._comparisons = comparisons or {}
        self._saved_at = time.monotonic()
        self._saved = False  # or loaded
        self._warned = False

    def probe(self) -> None:
        """Checks that a state can be saved here, before hours of training depend on it.

        Raises:
          OSError: if not. What is there is not changed.
        """
        try:
            if self._in_orbax:
                orbax.probe(self.path)
            else:
                files.probe(self.path)
        except OSError as error:
            raise OSError(
                error.errno,
                f"`checkpoint` must be a place that can be written: {error.strerror or error}",
                self.path,
            ) from error

    def load(self, expected: Expected | None = None) -> State | None:
        """The state to go on from, or `None` where there is none yet.

        Args:
          expected: `{name: (shape, dtype)}` of every array, or a function of the stored facts that
            gives it. Arrays are checked against it before they are read.

        Raises:
          ValueError: if it is not a whole checkpoint, or one of another configuration.
        """

        def checked(facts: Facts) -> Mapping[str, Kind] | None:
            # Before the arrays, whose shapes differ too if the sweep is another.
            differences = _differences(
                facts.get("configuration"), self._configuration, self._comparisons
            )
            if differences:
                raise _OtherSweep(
                    f"`checkpoint` must be of the same sweep, got one of another in {self.path}:\n"
                    "  " + "\n  ".join(differences) + "\n"
                    "Give the arguments of that sweep again to go on with it, "
                    "or another path to begin anew."
                )
            return expected(facts) if callable(expected) else expected

        try:
            arrays, facts = (orbax if self._in_orbax else store).load(
                self.path, FORMAT, expected=checked
            )
        except FileNotFoundError:
            return None
        except ValueError as error:
            if isinstance(error.__cause__, _OtherSweep):
                raise error.__cause__ from None
            raise
        self._saved = True
        return State(facts, arrays)

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
        facts = {**state.facts, "configuration": self._configuration}
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

    def try_save(self, state: State, *, write: bool = True) -> OSError | None:
        """Saves like `save`, but warns, once, where it cannot, so that training goes on.

        Returns:
          The error, or `None` if the state was saved.
        """
        try:
            self.save(state, write=write)
        except OSError as error:
            if not self._warned:
                warnings.warn(f"{error} Training goes on.", RuntimeWarning, stacklevel=2)
            self._warned = True
            return error
        return None


def digest(*values: Tree) -> str:
    """A fingerprint of arrays and texts, the same in every process."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(values):
        if isinstance(leaf, str):
            # Addresses in a text differ from process to process.
            found.update(re.sub(r"0x[0-9a-f]+", "", leaf).encode())
        else:
            array = np.asarray(leaf)
            found.update(f"{array.dtype.name}{array.shape}".encode())
            found.update(
                np.ascontiguousarray(array).view(np.uint8).data if array.ndim else array.tobytes()
            )
    return found.hexdigest()[:16]


class _OtherSweep(ValueError):
    pass


def _differences(old: Any, new: Facts, comparisons: Mapping[str, Comparison]) -> list[str]:
    if not isinstance(old, dict):
        return [f"configuration: {_short(old)} there"]
    names = list(dict.fromkeys([*old, *new]))
    found = {
        name: comparisons.get(name, _inequality)(old.get(name), new.get(name)) for name in names
    }
    return [f"{name}: {words}" for name, words in found.items() if words is not None]


def _inequality(old: Any, new: Any) -> str | None:
    # The texts are compared because a NaN of the grid is unequal to itself.
    if repr(old) == repr(new):
        return None
    return f"{_short(old)} there, {_short(new)} here"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:70]} ... {text[-20:]}"
