"""What a traced function computes, as text that two processes agree on.

JAX's own text of a program names what is shared inside it, and what is shared depends on what was
traced before.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

ADDRESS = re.compile(r"0x[0-9a-f]+")


def text_of(jaxpr: Jaxpr) -> str:
    """A line for each equation, inner programs written out where they are used."""
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
        # A rule of differentiation, for instance, which is not part of what is computed.
        yield f"{key} a function"
    else:
        yield f"{key} {ADDRESS.sub('', repr(value))}"
