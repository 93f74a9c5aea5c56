"""Networks in plain JAX, with two pure functions: `init(key)` and `apply(params, inputs)`.

A network is registered as a static pytree: it has no leaves, and two networks of the same sizes are
equal. So functions that hold equal networks share a compiled program.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax, nn, numpy as jnp

from .. import _require

Params = Any  # a dict of layers, each a dict of arrays
Layer = dict[str, jax.Array]
Inputs = Any  # an array, NumPy's or JAX's

_relu_kernel = nn.initializers.he_normal()
_linear_kernel = nn.initializers.glorot_normal()
# Outputs start small, with a tenth of the variance that would keep their scale. So the first loss
# is about that of a constant guess.
_output_kernel = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
_embedding = nn.initializers.normal(1.0)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MLP:
    """Dense layers with ReLU between them.

    `sizes` are the number of inputs, the widths of the hidden layers, and the number of outputs.
    """

    sizes: tuple[int, ...]

    def init(self, key: jax.Array) -> Params:
        """`{"dense_0": {"kernel", "bias"}, ...}`.

        Kernels have He's initialization, biases are 0, and the output layer is small.
        """
        last = len(self.sizes) - 2
        shapes = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        kernels = [_relu_kernel] * last + [_output_kernel]
        keys = jax.random.split(key, len(shapes))
        return {f"dense_{i}": _layer(kernels[i], keys[i], shape) for i, shape in enumerate(shapes)}

    def apply(self, params: Params, inputs: jax.Array) -> jax.Array:
        """Outputs `[batch, sizes[-1]]` of inputs `[batch, sizes[0]]`."""
        last = len(self.sizes) - 2
        x = _as_params(inputs, params)
        for i in range(last):
            x = nn.relu(_dense(params[f"dense_{i}"], x))
        return _dense(params[f"dense_{last}"], x)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class CNN:
    """3x3 convolutions with ReLU that keep the size of the image, then a dense layer."""

    image: tuple[int, int, int]  # height, width, channels
    channels: tuple[int, ...]
    outputs: int

    def init(self, key: jax.Array) -> Params:
        """`{"conv_0": {"kernel", "bias"}, ..., "dense"}`.

        Kernels have He's initialization, biases are 0, and the output layer is small.
        """
        height, width, colours = self.image
        channels = (colours, *self.channels)
        first, *keys = jax.random.split(key, len(channels))
        params = {
            f"conv_{i}": _layer(_relu_kernel, key, (3, 3, channels[i], channels[i + 1]))
            for i, key in enumerate(keys)
        }
        params["dense"] = _layer(
            _output_kernel, first, (height * width * channels[-1], self.outputs)
        )
        return params

    def apply(self, params: Params, inputs: jax.Array) -> jax.Array:
        """Outputs `[batch, outputs]` of inputs `[batch, *image]`."""
        x = _as_params(inputs, params)
        for i in range(len(self.channels)):
            layer = params[f"conv_{i}"]
            x = lax.conv_general_dilated(
                x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            # Axes are written out: users may set `jax_numpy_rank_promotion` to "raise".
            x = nn.relu(x + layer["bias"][None, None, None, :])
        return _dense(params["dense"], x.reshape(x.shape[0], -1))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Transformer:
    """A causal, decoder-only transformer with pre-norm blocks and learned positions.

    Every position has a residual stream of `width` numbers. Each block adds attention to it, and
    then a GELU layer four times as wide. Norms are root mean square norms with a scale. There are
    no biases, and the head does not share its weights with the embedding.
    """

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int

    def init(self, key: jax.Array) -> Params:
        """`{"tokens", "positions", "block_0", ..., "norm", "head"}`.

        Embeddings are normal, kernels have Glorot's or He's initialization, and the head is small.
        """
        width = self.width
        inner = 4 * width
        # Every block adds two branches to the stream. With this factor the variance of the stream
        # does not grow with depth.
        branch = 1 / (2 * self.layers) ** 0.5

        def block(key: jax.Array) -> Params:
            keys = jax.random.split(key, 6)
            names = ("query", "key", "value", "out")
            attention = {
                name: {"kernel": _linear_kernel(keys[i], (width, width))}
                for i, name in enumerate(names)
            }
            up = _relu_kernel(keys[4], (width, inner))
            down = _linear_kernel(keys[5], (inner, width))
            attention["out"] = {"kernel": branch * attention["out"]["kernel"]}
            return {
                "norm_attention": {"scale": jnp.ones(width)},
                "attention": attention,
                "norm_mlp": {"scale": jnp.ones(width)},
                "mlp": {"up": {"kernel": up}, "down": {"kernel": branch * down}},
            }

        tokens, positions, head, *blocks = jax.random.split(key, 3 + self.layers)
        return {
            "tokens": {"embedding": _embedding(tokens, (self.vocabulary, width))},
            "positions": {"embedding": _embedding(positions, (self.context, width))},
            **{f"block_{i}": block(key) for i, key in enumerate(blocks)},
            "norm": {"scale": jnp.ones(width)},
            "head": {"kernel": _output_kernel(head, (width, self.vocabulary))},
        }

    def apply(self, params: Params, inputs: jax.Array) -> jax.Array:
        """Logits `[batch, time, vocabulary]` of the token after each of `inputs`.

        Args:
          params: What `init` returns.
          inputs: Tokens `[batch, time]`; `time` is at most `context`.
        """
        x = (
            params["tokens"]["embedding"][inputs]
            + params["positions"]["embedding"][None, : inputs.shape[1]]
        )
        for i in range(self.layers):
            block = params[f"block_{i}"]
            x = x + self._attend(block["attention"], _norm(block["norm_attention"], x))
            hidden = nn.gelu(_norm(block["norm_mlp"], x) @ block["mlp"]["up"]["kernel"])
            x = x + hidden @ block["mlp"]["down"]["kernel"]
        return _norm(params["norm"], x) @ params["head"]["kernel"]

    def _attend(self, layer: dict[str, Layer], x: jax.Array) -> jax.Array:
        """Causal self-attention of `x`, `[batch, time, width]`."""
        batch, time, width = x.shape
        query, key, value = (
            (x @ layer[name]["kernel"]).reshape(batch, time, self.heads, width // self.heads)
            for name in ("query", "key", "value")
        )
        mixed = nn.dot_product_attention(query, key, value, is_causal=True)
        return mixed.reshape(batch, time, width) @ layer["out"]["kernel"]


Network = MLP | CNN | Transformer


def sizes(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Requires a sequence of layer sizes, each an int of at least 1. It may be empty."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"`{name}` must be a sequence of ints, got {values!r}")
    return tuple(_require.count(f"{name}[{i}]", value, 1) for i, value in enumerate(values))


def _layer(kernel: nn.initializers.Initializer, key: jax.Array, shape: tuple[int, ...]) -> Layer:
    return {"kernel": kernel(key, shape), "bias": jnp.zeros(shape[-1])}


def _dense(layer: Layer, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"][None, :]


def _norm(layer: Layer, x: jax.Array) -> jax.Array:
    """The root mean square norm over the last axis."""
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * lax.rsqrt(mean_square + 1e-6) * layer["scale"][None, None, :]


def _as_params(inputs: Inputs, params: Params) -> jax.Array:
    """Inputs in the dtype of the parameters, so that the whole network computes in it."""
    return jnp.asarray(inputs, jnp.result_type(*jax.tree.leaves(params)))
