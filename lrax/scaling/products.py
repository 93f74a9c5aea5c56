"""The outputs of a network's layers, read from the program of its loss.

A task is opaque: it has a loss, and no list of layers. But the program of the loss shows each
product in which a parameter takes part. What such a product returns is the output of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from .parameters import parameters

Params = Any
Outputs = dict[str, jax.Array]

DATA = -1  # the source of all values that are not parameters: the batch, a key, a state
PRODUCTS = ("dot_general", "conv_general_dilated")
# Calls whose inner program is run in their place. A loop or a branch is not among them.
CALLS = ("pjit", "jit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
CALLS += ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
# What these return is still the output of the layer, up to a constant factor or in another shape.
# Such a factor may depend on the width: the multiplier of an output, or the scale of attention.
FACTORS = ("mul", "div", "neg", "convert_element_type", "reshape", "transpose", "squeeze")


class _Value(NamedTuple):
    """A value of the program.

    Attributes:
      value: The array.
      sources: Indices of the parameters that it depends on, with `DATA` if it depends on others.
      layer: The name of the layer whose output it is, or None.
    """

    value: Any
    sources: frozenset[int] = frozenset()
    layer: str | None = None


def layer_outputs(function: Callable[..., Any], params: Params, *arguments: Any) -> Outputs:
    """The output of each layer, by the path of its parameter, in the order of the program.

    A layer is a product of a parameter with an activation: a matrix product, a convolution, or a
    table of embeddings at some indices. If a parameter takes part in several, the name of the
    second is its path and " (2)". Products of two activations, as in attention, are "product",
    "product (2)". Constant factors that follow a product belong to it.

    Products inside of a loop or a branch are not seen, except for a `scan` over the parameters of
    several layers, which is unrolled.

    Args:
      function: A function of `params` and `arguments`, such as a loss.
      params: The parameters.
      arguments: What else the function takes, such as a batch.
    """
    program = jax.make_jaxpr(function)(params, *arguments)
    weights = [_Value(leaf, frozenset([i])) for i, leaf in enumerate(jax.tree.leaves(params))]
    data = [_Value(leaf, frozenset([DATA])) for leaf in jax.tree.leaves(arguments)]
    reader = _Reader(parameters("params", params).paths)
    reader.run(program, [*weights, *data])
    return reader.outputs


class _Reader:
    """Runs a program and keeps the outputs of its layers."""

    def __init__(self, paths: list[str]):
        self.paths = paths
        self.outputs: Outputs = {}

    def run(self, program: ClosedJaxpr, inputs: Sequence[_Value]) -> list[_Value]:
        """The outputs of a program for some inputs."""
        known: dict[Any, _Value] = {}

        def read(variable: Any) -> _Value:
            return _Value(variable.val) if isinstance(variable, Literal) else known[variable]

        known.update(zip(program.jaxpr.constvars, map(_Value, program.consts), strict=True))
        known.update(zip(program.jaxpr.invars, inputs, strict=True))
        for equation in program.jaxpr.eqns:
            outputs = self._equation(equation, [read(v) for v in equation.invars])
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(v) for v in program.jaxpr.outvars]

    def _equation(self, equation: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        name = equation.primitive.name
        if name in CALLS:
            return self.run(_inner(equation), inputs)
        if name == "scan":
            first = equation.params["num_consts"] + equation.params["num_carry"]
            if any(
                value.sources - {DATA} and DATA not in value.sources for value in inputs[first:]
            ):
                return self._scan(equation, inputs, first)
        # Older versions of JAX return functions beside the parameters.
        bound = equation.primitive.get_bind_params(equation.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        found = equation.primitive.bind(*functions, *(value.value for value in inputs), **params)
        values = found if equation.primitive.multiple_results else [found]
        sources = frozenset().union(*(value.sources for value in inputs))
        layer = self._layer(name, inputs)
        if layer is not None:
            self.outputs[layer] = values[0]
        return [_Value(value, sources, layer) for value in values]

    def _scan(self, equation: JaxprEqn, inputs: list[_Value], first: int) -> list[_Value]:
        """A scan over the parameters of several layers, unrolled."""
        fixed = inputs[: equation.params["num_consts"]]
        carry = inputs[equation.params["num_consts"] : first]
        places = range(equation.params["length"])
        rows = []
        for i in reversed(places) if equation.params["reverse"] else places:
            slices = [_Value(value.value[i], value.sources) for value in inputs[first:]]
            outputs = self.run(equation.params["jaxpr"], [*fixed, *carry, *slices])
            carry = outputs[: len(carry)]
            rows.append(outputs[len(carry) :])
        rows = rows[::-1] if equation.params["reverse"] else rows
        stacked = []
        for column in zip(*rows, strict=True):
            sources = frozenset().union(*(value.sources for value in column))
            stacked.append(_Value(jnp.stack([value.value for value in column]), sources))
        return [*carry, *stacked]

    def _layer(self, name: str, inputs: list[_Value]) -> str | None:
        """The name of the layer whose output the equation returns, or None."""
        if name in PRODUCTS or name == "gather":
            one, other = (value.sources for value in inputs[:2])
            weights = one if DATA not in one else other
            against = other if weights is one else one
            if DATA not in weights and weights and DATA in against:
                if name == "gather" and weights is not one:
                    return None  # the indices depend on the parameters, and the table does not
                return self._new(", ".join(self.paths[i] or "params" for i in sorted(weights)))
            if name != "gather" and len(one) > 1 and len(other) > 1 and DATA in one & other:
                return self._new("product")
            return None
        passed = [value.layer for value in inputs if value.sources]
        is_divisor = name == "div" and not inputs[0].sources
        return passed[0] if name in FACTORS and len(passed) == 1 and not is_divisor else None

    def _new(self, name: str) -> str:
        names = (name, *(f"{name} ({i})" for i in range(2, len(self.outputs) + 2)))
        return next(name for name in names if name not in self.outputs)


def _inner(equation: JaxprEqn) -> ClosedJaxpr:
    """The program inside of a call."""
    inner = _first_program(equation.params.values())
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, [])


def _first_program(values: Iterable[Any]) -> ClosedJaxpr | Jaxpr:
    return next(value for value in values if isinstance(value, (ClosedJaxpr, Jaxpr)))
