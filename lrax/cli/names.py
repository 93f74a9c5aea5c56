"""The names that a schedule given as text may use."""

import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import compat
from ..schedules.schedule import Schedule

Builder = Callable[..., Any]

# Each framework is a folder. Listing the folders does not import them.
FRAMEWORKS = tuple(module.name for module in pkgutil.iter_modules(compat.__path__) if module.ispkg)


class ScheduleNames(Mapping[str, Builder]):
    """The builders and combinators of lrax, and the schedules of other frameworks.

    A schedule of a framework has the framework's name in front: `torch.OneCycleLR`. A framework is
    imported when one of its names is looked up. Longer forms are accepted too:
    `compat.torch.OneCycleLR`, as the schedule prints it, and `lrax.cosine`, as code has it.
    Iteration gives each name once, in its short form.
    """

    def __getitem__(self, name: str) -> Builder:
        family, _, function = name.removeprefix("lrax.").removeprefix("compat.").rpartition(".")
        if family in FRAMEWORKS:
            module = getattr(compat, family)
            if function in module.__all__:
                return getattr(module, function)
        elif not family and not name.startswith(("compat.", "lrax.compat.")):
            return _own()[function]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        yield from _own()
        for family in FRAMEWORKS:
            yield from (f"{family}.{name}" for name in getattr(compat, family).__all__)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _own() -> dict[str, Builder]:
    """The functions of `lrax` itself that return a schedule."""
    # Modules of lrax import each other relatively, which cannot name the top package itself.
    package = sys.modules["lrax"]
    public = {name: getattr(package, name) for name in package.__all__}
    return {name: value for name, value in public.items() if _makes_schedule(value)}


def _makes_schedule(value: Any) -> bool:
    if not inspect.isfunction(value):
        return False
    # With `from __future__ import annotations`, an annotation is a string.
    return inspect.signature(value).return_annotation in (Schedule, "Schedule")
