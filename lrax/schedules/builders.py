"""The declaration that ties a formula to its builder.

    @builder(cosine, landmarks=..., shown=...)
    def _cosine(count, peak, steps, end): ...

`repr`, `replace` and the pictures read this declaration to learn about a formula. They never guess
from the spelling of a function's name. A formula without a declaration, such as a user's own, has
no builder, and prints under its own name.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Formula = Callable[..., Any]  # (count, **hyperparams) -> rate
Hyperparams = dict[str, Any]  # a pytree


@dataclasses.dataclass(frozen=True)
class Declaration:
    """The builder of a formula, and how the formula is printed, drawn and mapped over lanes.

    Args:
      build: The public function that makes a `Schedule` of the formula.
      name: How the builder is printed.
      shown: Function from the hyperparameters to the builder's arguments; `None` if the two are the
        same.
      landmarks: Function that returns the counts where something happens, for pictures (see
        `landmarks.py`); with `None` they follow from the names of the hyperparameters.
      ranks: Number of axes of each hyperparameter. A hyperparameter that is not listed is a scalar,
        with 0 axes. Further axes in front are lane axes. If the name of another hyperparameter
        stands in place of the number, the value is a scalar or a list as long as that one.
    """

    build: Callable[..., Any]
    name: str
    shown: Callable[[Hyperparams], Hyperparams] | None = None
    landmarks: Callable[[Any], Any] | None = None
    ranks: Mapping[str, int | str] = dataclasses.field(default_factory=dict)


_DECLARED: dict[Formula, Declaration] = {}  # by formula, for `repr` and `replace`
_NAMED: dict[str, Declaration] = {}  # by printed name, for `Schedule.from_dict`


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
      A decorator that returns the formula unchanged.
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
    """The declaration of the builder that is printed as `name`, if there is one."""
    return _NAMED.get(name)


def name_of(formula: Formula) -> str:
    """How a formula is printed: by the name of its builder, or by its own qualified name."""
    declaration = declared(formula)
    if declaration is not None:
        return declaration.name
    return getattr(formula, "__qualname__", None) or repr(formula)
