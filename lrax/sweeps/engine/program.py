"""Compiled programs, kept for reuse, into which data enters as an argument."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import numpy as jnp
from jax.core import eval_jaxpr
from jax.sharding import NamedSharding, PartitionSpec

from .xla.compiling import compiler_options
from .xla.convolutions import convolutions


class Program:
    """A pure function with its compiled forms, one for each set of argument shapes.

    `jax.jit` bakes the arrays that a function closes over into the program, a validation set for
    instance: one copy in the text to compile, another in the executable. Here they are turned into
    arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        donate: Sequence[int] = (),
        hasty: bool = False,
        shardings: tuple[Any, Any] | None = None,
    ):
        """A program of a function, which may be overwritten its arguments `donate`.

        Args:
          function: A pure function.
          donate: The positions of arguments whose buffers the results may take.
          hasty: Whether it runs so seldom that its compilation is to be quick rather than its code.
          shardings: How its arguments and its results lie on several devices; constants lie on all.
        """
        self.function = function
        self._donate = donate
        self._hasty = hasty
        self._shardings = shardings
        self._traced: dict[Any, tuple[Any, Any, Any]] = {}
        self._compiled: dict[Any, functools.partial[Any]] = {}
        self._analyses: dict[Any, Any] = {}

    def trace(self, *args: Any) -> Any:
        """Traces the function for such arguments, arrays or `jax.ShapeDtypeStruct`s, and gives its results' shapes."""
        key = _signature(args)
        if key not in self._traced:
            closed, shapes = jax.make_jaxpr(self.function, return_shape=True)(*args)
            self._traced[key] = closed, shapes, tuple(jax.tree.map(_shape, args))
        return self._traced[key][1]

    def lower(self, *args: Any) -> Callable[[], Any]:
        """Lowers it for such arguments, under the settings of this thread.

        Returns:
          A function that compiles it if it was not, and gives what was compiled. It may run on
          another thread: XLA lets go of Python meanwhile.
        """
        key = _signature(args)
        if key in self._compiled:
            return lambda: self._compiled[key].func
        shapes = self.trace(*args)
        closed, _, abstract = self._traced[key]
        structure = jax.tree.structure(shapes)
        constants = [
            value if isinstance(value, jax.Array) else jnp.asarray(value) for value in closed.consts
        ]

        def call(constants, *args):
            leaves = eval_jaxpr(closed.jaxpr, constants, *jax.tree.leaves(args))
            return jax.tree.unflatten(structure, leaves)

        options: dict[str, Any] = {}
        if self._shardings is not None:
            into, out = self._shardings
            everywhere = NamedSharding(jax.tree.leaves(into)[0].mesh, PartitionSpec())
            options = {"in_shardings": (everywhere, *into), "out_shardings": out}
            constants = [jax.device_put(value, everywhere) for value in constants]
        jitted = jax.jit(call, donate_argnums=[1 + i for i in self._donate], **options)
        lowered = jitted.lower(constants, *abstract)
        settings = (
            compiler_options(closed.jaxpr, hasty=self._hasty)
            if jax.default_backend() == "cpu"
            else {}
        )

        def compile_() -> Any:
            self._compiled[key] = functools.partial(
                lowered.compile(compiler_options=settings or None), constants
            )
            return self._compiled[key].func

        return compile_

    def ready(self, *args: Any) -> Callable[..., Any]:
        """Its compiled form for such arguments, which any thread may call: it heeds no settings of a thread."""
        return self._compiled[_signature(args)]

    def is_ready(self, *args: Any) -> bool:
        """Whether it is compiled for such arguments."""
        return _signature(args) in self._compiled

    def memory(self, *args: Any) -> Any:
        """XLA's account of the memory that its compiled form for such arguments takes."""
        return self._analysis("memory_analysis", args)

    def costs(self, *args: Any) -> Any:
        """XLA's account of what its compiled form for such arguments computes."""
        return self._analysis("cost_analysis", args)

    def _analysis(self, name: str, args: Any) -> Any:
        key = name, _signature(args)
        if key not in self._analyses:  # making one out takes milliseconds
            self._analyses[key] = getattr(self._compiled[key[1]].func, name)()
        return self._analyses[key]

    def contents(self, *args: Any) -> tuple[str, list[Any]]:
        """What it computes for such arguments, as text, and the arrays that it closes over; after `trace`."""
        closed = self._traced[_signature(args)][0]
        return closed.jaxpr.pretty_print(use_color=False), closed.consts

    def has_convolutions(self) -> bool:
        """Whether any of what was traced contains a convolution."""
        return any(
            next(convolutions(closed.jaxpr), None) is not None
            for closed, *_ in self._traced.values()
        )

    def __call__(self, *args: Any) -> Any:
        """Runs it, compiled for the shapes of these arguments if it was not."""
        key = _signature(args)
        if key not in self._compiled:
            self.lower(*args)()
        return self._compiled[key](*args)


def _shape(leaf: Any) -> Any:
    # Not the arrays themselves, nor where they lie: those of one call are not those of another.
    return (
        leaf
        if isinstance(leaf, jax.ShapeDtypeStruct)
        else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    )


def _signature(args: Any) -> Any:
    leaves, structure = jax.tree.flatten(args)
    config = jax.config  # a program compiled under one configuration is none for another
    settings = (
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_default_device,
    )  # pyright: ignore[reportAttributeAccessIssue]
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), settings
