"""Whether an objective is to be low or high, read from its name."""

import re
from typing import Literal

Mode = Literal["min", "max"]

# Words that say in which direction an objective improves; `mode_of` lists them for users.
LOW = frozenset(["loss", "error", "perplexity", "bits", "nll", "mse", "mae", "rmse", "ppl"])
HIGH = frozenset(["accuracy", "acc", "return", "reward", "score", "auc", "f1", "r2"])
# Beside one of these, a word may mean its opposite: `neg_loss` is to be high. So `mode_of` refuses
# names that contain one.
NEGATIONS = frozenset(["neg", "negative", "negated", "minus", "inverse"])


def mode_of(objective: str, mode: Mode | None = None) -> Mode:
    """The direction of an objective: `mode` if it is given, else what the name says.

    The name is read as whole words: `val_accuracy` and `valAccuracy` contain the word `accuracy`.
    Loss, error, perplexity, bits, nll, mse, mae, rmse and ppl are to be low; accuracy, acc, return,
    reward, score, auc, f1 and r2 are to be high.

    Args:
      objective: Name of the objective.
      mode: `"min"`, `"max"`, or `None` to read the name.

    Returns:
      `"min"` or `"max"`.

    Raises:
      TypeError: if `objective` is not a string.
      ValueError: if `mode` is none of these; or if it is `None` and the name contains no known
        word, words of both directions as in `reward_loss`, or a negation as in `neg_loss`.
    """
    if not isinstance(objective, str):
        raise TypeError(f"`objective` must be a name, got {objective!r}")
    if mode is not None:
        if not isinstance(mode, str) or mode not in ("min", "max"):
            raise ValueError(f"`mode` must be one of 'min', 'max' or None, got {mode!r}")
        return mode
    words = set(_words(objective))
    # Sorted, so that an error names the same word every time.
    low = sorted(words & LOW)
    high = sorted(words & HIGH)
    negated = sorted(words & NEGATIONS)
    if bool(low) != bool(high) and not negated:
        return "min" if low else "max"
    if low and high:
        reason = f"{low[0]!r} is to be low and {high[0]!r} is to be high"
    elif negated:
        reason = f"{negated[0]!r} may turn its meaning"
    else:
        reason = "no word in it tells whether low or high is good"
    raise ValueError(
        f"`mode` must be 'min' or 'max' for the `objective` {objective!r}, because {reason};"
        " pass `mode=`"
    )


def _words(name: str) -> list[str]:
    """The words of a name, in lower case: of `val_r2`, `valR2` and `val-r2` alike."""
    # An underscore before each capital that follows a small letter or a digit.
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", apart) if word]
