"""`Best`: the best point of a sweep, and what its best seed ended with."""

import dataclasses
from typing import Any

import jax
import numpy as np

Params = Any  # a pytree of parameters
State = Any  # a pytree of a model's or an optimizer's state
Choice = Any  # an entry of an axis of choices: a Schedule, a function or another pytree
Value = float | Choice  # a hyperparameter at one point

# The limits of `repr(best)`: characters of one value, characters of all values together, and the
# number of values. They keep the text under 400 characters, whatever is swept.
LINE = 90
LENGTH = 240
VALUES = 6


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Best:
    """The best point of a sweep, and what its best seed ended with.

    Attributes:
      hyperparams: `{name: value}`: plain floats, and the user's own objects on an axis of choices.
        If all names are parameters of the optimizer, `optimizer(**best.hyperparams)` builds the
        optimizer that trained the best point.
      params: The parameters of the best point's best seed, without the model's state.
      state: The model's state, such as batch statistics; `None` if the task is stateless.
      opt_state: The optimizer's state; `None` if it was not kept.
    """

    hyperparams: dict[str, Value]
    params: Params = None
    state: State = None
    opt_state: State = None

    def __repr__(self) -> str:
        """The hyperparameters and the size of the parameters. Their values would fill pages."""
        values = [f"{name}={_short(value)}" for name, value in self.hyperparams.items()]
        if len(values) > VALUES:
            # The words "and ... more" count as one of the values shown.
            values = [*values[: VALUES - 1], f"and {len(values) - VALUES + 1} more"]
        words = ", ".join(values)
        words = words if len(words) <= LENGTH else words[: LENGTH - 3] + "..."
        leaves = [np.size(leaf) for leaf in jax.tree.leaves(self.params)]
        kept = f"params: {len(leaves)} arrays of {sum(leaves):,} numbers"
        kept = kept if leaves else "no params"
        beside = {"state": self.state, "opt_state": self.opt_state}
        also = "".join(f", {name}" for name, value in beside.items() if value is not None)
        return f"Best({words}; {kept}{also})"


def _short(value: Value) -> str:
    """A hyperparameter in one line of text."""
    if isinstance(value, (float, int)):
        return f"{value:.6g}"
    text = getattr(value, "__name__", None) or repr(value)
    text = " ".join(text.split())
    return text if len(text) <= LINE else text[: LINE - 3] + "..."
