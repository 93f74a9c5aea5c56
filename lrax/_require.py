"""Requirements on arguments: a concrete bad value raises an error.

A traced value has no number yet. It is not checked, unless the program is traced inside of
`with lrax.checks():`. Checks of ranges state what must hold (`value >= 0`), and not what is wrong
(`value < 0`). A comparison with NaN is false, so a NaN fails them; `held` and `number` allow it.
"""

import contextlib
import contextvars
import importlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import metadata
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jax.experimental import checkify

MOST = 2**31 - 1  # the largest int32, because programs count in int32
Unchecked = Any  # an argument as the caller gave it, before it is checked
LONG = 2**63 - 1  # the largest int64: the limit for numbers outside of programs, such as tokens

_CHECKING = contextvars.ContextVar("lrax.checks", default=False)


@contextlib.contextmanager
def checks() -> Iterator[None]:
    """Checks traced arguments too, in programs that are traced inside of this context.

    Use it to find out why a compiled program gives NaN. Outside of it, a traced argument is not
    checked and costs nothing. A checked program has an effect, which makes each of its calls
    several times slower. JAX caches compiled programs and would reuse one that was traced without
    checks, so the context clears JAX's caches on entry and on exit.

    Returns:
      A context manager.

    Example:
      >>> from jax.experimental import checkify
      >>> def rate(peak):
      ...     return lrax.cosine(peak, steps=100)(10)
      >>> with lrax.checks():
      ...     error, _ = checkify.checkify(jax.jit(rate))(-1.0)
      >>> print(error.get())
      `peak` must be finite and non-negative, got -1.0 (`check` failed)
    """
    jax.clear_caches()
    before = _CHECKING.set(True)
    try:
        yield
    finally:
        _CHECKING.reset(before)
        jax.clear_caches()


def float_dtype() -> np.dtype:
    """The dtype of every rate: float32, or float64 under x64."""
    wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    return np.dtype(np.float64 if wide else np.float32)


def real(**values: Any) -> dict[str, Any]:
    """Turns numbers into leaves of a pytree, which are strongly typed floats.

    Python numbers and NumPy arrays become NumPy arrays of float64: no device is touched, and whole
    numbers of steps stay exact. Without x64, JAX takes such an array as a strongly typed float32.
    A leaf with a weak type would cost a second trace, and an integer leaf would break `jax.grad`.
    JAX arrays that have the dtype of rates and no weak type stay on their device. Other concrete
    JAX arrays are copied to the host, because a cast under jit would turn them into tracers.
    """
    return {name: _as_leaf(name, value) for name, value in values.items()}


def scalars(**values: Any) -> dict[str, Any]:
    """Requires single real numbers, and returns them as leaves, as `real` does."""
    leaves = real(**values)
    for name, leaf in leaves.items():
        if np.ndim(leaf):
            raise ValueError(f"`{name}` must be a scalar, got one of shape {np.shape(leaf)}")
    return leaves


def _as_leaf(name: str, value: Any) -> Any:
    dtype = float_dtype()
    if isinstance(value, Tracer):
        if jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer):
            return jax.lax.convert_element_type(value, dtype)
    elif isinstance(value, jax.Array) and value.dtype == dtype and not value.weak_type:
        return value
    elif (array := as_numbers(value)) is not None:
        return array.astype(np.float64)  # a copy, because the caller may change the original
    raise TypeError(f"`{name}` must be a real number or an array of them, got {value!r}")


def as_numbers(value: Any) -> np.ndarray | None:
    """A concrete real number or array of them, as a NumPy array; None for anything else."""
    if isinstance(value, (str, bytes, Tracer)):
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # a ragged list, or a PRNG key of JAX
        return None
    # ml_dtypes' bfloat16 has kind "V" but can be cast, so `issubdtype` is asked too. A bool (kind
    # "b") is refused, because True is not a rate.
    is_real = array.dtype.kind in "fiu" or jnp.issubdtype(array.dtype, jnp.floating)
    return array if is_real else None


