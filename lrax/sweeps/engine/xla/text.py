"""A text of a traced function that is the same in every process.

In JAX's own text, an inner program that is used twice is written once and has a name. Which ones
JAX recognises as the same depends on what the process traced before, so its text differs between
processes.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

ADDRESS = re.compile(r"0x[0-9a-f]+")  # of an object in memory, in its `repr`

Param = Any  # a parameter of an equation
Atom = Any  # a variable or a literal


def text_of(jaxpr: Jaxpr) -> str:
    """One line per equation; inner programs are written out where they are used."""
    return "\n".join(_lines(jaxpr))


def _lines(jaxpr: Jaxpr) -> Iterator[str]:
    """The lines of a jaxpr: its inputs, its equations, its outputs."""
    # Variables are numbered in the order in which they appear; JAX's variables have no names.
    numbers: dict[Atom, int] = {}

    def name(atom: Atom) -> str:
        if isinstance(atom, Literal):
            return f"{np.asarray(atom.val).tolist()}:{atom.aval}"
        return f"v{numbers.setdefault(atom, len(numbers))}:{atom.aval}"

    yield "in " + " ".join(map(name, [*jaxpr.constvars, *jaxpr.invars]))
    for equation in jaxpr.eqns:
        arguments = " ".join(map(name, equation.invars))
        results = " ".join(map(name, equation.outvars))
        yield f"{results} = {equation.primitive.name} {arguments}"
        for key in sorted(equation.params):
            yield from _parameter(key, equation.params[key])
    yield "out " + " ".join(map(name, jaxpr.outvars))


def _parameter(key: str, value: Param) -> Iterator[str]:
    """The lines of a parameter of an equation."""
    if isinstance(value, ClosedJaxpr):
        value = value.jaxpr
    if isinstance(value, Jaxpr):
        yield f"{key} {{"
        yield from _lines(value)
        yield "}"
    elif isinstance(value, (tuple, list)) and any(
        isinstance(v, (ClosedJaxpr, Jaxpr)) for v in value
    ):
        for i, item in enumerate(value):
            yield from _parameter(f"{key}[{i}]", item)
    elif callable(value):
        # A derivative rule, for instance, which is not part of what is computed here. Its `repr`
        # may differ between processes.
        yield f"{key} a function"
    else:
        yield f"{key} {ADDRESS.sub('', repr(value))}"
