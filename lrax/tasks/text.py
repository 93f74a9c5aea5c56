"""Language modelling, character by character."""

import dataclasses
import sysconfig
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial

from .. import _require
from ..training.task import Task
from .losses import cross_entropy, evaluate_language, init
from .networks import Transformer

# Large modules that Python has under these paths from 3.11 to 3.14. An absent one is skipped.
_MODULES = [
    "argparse", "ast", "asyncio/base_events", "calendar", "collections/__init__", "configparser",
    "contextlib", "dataclasses", "difflib", "doctest", "email/message", "enum", "fractions",
    "functools", "heapq", "http/client", "inspect", "ipaddress", "logging/__init__", "os",
    "pickle", "random", "shutil", "statistics", "subprocess", "tarfile", "threading", "typing",
]  # fmt: skip

# 0 is any other byte, 1 is the newline, and 2 to 96 are the printable characters of ASCII, from
# space to tilde.
_TOKENS = np.zeros(256, np.uint8)
_TOKENS[ord("\n")] = 1
_TOKENS[32:127] = np.arange(2, 97)
_VOCABULARY = 97

_EVALUATION_WINDOWS = 64


def char_lm(
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    context: int = 64,
    batch_size: int = 8,
    held_out: float = 0.1,
    characters: int = 1_000_000,
) -> Task:
    """Trains a small transformer on the source text of Python's standard library, by character.

    The loss is the cross-entropy. Use it where the schedule matters: a transformer trained with
    Adam needs a warmup and a decay. The loss of the default model of 115136 parameters falls from
    4.7 nats per character to 2.3 in 500 steps of Adam at a rate of 0.003. The text comes from the
    running Python, so figures differ a little between its versions.

    Args:
      width: Numbers per position, a multiple of `heads`.
      layers: Blocks, at least 1: pre-norm attention and a GELU layer four times as wide, with
        learned positions.
      heads: Attention heads, at least 1.
      context: Largest number of characters that the model sees, at least 1.
      batch_size: Windows of `context` characters per step, at least 1.
      held_out: Fraction of the text, its end, that is kept for `evaluate`, between 0 and 1.
      characters: Largest length of the text, held-out part included. The text is shorter where
        Python has less.

    Returns:
      A `lrax.Task`. A batch is `{"inputs": [batch_size, context], "targets": [batch_size,
      context]}`, windows drawn at random whose targets are one character ahead. There are 97
      tokens: 1 is the newline, `ord(character) - 30` is a character of printable ASCII, and 0 is
      any other. `evaluate` gives `{"val_loss", "val_bits_per_char"}` of 64 windows that are evenly
      spread over the held-out part.

    Raises:
      FileNotFoundError: if this Python comes without the source of its standard library, because it
        is zipped or compiled.
      ValueError: if a number is out of its range, or the text too short to hold a window on each
        side.
      TypeError: if an argument is not of its type.

    Example:
      >>> task = lrax.tasks.char_lm(width=16, layers=1, context=16)
      >>> train = jax.jit(lrax.train(task, optax.adam, steps=50))
      >>> trained = train({"learning_rate": 0.01}, jax.random.key(0))
      >>> bool(task.evaluate(trained.params)["val_bits_per_char"] < 6)
      True

    Reference:
      Vaswani et al. Attention Is All You Need. 2017, arXiv:1706.03762. Xiong et al. On Layer
      Normalization in the Transformer Architecture. 2020, arXiv:2002.04745, for pre-norm blocks.
    """
    counts = {
        "width": width,
        "layers": layers,
        "heads": heads,
        "context": context,
        "batch_size": batch_size,
    }
    width, layers, heads, context, batch_size = (
        _require.count(name, value, 1) for name, value in counts.items()
    )
    if width % heads:
        raise ValueError(f"`width` must be a multiple of `heads`, got {width} and {heads}")
    tokens = _tokens(_require.count("characters", characters, 1))
    end = round(len(tokens) * (1 - _require.fraction("held_out", held_out)))
    train, rest = tokens[:end], tokens[end:]
    if min(len(train), len(rest)) <= context:
        raise ValueError(
            f"`context` must be shorter than both parts of the text, {len(train)} characters to"
            f" train on and {len(rest)} held out, got {context}"
        )
    network = Transformer(_VOCABULARY, context, width, layers, heads)
    starts = np.linspace(0, len(rest) - context - 1, _EVALUATION_WINDOWS).astype(int)
    windows = rest[starts[:, None] + np.arange(context + 1)[None, :]].astype(np.int32)
    return Task(
        init=Partial(init, network),
        loss=Partial(cross_entropy, network),
        batch=Partial(_random_windows, _Windows(batch_size, context), train),
        evaluate=Partial(
            evaluate_language, network, {"inputs": windows[:, :-1], "targets": windows[:, 1:]}
        ),
    )


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Windows:
    """Number and length of the windows of a batch."""

    number: int
    length: int


def _random_windows(
    windows: _Windows, tokens: np.ndarray | jax.Array, step: Any, key: jax.Array
) -> dict[str, jax.Array]:
    del step  # the key is new in every step
    starts = jax.random.randint(key, (windows.number, 1), 0, len(tokens) - windows.length)
    drawn = jnp.asarray(tokens)[starts + jnp.arange(windows.length + 1)[None, :]].astype(jnp.int32)
    return {"inputs": drawn[:, :-1], "targets": drawn[:, 1:]}


def _tokens(characters: int) -> np.ndarray:
    folder = Path(sysconfig.get_path("stdlib"))
    sources = [path for path in (folder / f"{module}.py" for module in _MODULES) if path.is_file()]
    if not sources:
        raise FileNotFoundError(
            "`lrax.tasks.char_lm` reads the source of Python's standard library, and there is none"
            f" in {folder}: this Python ships it zipped or compiled"
        )
    text = b"\n".join(path.read_bytes().replace(b"\r\n", b"\n") for path in sources)
    return _TOKENS[np.frombuffer(text[:characters], np.uint8)]
