"""Compiled programs, kept for the next sweep of the same functions.

The key of an entry has weak references to the user's functions: those of the task, and the
optimizer. When one of them is garbage-collected, the entry is dropped. The cache keeps the most
recently used executables, up to a number of bytes. `jax.clear_caches()` empties it too, except in
jax 0.7, where that call does not drop static arguments.
"""

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import numpy as np

BYTES = 512 * 2**20  # of executables and their constants, at most

Value = TypeVar("Value")
Function = Any  # any callable: a function, a bound method, a `functools.partial`
KeyPart = Any  # an entry of a key, hashable; it may be a tuple of entries
PLAIN = (bool, int, float, str, bytes, type(None), np.generic)


class Reference:
    """A weak reference to a function, as part of a key.

    A function that does not support weak references is held by a strong one. If the function has no
    hash, neither has the key. Then `cached` keeps nothing, because no key could find it again.
    """

    def __init__(self, function: Function):
        # The hash is stored now, because it is needed after the function is gone: to delete an
        # entry, the dict looks up its key.
        try:
            self._hash: int | None = hash(function)
        except TypeError:
            self._hash = None
        self._strong: Function = None
        try:
            self._weak: Callable[[], Function] = weakref.ref(function, _forget)
        except TypeError:
            self._strong = function
            self._weak = lambda: self._strong

    def __hash__(self) -> int:
        if self._hash is None:
            raise TypeError("a function without a hash")
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reference):
            return NotImplemented
        mine = self._weak()
        others = other._weak()
        # A reference whose function is gone equals only itself. Otherwise it might match the
        # reference to another function that happens to have the same hash.
        if mine is None or others is None:
            return self is other
        # Equal values of two types may make two programs.
        return type(mine) is type(others) and mine == others

    @property
    def is_dead(self) -> bool:
        """Whether the function is gone."""
        return self._weak() is None


def reference(function: Function) -> KeyPart:
    """The part of a key that stands for a function.

    It is a `Reference`, with these exceptions. A `functools.partial` is often made anew for each
    call, so it is taken apart: two of them are equal if their functions and arguments are. A tuple
    is taken apart too. A plain value is represented by its type and its text.
    """
    if isinstance(function, PLAIN):
        # By its text, because 1 == 1.0 == True.
        return type(function), repr(function)
    if type(function) is tuple:
        return (tuple, *map(reference, function))
    if type(function) is not functools.partial:
        return Reference(function)
    keywords = sorted(function.keywords.items())
    parts = (
        functools.partial,
        reference(function.func),
        tuple(reference(argument) for argument in function.args),
        tuple((name, reference(argument)) for name, argument in keywords),
    )
    try:
        hash(parts)
    except TypeError:  # an argument has no hash, such as an array
        return Reference(function)
    return parts


_entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
# Re-entrant, because garbage collection may call `_forget` on a thread that holds the lock.
_lock = threading.RLock()


def cached(key: tuple[Any, ...], make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
    """The value kept under a key, or a new one.

    Args:
      key: A tuple. If the function of a `Reference` in it is garbage-collected, the entry is
        dropped.
      make: Makes the value. The value must hold none of those functions: they would never be
        garbage-collected, because the cache holds the value.
      size: Gives the bytes that a value takes.
    """
    _follow_jax()
    try:
        with _lock:
            if key in _entries:
                _entries.move_to_end(key)
                return _entries[key][0]
    except TypeError:  # the key has no hash, because a function in it has none
        return make()
    # Made without the lock, because compiling takes long. Two threads may make the same value; the
    # later one is kept.
    value = make()
    with _lock:
        _entries[key] = value, size(value)
        # The newest entry stays, even if it alone takes more than `BYTES`.
        while len(_entries) > 1 and sum(bytes_ for _, bytes_ in _entries.values()) > BYTES:
            _entries.popitem(last=False)
    return value


def clear() -> None:
    """Drops all entries."""
    with _lock:
        _entries.clear()


def _forget(_: weakref.ref[Function]) -> None:
    """Drops the entries of functions that are gone.

    Python calls it when a function with a weak reference is garbage-collected.
    """
    with _lock:
        dead = [key for key in _entries if any(_is_dead(part) for part in _flat(key))]
        for key in dead:
            del _entries[key]


def _flat(key: KeyPart) -> list[KeyPart]:
    """The entries of a key and of all tuples in it."""
    if isinstance(key, tuple):
        return [part for item in key for part in _flat(item)]
    return [key]


def _is_dead(part: KeyPart) -> bool:
    return isinstance(part, Reference) and part.is_dead


# JAX gives no notice when its caches are cleared. So a token is made that only those caches hold:
# it is the static argument of a jitted function. When the token is garbage-collected, the caches
# have been cleared.
class _Token:
    """An object that lives as long as JAX's caches hold the entry of `_held` for it."""


@functools.partial(jax.jit, static_argnums=0)
def _held(token: _Token) -> None:
    """Does nothing. JAX keeps its static argument until its caches are cleared."""


# A weak reference to the token; before the first token, a function that returns None.
_token: Callable[[], _Token | None] = lambda: None


def _follow_jax() -> None:
    """Makes a token if there is none. This cache is emptied when the token is collected."""
    global _token
    if _token() is None:
        token = _Token()
        _held(token)
        _token = weakref.ref(token)
        weakref.finalize(token, clear)
