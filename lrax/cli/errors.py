"""Errors as a shell shows them: one line that names the option.

An error in a user's own code keeps its traceback.
"""

import re
import traceback
from collections.abc import Mapping
from pathlib import Path

# Raised for wrong values. Anything else is a bug, and keeps its traceback.
REFUSALS = (ImportError, OSError, TypeError, ValueError, ArithmeticError, MemoryError)


class Mistake(ValueError):
    """A command that asks for something that does not exist."""


def is_refusal(error: BaseException) -> bool:
    """Whether lrax itself raised the error, to say what is wrong: then its text is enough.

    An error from a user's code must be mended there, and needs its whole traceback.
    """
    if isinstance(error, (Mistake, OSError)):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """The message of a Python function in the words of the command line.

    Args:
      message: It names arguments in backticks, such as `eval_every` or `mode=`.
      flags: The option of each argument that the command passes on.

    Returns:
      The message with options in place of arguments, such as --eval-every.
    """
    return re.sub(r"`(\w+)=?`", lambda found: flags.get(found[1], found[0]), message)