def unfit_dtypes(arrays: Any) -> list[str]:
    """The dtypes in a pytree of arrays that JAX lacks: objects, text, dates, durations, records."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(arrays)]
    return [str(t) for t in dtypes if t.kind in "OSUMm" or getattr(t, "names", None)]


def number(name: str, value: Any) -> float:
    """Requires one concrete real number, and returns a float. It may be infinite or NaN."""
    array = as_numbers(value)
    if array is None or array.ndim:
        raise TypeError(f"`{name}` must be a real number, got {value!r}")
    return float(array)


def held(name: str, numbers: np.ndarray) -> None:
    """Requires numbers whose rounding to the dtype of rates does not make them infinite.

    NaN and infinity themselves are allowed: a run that diverges is a result.
    """
    dtype = float_dtype()
    if np.any(np.isfinite(numbers) & (np.abs(numbers) > np.finfo(dtype).max)):
        raise ValueError(f"`{name}` must hold numbers that fit in {dtype}, got {numbers}")


def finite(values: Mapping[str, Any], *names: str) -> None:
    """Requires numbers that are neither infinite nor NaN."""
    for name in names:
        _hold(lambda value: abs(value) < np.inf, "finite", name, values[name])


def nonnegative(values: Mapping[str, Any], *names: str) -> None:
    """Requires finite numbers at or above zero."""
    for name in names:
        _hold(
            lambda value: (value >= 0) & (value < np.inf),
            "finite and non-negative",
            name,
            values[name],
        )


def positive(values: Mapping[str, Any], *names: str) -> None:
    """Requires finite numbers above zero."""
    for name in names:
        _hold(
            lambda value: (value > 0) & (value < np.inf), "finite and positive", name, values[name]
        )


def at_least(values: Mapping[str, Any], low: float, *names: str) -> None:
    """Requires finite numbers of at least `low`."""
    for name in names:
        _hold(
            lambda value: (value >= low) & (value < np.inf),
            f"finite and at least {low}",
            name,
            values[name],
        )


def not_below(values: Mapping[str, Any], low: float, *names: str) -> None:
    """Requires numbers of at least `low`, which may be infinite."""
    for name in names:
        _hold(lambda value: value >= low, f"at least {low}", name, values[name])


def between(values: Mapping[str, Any], low: float, high: float, *names: str) -> None:
    """Requires numbers from `low` to `high`, both included."""
    for name in names:
        _hold(
            lambda value: (value >= low) & (value <= high),
            f"from {low} to {high}",
            name,
            values[name],
        )


def below_one(values: Mapping[str, Any], *names: str) -> None:
    """Requires numbers of at least 0 and below 1, such as the decay of a moving average."""
    for name in names:
        _hold(
            lambda value: (value >= 0) & (value < 1),
            "at least 0 and below 1",
            name,
            values[name],
        )


def at_most(words: str, low: Any, high: Any) -> None:
    """Requires `low <= high`, up to a rounding error of a millionth of `high`.

    `words` begins the error message, in the caller's names: "`warmup` must be at most `steps`". If
    `low` is a tuple, the sum of its values is compared.
    """
    values = (*low, high) if isinstance(low, tuple) else (low, high)
    traced = any(isinstance(value, Tracer) for value in values)
    if traced and not _CHECKING.get():
        return
    *parts, high = values if traced else map(np.asarray, values)
    low = sum(parts)
    # Phases that are given as fractions of a run may add up to slightly more than the run.
    holds = low <= high * (1 + 1e-6)
    if traced:
        message = words + ", got {low} and {high}"
        checkify.check(jnp.all(holds), message, low=jnp.asarray(low), high=jnp.asarray(high))
    elif not np.all(holds):
        raise ValueError(f"{words}, got {low} and {high}")


def choice(name: str, value: Any, options: Iterable[str]) -> None:
    """Requires one of the given strings."""
    options = list(options)
    # Check the type first: `array in options` would compare the array entry by entry.
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, options))}, got {value!r}")


def flag(name: str, value: Any) -> bool:
    """Requires True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be a bool, got {value!r}")
    return value


def vector(values: Mapping[str, Any], *names: str) -> int:
    """Requires arrays of one axis and of the same length, and returns that length."""
    for name in names:
        if np.ndim(values[name]) != 1:
            raise ValueError(f"`{name}` must be a list of numbers, got {values[name]}")
    lengths = [np.shape(values[name])[0] for name in names]
    if len(set(lengths)) > 1:
        words = " and ".join(f"`{name}`" for name in names)
        raise ValueError(
            f"{words} must be of the same length, got {' and '.join(map(str, lengths))}"
        )
    return lengths[0]


