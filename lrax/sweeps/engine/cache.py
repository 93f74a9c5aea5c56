"""Compiled programs, kept for the next sweep of the same functions.

An entry belongs to the user's functions, the task's and the optimizer, and holds none of them: it
goes when one of them does. The cache keeps executables up to a number of bytes, the ones used last,
and `jax.clear_caches()` empties it; not yet in jax 0.7, which keeps static arguments then.
"""

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax

BYTES = 512 * 2**20  # of executables and their constants, at most

Value = TypeVar("Value")


class Reference:
    """A function as part of a key, which does not keep it alive.

    What cannot be referenced weakly, such as a built-in, is held. A function without a hash gives a
    key without a hash, which `cached` does not keep: nobody knows whether it is the same again.
    """

    def __init__(self, function: Any):
        try:
            self._hash: int | None = hash(function)
        except TypeError:
            self._hash = None
        self._strong: Any = None
        try:
            self._weak: Callable[[], Any] = weakref.ref(function, _forget)
        except TypeError:
            self._strong = function
            self._weak = lambda: self._strong

    def __hash__(self) -> int:
        if self._hash is None:
            raise TypeError("a function without a hash")
        return self._hash

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Reference):
            return NotImplemented
        mine, others = self._weak(), other._weak()
        return self is other if mine is None or others is None else mine == others

    @property
    def is_dead(self) -> bool:
        """Whether the function is gone."""
        return self._weak() is None


_entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
_lock = threading.RLock()


def cached(key: tuple[Any, ...], make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
    """The value kept under a key, or a new one.

    Args:
      key: A tuple; a `Reference` in it ends the entry when its function ends.
      make: Makes the value. It must hold none of the functions that the key refers to.
      size: The bytes that it takes.
    """
    _follow_jax()
    try:
        with _lock:
            if key in _entries:
                _entries.move_to_end(key)
                return _entries[key][0]
    except TypeError:  # a callable without a hash: made for this sweep alone
        return make()
    value = make()
    with _lock:
        _entries[key] = value, size(value)
        while len(_entries) > 1 and sum(bytes_ for _, bytes_ in _entries.values()) > BYTES:
            _entries.popitem(last=False)
    return value


def clear() -> None:
    """Forgets everything."""
    with _lock:
        _entries.clear()


def _forget(_: Any) -> None:
    """Drops the entries of functions that are gone."""
    with _lock:
        dead = [key for key in _entries if any(_is_dead(part) for part in _flat(key))]
        for key in dead:
            del _entries[key]


def _flat(key: Any) -> list[Any]:
    if isinstance(key, tuple):
        return [part for item in key for part in _flat(item)]
    return [key]


def _is_dead(part: Any) -> bool:
    return isinstance(part, Reference) and part.is_dead


class _Token:
    """Lives as long as JAX's own caches keep the program below."""


@functools.partial(jax.jit, static_argnums=0)
def _held(token: _Token) -> None:
    """A program whose static argument JAX keeps until its caches are cleared."""


_token: Callable[[], _Token | None] = lambda: None


def _follow_jax() -> None:
    """Empties this cache when `jax.clear_caches()` is called."""
    global _token
    if _token() is None:
        token = _Token()
        _held(token)
        _token = weakref.ref(token)
        weakref.finalize(token, clear)
