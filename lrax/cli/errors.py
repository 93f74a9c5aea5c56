"""Errors as the command line shows them: one line that names the option.

An error in a user's own code is shown with its traceback.
"""

import re
import traceback
from collections.abc import Mapping
from pathlib import Path

# Types of errors that wrong values raise. Any other type is a bug, and keeps its traceback.
REFUSALS = (ImportError, OSError, TypeError, ValueError, ArithmeticError, MemoryError)


class Mistake(ValueError):
    """A wrong command: a value that cannot be used, or options that exclude each other."""


def is_refusal(error: BaseException) -> bool:
    """Whether the message of an error is enough, without a traceback.

    The message is enough if lrax itself or the operating system raised the error. An error raised
    in other code, such as the user's, must be corrected there, and needs its whole traceback.
    """
    if isinstance(error, (Mistake, OSError)):
        return True
    # The last frame is where the error was raised: look whether that file belongs to lrax.
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """The message of a Python function, with options of the command line in place of arguments.

    Args:
      message: The message, which names arguments in backticks, such as `eval_every` or `mode=`.
      flags: The option of each argument that the command passes on.

    Returns:
      The message with options in place of arguments, such as --eval-every.
    """
    return re.sub(r"`(\w+)=?`", lambda found: flags.get(found[1], found[0]), message)
