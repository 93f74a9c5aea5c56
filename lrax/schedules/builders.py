"""The declaration that ties a formula to its builder.

    @builder(cosine, landmarks=..., shown=...)
    def _cosine(count, peak, steps, end): ...

It is the only place where `repr`, `replace` and the pictures look up what belongs to a formula.
Nothing is found by how a name is spelled. A formula without a declaration, such as a user's own,
has no builder, and prints under its own name.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Formula = Callable[..., Any]  # (count, **hyperparams) -> rate
Hyperparams = dict[str, Any]  # a pytree


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What belongs to a formula.

    Args:
      build: The public function that makes a `Schedule` of the formula.
      name: How the builder is printed.
      shown: Function from the hyperparameters to the builder's arguments; `None` where they are
        the same.
      landmarks: Function that says where things happen, for pictures (see `landmarks.py`); `None`
        reads it from the names of the hyperparameters.
      ranks: Axes of each hyperparameter; one that is not named is a number, with 0 axes. Axes in
        front of them are lanes. A name instead of a number: one number, or a list with an entry per
        entry of the argument of that name.
    """

    build: Callable[..., Any]
    name: str
    shown: Callable[[Hyperparams], Hyperparams] | None = None
    landmarks: Callable[[Any], Any] | None = None
    ranks: Mapping[str, int | str] = dataclasses.field(default_factory=dict)


_DECLARED: dict[Formula, Declaration] = {}
_NAMED: dict[str, Declaration] = {}


def builder(
    build: Callable[..., Any],
    *,
    name: str | None = None,
    shown: Callable[[Hyperparams], Hyperparams] | None = None,
    landmarks: Callable[[Any], Any] | None = None,
    ranks: Mapping[str, int | str] | None = None,
) -> Callable[[Formula], Formula]:
    """Declares the builder of a formula; a decorator of the formula.

    Args:
      build: The builder. It stands above the formula and returns `Schedule(formula, {...})`.
      name: How the builder is printed, such as "compat.torch.OneCycleLR"; `None` is the builder's
        own name.
      shown: As under `Declaration`.
      landmarks: As under `Declaration`.
      ranks: As under `Declaration`.

    Returns:
      A decorator that returns the formula as it is.
    """
    declaration = Declaration(build, name or build.__name__, shown, landmarks, ranks or {})

    def declare(formula: Formula) -> Formula:
        _DECLARED[formula] = declaration
        _NAMED[declaration.name] = declaration
        return formula

    return declare


def declared(formula: Formula) -> Declaration | None:
    """The declaration of a formula, if it has one."""
    try:
        return _DECLARED.get(formula)
    except TypeError:  # a callable object that cannot be hashed
        return None


def named(name: str) -> Declaration | None:
    """The declaration that prints under a name, if there is one."""
    return _NAMED.get(name)


def name_of(formula: Formula) -> str:
    """How a formula is printed: as its builder, or under its own qualified name."""
    declaration = declared(formula)
    if declaration is not None:
        return declaration.name
    return getattr(formula, "__qualname__", None) or repr(formula)