def ascending(values: Mapping[str, Any], *names: str) -> None:
    """Requires lists whose numbers never decrease."""
    for name in names:
        _hold(
            lambda value: value[..., 1:] >= value[..., :-1],
            "in ascending order",
            name,
            values[name],
        )


def seconds(name: str, value: Any) -> float:
    """Requires a duration of at least 0: seconds, or a string such as "90s", "10min" or "2h"."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([\d.]+)\s*(s|min|h)\s*", value)
        if not match or match[1].count(".") > 1 or not match[1].strip("."):
            raise ValueError(
                f'`{name}` must be seconds, or a str such as "90s", "10min" or "2h", got {value!r}'
            )
        return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(
            f'`{name}` must be seconds, or a str such as "90s", "10min" or "2h", got {value!r}'
        )
    if not value >= 0:
        raise ValueError(f"`{name}` must be at least 0, got {value}")
    return float(value)


def listed(name: str, value: Any) -> list[Any]:
    """Requires an iterable other than a string or a mapping, and returns it as a list."""
    if isinstance(value, (str, bytes, Mapping)) or not np.iterable(value):
        raise TypeError(f"`{name}` must be a list, got {value!r}")
    return list(value)


def path(name: str, value: Any) -> str | os.PathLike[str]:
    """Requires the name of a file or a folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"`{name}` must be a path, a str or an os.PathLike, got {value!r}")
    if not os.fspath(value):
        raise ValueError(f"`{name}` must be a path, got an empty string")
    return value


def count(name: str, value: Any, low: int, high: int = MOST) -> int:
    """Requires a concrete whole number, such as the length of a loop or the size of a batch.

    The default limit is the largest int32, because programs count in int32.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an int, got {value!r}")
    if value < low:
        raise ValueError(f"`{name}` must be at least {low}, got {value}")
    if value > high:
        raise ValueError(f"`{name}` must be at most {high}, got {value}")
    return int(value)


def fraction(name: str, value: Any) -> float:
    """Requires a number strictly between 0 and 1."""
    found = number(name, value)
    if not 0 < found < 1:
        raise ValueError(f"`{name}` must be between 0 and 1, both excluded, got {value}")
    return found


def key(name: str, value: Any) -> jax.Array:
    """Requires one key of JAX, of the new style or the old."""
    # A key of the new style is a scalar; one of the old style is a vector of uint32.
    dtype = getattr(value, "dtype", np.dtype(object))
    axes = 0 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else 1 if dtype == np.uint32 else None
    if axes is None or np.ndim(value) != axes:
        raise TypeError(f"`{name}` must be one key, such as `jax.random.key(0)`, got {value!r}")
    return value


def _hold(holds: Callable[[Any], Any], words: str, name: str, value: Any) -> None:
    # Test whether the value is a tracer, not whether its comparison is: under `jax.jit`, comparing
    # a concrete JAX array gives a tracer too. Below, NumPy compares concrete values, on the host.
    if isinstance(value, Tracer):
        if _CHECKING.get():
            message = f"`{name}` must be {words}, got " + "{value}"
            checkify.check(jnp.all(holds(value)), message, value=value)
        return
    # The condition must hold before and after rounding to the dtype in which the rate is computed.
    exact = np.asarray(value)
    with np.errstate(over="ignore"):  # 1e300 becomes infinite in float32
        rounded = exact.astype(float_dtype())
    if not (np.all(holds(exact)) and np.all(holds(rounded))):
        raise ValueError(f"`{name}` must be {words}, got {value}")


def extra(module: str, name: str) -> Any:
    """Imports a package that belongs to an extra of lrax, or says which extra to install.

    An error inside an installed package is raised unchanged, because installing it again would not
    help.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # The module itself, or a package above it, must be the missing one. Otherwise the module
        # exists, and one of its own imports failed.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        message = f"this needs {error.name}, which is not installed: {installing(name)}"
        raise ImportError(message) from error


def installing(extra: str) -> str:
    """The commands that install an extra, with the repository's address from `pyproject.toml`."""
    urls = dict(line.split(", ") for line in metadata("lrax").get_all("Project-URL") or ())
    return (
        f'pip install "lrax[{extra}] @ git+{urls["Repository"]}", or pip install ".[{extra}]" in a'
        " clone"
    )
