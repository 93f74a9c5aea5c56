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

# Large modules of Python's standard library that have had these paths from 3.11 to 3.14. A missing
# module is skipped.
_MODULES = [
    "argparse", "ast", "asyncio/base_events", "calendar", "collections/__init__", "configparser",
    "contextlib", "dataclasses", "difflib", "doctest", "email/message", "enum", "fractions",
    "functools", "heapq", "http/client", "inspect", "ipaddress", "logging/__init__", "os",
    "pickle", "random", "shutil", "statistics", "subprocess", "tarfile", "threading", "typing",
]  # fmt: skip

# The token of each byte: 1 for the newline, 2 to 96 for the printable characters of ASCII from
# space to tilde, and 0 for any other byte.
_TOKENS = np.zeros(256, np.uint8)
_TOKENS[ord("\n")] = 1
_TOKENS[32:127] = np.arange(2, 97)
_VOCABULARY = 97

_EVALUATION_WINDOWS = 64  # the same ones in every evaluation

Index = Any  # of an update


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
    """Trains a small transformer to predict the next character of Python's standard library.

    The loss is the cross-entropy. Use it to compare schedules: a transformer trained with Adam
    needs a warmup and a decay. The default model has 115136 parameters, and its loss falls from 4.7
    nats per character to 2.3 in 500 steps of Adam at a rate of 0.003. The text is the source of the
    running Python, so figures differ a little between its versions.

    Args:
      width: Width of the model, a multiple of `heads`.
      layers: The number of blocks, at least 1. Each is pre-norm attention and a GELU layer four
        times as wide. Positions are learned.
      heads: Attention heads, at least 1.
      context: The number of characters that the model sees at once, at least 1.
      batch_size: Windows of `context` characters per step, at least 1.
      held_out: Fraction of the text that is kept for `evaluate`, from its end, between 0 and 1.
      characters: Characters of the text, held-out part included. If the modules have fewer, the
        text is shorter.

    Returns:
      A `lrax.Task`. A batch is `{"inputs": [batch_size, context], "targets": [batch_size,
      context]}`: windows drawn at random, with targets one character ahead of the inputs. There are
      97 tokens: 1 for the newline, `ord(character) - 30` for a printable character of ASCII, and 0
      for any other byte. `evaluate` gives `{"val_loss", "val_bits_per_char"}` of 64 windows that
      are spread evenly over the held-out part.

    Raises:
      FileNotFoundError: if this Python comes without the source of its standard library, because it
        is zipped or compiled.
      ValueError: if a number is out of its range, or one of the two parts of the text is too short
        for a window.
      TypeError: if an argument is not of its type.

    Example:
      >>> task = lrax.tasks.char_lm(width=16, layers=1, context=16)
      >>> train = jax.jit(lrax.train(task, optax.adam, steps=50))
      >>> trained = train({"learning_rate": 0.01}, jax.random.key(0))
      >>> bool(jax.jit(task.evaluate)(trained.params)["val_bits_per_char"] < 6)
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
    train = tokens[:end]
    rest = tokens[end:]
    # A window has one character more than the context: the last target.
    if min(len(train), len(rest)) <= context:
        raise ValueError(
            f"`context` must be shorter than both parts of the text, {len(train)} characters to"
            f" train on and {len(rest)} held out, got {context}"
        )
    network = Transformer(_VOCABULARY, context, width, layers, heads)
    # Windows that are spread evenly over the held-out part.
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
    """Number and length of the windows of a batch: static, because they are shapes."""

    number: int
    length: int


def _random_windows(
    windows: _Windows, tokens: np.ndarray | jax.Array, step: Index, key: jax.Array
) -> dict[str, jax.Array]:
    """A batch of windows at random places of the text."""
    del step  # every step has a key of its own
    starts = jax.random.randint(key, (windows.number, 1), 0, len(tokens) - windows.length)
    drawn = jnp.asarray(tokens)[starts + jnp.arange(windows.length + 1)[None, :]].astype(jnp.int32)
    return {"inputs": drawn[:, :-1], "targets": drawn[:, 1:]}


def _tokens(characters: int) -> np.ndarray:
    """The first characters of the text as tokens."""
    folder = Path(sysconfig.get_path("stdlib"))
    sources = [path for path in (folder / f"{module}.py" for module in _MODULES) if path.is_file()]
    if not sources:
        raise FileNotFoundError(
            "`lrax.tasks.char_lm` reads the source of Python's standard library, and there is none"
            f" in {folder}: this Python ships it zipped or compiled"
        )
    # With Unix line ends, so that the tokens are the same on every system.
    text = b"\n".join(path.read_bytes().replace(b"\r\n", b"\n") for path in sources)
    return _TOKENS[np.frombuffer(text[:characters], np.uint8)]
