"""Tracing, lowering and compiling of functions.

The arrays that a function closes over become arguments of the compiled program.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import eval_jaxpr
from jax.extend.core import ClosedJaxpr
from jax.sharding import NamedSharding, PartitionSpec

from .xla.compiling import compiler_options
from .xla.convolutions import convolutions
from .xla.text import text_of

Tree = Any
Memory = Any  # XLA's `CompiledMemoryStats`, which has no public name
Signature = tuple[Any, ...]  # a hashable key


class Traced(NamedTuple):
    """A function traced for arguments of some shapes."""

    closed: ClosedJaxpr
    arguments: tuple[Tree, ...]  # of jax.ShapeDtypeStruct
    results: Tree  # of jax.ShapeDtypeStruct

    @property
    def text(self) -> str:
        """The traced program as text, without the values of the arrays in `closed.consts`."""
        return text_of(self.closed.jaxpr)

    @property
    def has_convolutions(self) -> bool:
        """Whether it contains a convolution."""
        return next(convolutions(self.closed.jaxpr), None) is not None


@dataclasses.dataclass(frozen=True)
class Executable:
    """A compiled program. Any thread may call it: JAX's settings matter only during lowering."""

    call: Callable[..., Tree]
    compiled: jax.stages.Compiled
    results: Tree  # of jax.ShapeDtypeStruct
    constants: int  # bytes of the arrays that the traced function closed over

    def __call__(self, *args: Tree) -> Tree:
        """Runs the program."""
        return self.call(*args)

    @functools.cached_property
    def memory(self) -> Memory | None:
        """XLA's estimate of the memory that the program takes, or None if there is none."""
        return self.compiled.memory_analysis()

    @functools.cached_property
    def flops(self) -> float | None:
        """Floating-point operations of one call, as XLA counts them, or None if it has no count."""
        costs = self.compiled.cost_analysis()
        # It is a dict, a list of one dict, or None, depending on the JAX version and the backend.
        costs = costs[0] if isinstance(costs, list) and costs else costs
        flops = costs.get("flops") if isinstance(costs, dict) else None
        return flops if flops and flops > 0 else None

    @property
    def bytes(self) -> int:
        """Bytes that it takes while it is kept: its code, and the arrays it closes over."""
        return self.constants + getattr(self.memory, "generated_code_size_in_bytes", 0)


def trace(function: Callable[..., Any], *args: Tree) -> Traced:
    """Traces a pure function for arguments of these shapes: arrays or `jax.ShapeDtypeStruct`s."""
    shapes = jax.tree.map(_shape, args)
    closed, results = jax.make_jaxpr(function, return_shape=True)(*shapes)
    return Traced(closed, shapes, results)


def lower(
    traced: Traced,
    *,
    donate: Sequence[int] = (),
    hasty: bool = False,
    shardings: tuple[Any, Any] | None = None,
) -> Callable[[], Executable]:
    """Lowers a traced function, under the settings of this thread.

    A function may close over arrays, such as a validation set. `jax.jit` would turn them into
    constants of the program, with one copy in the program's text and another one in the executable.
    Here they become arguments instead.

    Args:
      traced: The traced function.
      donate: Positions of the arguments to donate: results may take their buffers.
      hasty: Whether to compile quickly to slower code, for a program that runs once or seldom.
      shardings: The shardings of the arguments and of the results, for several devices. The
        constants are replicated on every device.

    Returns:
      A function that compiles it. Call it on other threads to compile several programs at once: XLA
      releases Python's global lock while it compiles.
    """
    closed, arguments, results = traced
    structure = jax.tree.structure(results)
    constants = [jnp.asarray(value) for value in closed.consts]
    jaxpr = closed.jaxpr

    def call(constants: list[jax.Array], *args: Tree) -> Tree:
        leaves = eval_jaxpr(jaxpr, constants, *jax.tree.leaves(args))
        return jax.tree.unflatten(structure, leaves)

    options: dict[str, Any] = {}
    if shardings is not None:
        into, out = shardings
        # An empty specification shards no axis, so every device has the whole array.
        everywhere = NamedSharding(jax.tree.leaves(into)[0].mesh, PartitionSpec())
        options = {"in_shardings": (everywhere, *into), "out_shardings": out}
        constants = [jax.device_put(value, everywhere) for value in constants]
    # The constants are argument 0 of `call`, so the positions of all other arguments move by one.
    jitted = jax.jit(call, donate_argnums=[1 + i for i in donate], **options)
    lowered = jitted.lower(constants, *arguments)
    # The options are for XLA's CPU backend; see `xla/compiling.py`.
    on_cpu = jax.default_backend() == "cpu"
    settings = compiler_options(jaxpr, hasty=hasty) if on_cpu else {}
    size = sum(value.nbytes for value in constants)

    def compile_() -> Executable:
        compiled = lowered.compile(compiler_options=settings or None)
        return Executable(functools.partial(compiled, constants), compiled, results, size)

    return compile_


def signature(args: Tree) -> Signature:
    """The part of a cache key that does not name the function: shapes, dtypes, JAX's settings."""
    leaves, structure = jax.tree.flatten(args)
    config = jax.config
    settings = (
        config.jax_enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
        config.jax_default_matmul_precision,  # pyright: ignore[reportAttributeAccessIssue]
        config.jax_default_device,  # pyright: ignore[reportAttributeAccessIssue]
    )
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), settings


def _shape(leaf: jax.Array | np.ndarray | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array, without its sharding: later calls may use another one."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
