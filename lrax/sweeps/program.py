"""Compiled programs, kept for reuse, into which data enters as an argument."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import numpy as jnp
from jax.core import eval_jaxpr


class Program:
    """A pure function with its compiled forms, one for each set of argument shapes.

    `jax.jit` bakes the arrays that a function closes over into the program, a validation set for instance: one copy in
    the text to compile, another in the executable. Here they are turned into arguments.
    """

    def __init__(self, function: Callable[..., Any], donate: Sequence[int] = (), *, hasty: bool = False):
        """A program of a function, which may be overwritten its arguments `donate`.

        Args:
          function: A pure function.
          donate: The positions of arguments whose buffers the results may take.
          hasty: Whether it runs so seldom that its compilation is to be quick rather than its code.
        """
        self.function = function
        self._donate = donate
        self._hasty = hasty
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._shapes: dict[Any, Any] = {}
        self._closed: dict[Any, Any] = {}

    def lower(self, *args: Any) -> tuple[Any, Callable[[], None]]:
        """Traces the function for such arguments, arrays or `jax.ShapeDtypeStruct`s, if it was not.

        Returns:
          The shapes of its results, and a function that compiles it, and may run on another thread: XLA lets go of
          Python meanwhile.
        """
        key = _signature(args)
        if key in self._compiled:
            return self._shapes[key], lambda: None
        closed, shapes = jax.make_jaxpr(self.function, return_shape=True)(*args)
        structure = jax.tree.structure(shapes)
        constants = [value if isinstance(value, jax.Array) else jnp.asarray(value) for value in closed.consts]

        def call(constants, *args):
            leaves = eval_jaxpr(closed.jaxpr, constants, *jax.tree.leaves(args))
            return jax.tree.unflatten(structure, leaves)

        lowered = jax.jit(call, donate_argnums=[1 + i for i in self._donate]).lower(constants, *args)
        # What draws random numbers takes LLVM longer to optimise than all else, for code that runs once. XLA's other
        # backends have no such setting, or do not heed it.
        options = {"xla_backend_optimization_level": 0} if self._hasty and jax.default_backend() == "cpu" else None

        def compile_() -> None:
            self._compiled[key] = functools.partial(lowered.compile(compiler_options=options), constants)

        self._shapes[key] = shapes
        self._closed[key] = closed
        return shapes, compile_

    def contents(self, *args: Any) -> tuple[str, list[Any]]:
        """What it computes for such arguments, as text, and the arrays that it closes over; after `lower`."""
        closed = self._closed[_signature(args)]
        return str(closed.jaxpr), closed.consts

    def __call__(self, *args: Any) -> Any:
        """Runs it, compiled for the shapes of these arguments if it was not."""
        key = _signature(args)
        if key not in self._compiled:
            self.lower(*args)[1]()
        return self._compiled[key](*args)


def _signature(args: Any) -> Any:
    leaves, structure = jax.tree.flatten(args)
    config = jax.config  # a program compiled under one configuration is none for another
    settings = (config.jax_enable_x64, config.jax_default_matmul_precision, config.jax_default_device)  # pyright: ignore[reportAttributeAccessIssue]
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), settings
