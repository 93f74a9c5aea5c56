"""Patterns of the paths of parameters: which one catches which parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def caught(name: str, patterns: Mapping[str, Any], tree: str, paths: list[str]) -> list[str | None]:
    """The first pattern that is found in each path, or None.

    Requires regular expressions, each of which catches at least one path: a pattern without effect
    is a mistake.

    Args:
      name: The argument that has the patterns, for errors.
      patterns: The patterns, as the keys of a mapping.
      tree: The argument that has the parameters, for errors.
      paths: The paths of the parameters.
    """
    if not isinstance(patterns, Mapping):
        raise TypeError(f"`{name}` must be a dict with patterns as keys, got {patterns!r:.80}")
    compiled = {pattern: _compiled(name, pattern) for pattern in patterns}
    first = [
        next((pattern for pattern, found in compiled.items() if found.search(path)), None)
        for path in paths
    ]
    for pattern, found in compiled.items():
        if pattern not in first:
            taken = any(map(found.search, paths))
            why = "is found only where an earlier pattern is" if taken else "is found nowhere"
            shown = ", ".join(map(repr, paths[:5]))
            more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
            raise ValueError(
                f"`{name}` must have patterns that catch a parameter of `{tree}`: {pattern!r}"
                f" {why}; the paths are {shown}{more}"
            )
    return first


def _compiled(name: str, pattern: Any) -> re.Pattern[str]:
    if not isinstance(pattern, str):
        raise TypeError(f"`{name}` must have strings as patterns, got {pattern!r}")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"`{name}` must have regular expressions as patterns, got {pattern!r}: {error}"
        ) from error
