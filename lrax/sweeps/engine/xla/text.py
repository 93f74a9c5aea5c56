"""A text of a traced function that is the same in every process.

JAX's own text gives names to shared inner programs. Which ones are shared depends on what the
process traced before, so that text differs between processes.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

ADDRESS = re.compile(r"0x[0-9a-f]+")


def text_of(jaxpr: Jaxpr) -> str:
    """One line per equation; inner programs are written out where they are used."""
    return "\n".join(_lines(jaxpr))


def _lines(jaxpr: Jaxpr) -> Iterator[str]:
    numbers: dict[Any, int] = {}

    def name(atom: Any) -> str:
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


def _parameter(key: str, value: Any) -> Iterator[str]:
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
        # For instance a derivative rule: it is not part of the computation.
        yield f"{key} a function"
    else:
        yield f"{key} {ADDRESS.sub('', repr(value))}"
