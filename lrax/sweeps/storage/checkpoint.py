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

# Takes an entry of the configuration as it is stored and as this sweep has it. Returns how the two
# differ, or None if the sweep can go on.
Comparison = Callable[[Any, Any], str | None]


class State(NamedTuple):
    """The state of a sweep on the host, as JSON facts and arrays."""

    facts: Facts
    arrays: dict[str, np.ndarray]


class Checkpoint:
    """Saves a sweep's state to one place at intervals, and gives it back to the same call.

    The place is a file, or a directory that Orbax writes. A save replaces its content as a whole or
    not at all, so that there is one good state at any moment. The configuration of the sweep is
    stored beside the state, and a state of another configuration is refused.

    Args:
      path: The place.
      every: Seconds between two saves.
      configuration: The arguments and fingerprints that identify the sweep, as JSON.
      comparisons: `{name: comparison}` for the entries of the configuration that may differ. All
        other entries must be equal.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: float,
        configuration: Facts,
        comparisons: Mapping[str, Comparison] | None = None,
    ):
        self._in_orbax = orbax.is_path(path)
        if self._in_orbax:
            self.path = orbax.location(path)
        else:
            path = Path(path)
            self.path = str(path if path.suffix else path.with_suffix(".npz"))
        self._every = every
        self._configuration = configuration
        self._comparisons = comparisons or {}
        self._saved_at = time.monotonic()
        self._saved = False  # whether a state was saved or loaded
        self._warned = False

    def probe(self) -> None:
        """Checks that a state can be saved here, before hours of training depend on it.

        A saved state is not changed.

        Raises:
          OSError: if no state can be saved here.
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
        """The state to go on from, or `None` if nothing was saved yet.

        Args:
          expected: `{name: (shape, dtype)}` of every array, or a function of the stored facts that
            returns it. Arrays are checked against it before they are read.

        Raises:
          ValueError: if the checkpoint is damaged, or belongs to another configuration.
        """

        def checked(facts: Facts) -> Mapping[str, Kind] | None:
            # The configurations are compared before the arrays are checked. Arrays of another sweep
            # have other shapes, but the error must say how the sweeps differ.
            differences = _differences(
                facts.get("configuration"), self._configuration, self._comparisons
            )
            if differences:
                raise _OtherSweep(
                    f"`checkpoint` must be of the same sweep, got {self.path}, which differs"
                    " (there) from this call (here):\n"
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
            # `store` and `orbax` report every error as a damaged file, which this is not.
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
        """Replaces the saved state.

        Args:
          state: The new state.
          write: Whether this process writes it. Otherwise only the time of the save is noted.

        Raises:
          OSError: if the state cannot be written. The state saved before is kept.
        """
        # The time is noted before the write too. If the write fails, the next save is due after a
        # whole interval.
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
        """Saves as `save` does. The first failure is a warning, and later ones are silent.

        Training goes on in either case.

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
            # Addresses in memory, such as 0x7f12, differ from process to process.
            found.update(re.sub(r"0x[0-9a-f]+", "", leaf).encode())
        else:
            array = np.asarray(leaf)
            found.update(f"{array.dtype.name}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).view(np.uint8).data)
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
