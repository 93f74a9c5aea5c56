"""Parses a command and runs it."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..schedules.parse import printable
from . import demo, diagnose, find, show, sweep
from .errors import REFUSALS, Mistake, is_refusal, with_flags


class Parser(argparse.ArgumentParser):
    """A parser whose messages contain no control characters that the user gave."""

    def error(self, message: str) -> NoReturn:
        """Exits with status 2 and the message."""
        super().error(printable(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      arguments: The words of the command; by default those of this process.

    Returns:
      The exit status: what the command returns if it runs to its end, 1 after an error, 2 for a
      wrong command, 130 after Ctrl-C.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    options.words = words
    try:
        return options.run(options)
    except BrokenPipeError:  # the reader is gone, as in `| head`
        # Python flushes stdout again at exit. On the broken pipe this would print a second error,
        # so stdout is redirected to devnull.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except REFUSALS as error:
        if not is_refusal(error):
            raise
        message = _text(error)
        wrong = isinstance(error, Mistake)
        if not wrong:
            # If the message names an argument that an option sets, the command was wrong.
            in_flags = with_flags(message, options.flags)
            wrong = in_flags != message
            message = in_flags
        print(f"lrax: {_printable_lines(message)}", file=sys.stderr)
        return 2 if wrong else 1
    except KeyboardInterrupt:
        print("lrax: interrupted before there was anything to show", file=sys.stderr)
        return 130


def _text(error: BaseException) -> str:
    """The message of an error; that of an OSError without the number at its beginning."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename!r}" if error.filename else "")
    return str(error) or type(error).__name__


def _printable_lines(text: str) -> str:
    """The text with all unprintable characters escaped, except line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def _parser() -> Parser:
    parser = Parser(prog="python -m lrax", description="Everything about the learning rate in JAX.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (demo, show, find, sweep, diagnose):
        command.add_to(commands)
    return parser
