"""Schedules from text, such as `warmup_cosine(peak=3e-4, steps=10_000, warmup=500)`.

The text is parsed and never run. It may come from a stranger, so its size, its nesting and its
numbers are bounded before anything is built from it.
"""

import ast
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .schedule import Schedule, as_schedule

Builder = Callable[..., Any]
Value = Any  # a Schedule, a number, a word, or a list, tuple or dict of them

_LONGEST = 20_000  # characters, enough for a table of a thousand numbers
_DEEPEST = 50  # levels of the syntax tree
# Lists of lists of numbers become arrays that broadcast against one another. With two levels the
# result has at most (_ELEMENTS / 2) ** 2 entries; with three it could fill the memory.
_DEEPEST_LIST = 2
_ELEMENTS = 4_000  # elements of all lists together
_CALLS = 200  # each call adds to the program that evaluates the schedule
_LARGEST = 2**63  # whole numbers are below it, so that no product has thousands of digits


def parse(text: str, names: Mapping[str, Builder]) -> Schedule:
    """A schedule from text in Python's syntax, without running any of it.

    The text may call the names given, add and multiply, and write literals: numbers (`inf` too),
    strings, `True`, `False`, `None`, lists, tuples, and dicts whose keys are strings or numbers.
    Nothing else is read. So text from a configuration file, a command line or a web form can only
    build schedules.

    Args:
      text: Such as `"0.5 * cosine(peak=0.1, steps=1000) + 1e-5"`. A number is a constant schedule.
        At most 20,000 characters, 200 calls, and lists of 4,000 elements in all.
      names: What may be called, by name. A name may have dots: `"torch.OneCycleLR"`. The mapping
        is read one name at a time, and as a whole only to suggest a name for an unknown one.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a part of the text cannot be read, is not allowed, or is refused by the
        function that it calls. The message names the part, with control characters escaped.

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
        tree = _parsed(text)
        _require_small(tree)
        value = _Reader(text, names).value(tree)
    except SyntaxError as error:
        message = f"cannot read `{_short(text)}`: {error.msg}{_position(text, error)}"
    except (RecursionError, MemoryError):
        message = f"`{_short(text)}` is nested too deeply"
    except ValueError as error:
        message = str(error)
    else:
        return _as_schedule(text, value)
    # Builders and Python's parser quote the text in their messages. Its control characters must not
    # reach a terminal.
    raise ValueError(printable(message)) from None


def printable(text: str) -> str:
    r"""The text with control characters and other unprintable ones escaped, as in `\x1b`.

    A terminal would obey them: they can hide text, or change the title and the colors.

    Args:
      text: Any text.

    Returns:
      The text; spaces and everything printable stay as they are.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _as_schedule(text: str, value: Value) -> Schedule:
    try:
        return as_schedule(value)
    except ValueError as error:
        raise ValueError(f"in `{_short(text)}`: {printable(str(error))}") from None
    except TypeError:
        raise ValueError(f"`{_short(text)}` must be a schedule, is {_kind(value)}") from None


def _require_small(tree: ast.AST) -> None:
    """Requires that the whole tree is within the bounds above, before any name is called."""
    calls = elements = 0
    for node, depth, lists in _walk(tree):
        if depth > _DEEPEST or lists > _DEEPEST_LIST:
            what = "lists" if lists > _DEEPEST_LIST else "parts"
            limit = _DEEPEST_LIST if lists > _DEEPEST_LIST else _DEEPEST
            raise ValueError(f"nested too deeply: at most {limit} {what} in one another")
        if isinstance(node, ast.Call):
            calls += 1
        elif isinstance(node, (ast.List, ast.Tuple)):
            elements += len(node.elts)
        elif isinstance(node, ast.Constant) and _too_large(node.value):
            raise ValueError("whole numbers must be below 2**63")
    for what, count, limit in (("calls", calls, _CALLS), ("list elements", elements, _ELEMENTS)):
        if count > limit:
            raise ValueError(f"the text must have at most {limit} {what}, got {count}")


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except ValueError as error:  # a null byte; from Python 3.11.4 on it is a SyntaxError
        raise ValueError(f"cannot read `{_short(text)}`: {error}") from None


def _too_large(value: Value) -> bool:
    return isinstance(value, int) and abs(value) >= _LARGEST


def _walk(tree: ast.AST) -> Iterator[tuple[ast.AST, int, int]]:
    """All nodes, each with its depth and with the number of lists around and including it.

    A call begins a new count of lists, because a list of schedules does not become an array.
    """
    stack = [(tree, 0, 0)]
    while stack:
        node, depth, lists = stack.pop()
        lists = 0 if isinstance(node, ast.Call) else lists
        lists += isinstance(node, (ast.List, ast.Tuple))
        yield node, depth, lists
        # A keyword is a node between a call and its argument. It does not count as a level.
        below = depth + (not isinstance(node, ast.keyword))
        stack += [(child, below, lists) for child in ast.iter_child_nodes(node)]


