"""Schedules from text, such as `warmup_cosine(peak=3e-4, steps=10_000, warmup=500)`: parsed, never evaluated."""

import ast
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from .schedule import Schedule, as_schedule

_LONGEST = 20_000  # characters: a table of a thousand numbers
_DEEPEST = 50


def parse(text: str, names: Mapping[str, Callable[..., Any]]) -> Schedule:
    """A schedule from text in Python's syntax, without running any of it.

    The text may call the names given, add and multiply, and write literals: numbers (`inf` too),
    strings, `True`, `False`, `None`, lists, tuples, and dicts whose keys are strings or numbers.
    Nothing else: so text from a configuration file, a command line or a web form can do no more
    than build schedules.

    Args:
      text: Such as `"0.5 * cosine(peak=0.1, steps=1000) + 1e-5"`. A number is a constant schedule.
      names: What may be called, by name. A name may have dots: `"torch.OneCycleLR"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: naming the part of the text that cannot be read, is not allowed, or is refused by
        what it calls.

    Example:
      >>> from lrax.schedules.parse import parse
      >>> parse("0.5 * cosine(peak=0.1, steps=1_000)", {"cosine": lrax.cosine})(0)
      Array(0.05, dtype=float32)
      >>> parse("cosin(peak=0.1, steps=1_000)", {"cosine": lrax.cosine})
      Traceback (most recent call last):
      ValueError: unknown name `cosin`; did you mean `cosine`?
    """
    text = text.strip()
    if not text:
        raise ValueError("the text of a schedule must not be empty")
    if len(text) > _LONGEST:
        raise ValueError(
            f"the text of a schedule must have at most {_LONGEST} characters, got {len(text)}"
        )
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"cannot read `{_short(text)}`: {error.msg}{_position(text, error)}"
        ) from None
    except ValueError as error:  # null bytes, lone surrogates
        raise ValueError(f"cannot read `{_short(text)}`: {error}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"`{_short(text)}` is nested too deeply") from None
    value = _Reader(text, names).value(tree, 0)
    try:
        return as_schedule(value)
    except ValueError as error:
        raise ValueError(f"in `{_short(text)}`: {error}") from None
    except TypeError:
        raise ValueError(f"`{_short(text)}` must be a schedule, is {_kind(value)}") from None


class _Reader:
    """Values of the nodes of a syntax tree."""

    def __init__(self, text: str, names: Mapping[str, Callable[..., Any]]):
        self.text = text
        self.names = names

    def value(self, node: ast.AST, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"`{_short(self.text)}` is nested too deeply")
        match node:
            case ast.Call():
                return self.call(node, depth)
            case ast.BinOp(op=ast.Add() | ast.Mult()):
                return self.arithmetic(node, depth)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                value = self.value(node.operand, depth + 1)
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise ValueError(f"a sign must stand before a number, got `{self.part(node)}`")
                return -value if isinstance(node.op, ast.USub) else value
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return node.value
            case ast.List() | ast.Tuple():
                values = [self.value(element, depth + 1) for element in node.elts]
                return values if isinstance(node, ast.List) else tuple(values)
            case ast.Dict():
                return {
                    self.key(key): self.value(value, depth + 1)
                    for key, value in zip(node.keys, node.values, strict=True)
                }
            case ast.Name(id="inf"):
                return math.inf
            case ast.Name() | ast.Attribute() if (name := _dotted(node)) is not None:
                if name in self.names:
                    raise ValueError(f"`{name}` must be called, as in `{name}(...)`")
                raise ValueError(self.unknown(name))
        raise ValueError(
            f"`{self.part(node)}` is not allowed: a schedule is made of calls, literals, * and +"
        )

    def call(self, node: ast.Call, depth: int) -> Any:
        name = _dotted(node.func)
        if name is None:
            raise ValueError(f"`{self.part(node.func)}` cannot be called; only names can")
        if name not in self.names:
            raise ValueError(self.unknown(name))
        arguments = [self.value(argument, depth + 1) for argument in node.args]
        keywords = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise ValueError(
                    f"`**{self.part(keyword.value)}` is not allowed: give arguments by name"
                )
            if keyword.arg in keywords:
                raise ValueError(f"`{keyword.arg}` is given twice in `{self.part(node)}`")
            keywords[keyword.arg] = self.value(keyword.value, depth + 1)
        try:
            return self.names[name](*arguments, **keywords)
        except (
            Exception
        ) as error:  # whatever a builder makes of a wrong argument, it is the text that is wrong
            raise ValueError(f"in `{self.part(node)}`: {error or type(error).__name__}") from error

    def arithmetic(self, node: ast.BinOp, depth: int) -> Any:
        left, right = (self.value(side, depth + 1) for side in (node.left, node.right))
        for side, value in ((node.left, left), (node.right, right)):
            if isinstance(value, bool) or not isinstance(value, (int, float, Schedule)):
                sign = "*" if isinstance(node.op, ast.Mult) else "+"
                raise ValueError(
                    f"`{sign}` takes schedules and numbers, got `{self.part(side)}`, {_kind(value)}"
                )
        try:
            return left * right if isinstance(node.op, ast.Mult) else left + right
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"in `{self.part(node)}`: {error}") from error

    def key(self, node: ast.AST | None) -> str | int | float:
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, (str, int, float)) and not isinstance(
            value, bool
        ):  # numbers, as Optax has boundaries
            return value
        given = "**" if node is None else self.part(node)
        raise ValueError(f"the keys of a dict must be strings or numbers, got `{given}`")

    def unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.names, n=3)
        if not close:  # `OneCycleLR` and `lrax.cosine` for want of the right family
            last = {known.rsplit(".", 1)[-1].lower(): known for known in reversed(list(self.names))}
            found = difflib.get_close_matches(
                name.rsplit(".", 1)[-1].lower(), last, n=3, cutoff=0.7
            )
            close = [last[word] for word in found]
        hint = f"; did you mean {' or '.join(f'`{word}`' for word in close)}?" if close else ""
        return f"unknown name `{_short(name)}`{hint}"

    def part(self, node: ast.AST) -> str:
        return _short(ast.get_source_segment(self.text, node) or self.text)


def _dotted(node: ast.AST) -> str | None:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _short(text: str, width: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _position(text: str, error: SyntaxError) -> str:
    if error.offset is None or not 0 < error.offset <= len(text):
        return ""
    line = f"line {error.lineno}, " if "\n" in text else ""
    return f" ({line}character {error.offset})"