class _Reader:
    """Values of the nodes of a syntax tree."""

    def __init__(self, text: str, names: Mapping[str, Builder]):
        self.text = text
        self.names = names

    def value(self, node: ast.AST) -> Value:
        match node:
            case ast.Call():
                return self.call(node)
            case ast.BinOp(op=ast.Add() | ast.Mult()):
                return self.arithmetic(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                value = self.value(node.operand)
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise ValueError(f"a sign must stand before a number, got `{self.part(node)}`")
                return -value if isinstance(node.op, ast.USub) else value
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return node.value
            case ast.List() | ast.Tuple():
                values = [self.value(element) for element in node.elts]
                return values if isinstance(node, ast.List) else tuple(values)
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                return {self.key(key): self.value(value) for key, value in pairs}
            case ast.Name(id="inf"):
                return math.inf
            case ast.Name() | ast.Attribute() if (name := _dotted(node)) is not None:
                if name in self.names:
                    raise ValueError(f"`{name}` must be called, as in `{name}(...)`")
                raise ValueError(self.unknown(name))
        raise ValueError(
            f"`{self.part(node)}` is not allowed: a schedule is made of calls, literals, * and +"
        )

    def call(self, node: ast.Call) -> Value:
        name = _dotted(node.func)
        if name is None:
            raise ValueError(f"`{self.part(node.func)}` cannot be called; only names can")
        if name not in self.names:
            raise ValueError(self.unknown(name))
        arguments = [self.value(argument) for argument in node.args]
        keywords = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise ValueError(
                    f"`**{self.part(keyword.value)}` is not allowed: give arguments by name"
                )
            if keyword.arg in keywords:
                raise ValueError(f"`{keyword.arg}` is given twice in `{self.part(node)}`")
            keywords[keyword.arg] = self.value(keyword.value)
        try:
            return self.names[name](*arguments, **keywords)
        # Whatever a builder raises, the cause is an argument in the text.
        except Exception as error:
            raise ValueError(f"in `{self.part(node)}`: {error or type(error).__name__}") from error

    def arithmetic(self, node: ast.BinOp) -> Value:
        left = self.value(node.left)
        right = self.value(node.right)
        for side, value in ((node.left, left), (node.right, right)):
            if isinstance(value, bool) or not isinstance(value, (int, float, Schedule)):
                sign = "*" if isinstance(node.op, ast.Mult) else "+"
                raise ValueError(
                    f"`{sign}` takes schedules and numbers, got `{self.part(side)}`, {_kind(value)}"
                )
        try:
            result = left * right if isinstance(node.op, ast.Mult) else left + right
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"in `{self.part(node)}`: {error}") from error
        if _too_large(result):
            raise ValueError(f"`{self.part(node)}` must be below 2**63")
        return result

    def key(self, node: ast.AST | None) -> str | int | float:
        value = node.value if isinstance(node, ast.Constant) else None
        # Numbers are allowed, because Optax takes a dict with boundaries as its keys.
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return value
        given = "**" if node is None else self.part(node)
        raise ValueError(f"the keys of a dict must be strings or numbers, got `{given}`")

    def unknown(self, name: str) -> str:
        """The message for an unknown name, with suggestions."""
        name = name[:100]  # the search for close names takes longer for a longer name
        close = difflib.get_close_matches(name, self.names, n=3)
        if not close:  # the right name in the wrong family: `OneCycleLR`, `lrax.cosine`
            # Reversed, so that of names with the same last part the first one wins.
            last = {known.rsplit(".", 1)[-1].lower(): known for known in reversed(list(self.names))}
            word = name.rsplit(".", 1)[-1].lower()
            close = [last[found] for found in difflib.get_close_matches(word, last, 3, 0.7)]
        hint = f"; did you mean {' or '.join(f'`{word}`' for word in close)}?" if close else ""
        return f"unknown name `{_short(name)}`{hint}"

    def part(self, node: ast.AST) -> str:
        """The text of a node."""
        return _short(ast.get_source_segment(self.text, node) or self.text)


def _dotted(node: ast.AST) -> str | None:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _short(text: str, width: int = 60) -> str:
    """The text in one line, printable, and cut at the end if it is long."""
    text = printable(" ".join(text[: 10 * width].split()))
    return text if len(text) <= width else text[: width - 3] + "..."


def _kind(value: Value) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _position(text: str, error: SyntaxError) -> str:
    if error.offset is None or not 0 < error.offset <= len(text):
        return ""
    line = f"line {error.lineno}, " if "\n" in text else ""
    return f" ({line}character {error.offset})"
