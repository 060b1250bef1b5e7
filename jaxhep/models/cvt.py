"""The convolutional vision transformer (CvT) of the AMS-02 calorimeter study: 4,895,873 parameters on 18 x 72 cells.

CvT: Wu et al., arXiv:2103.15808; this layout, with the study's kernels and strides, reproduces its parameter count.
B batch, H layers, W cells, C channels, T tokens.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from .attention import attention as attend
from .convolution import Convolution, depthwise, formulation_of
from .initial_values import bias_by_inputs, normal_002, uniform_by_inputs
from .mlp import dense
from .perceptron import LinearParameters, NormParameters, Weights, by_events, perceptron
from .products import kept_dtype, product

# The study's variant with small kernels: 4,895,489 parameters with two channels. Its padding is not published. Chosen so
# that layers and cells keep their place: tokens 18 x W, 9 x W, 9 x W, on a window of cells as on full rows of 72.
SMALL_KERNELS = {
    "kernels": ((3, 1), (4, 3), (3, 3)),
    "strides": ((1, 1), (2, 1), (1, 1)),
    "paddings": ((1, 0), (1, 1), (1, 1)),
}


class Projection(nn.Module):
    """Convolutional projection to queries, keys or values: depthwise 3 x 3, BatchNorm, 1 x 1 convolution.

    (B, H, W, C) -> (B, H, W, features). The normalisation is linear, so it is folded into the weights of the 1 x 1
    convolution and costs no pass over the map. The depthwise bias does not survive the subtraction of the mean:
    it shows in the running mean alone, and its gradient is exactly zero.
    """

    features: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    axis_name: str | None
    formulation: str

    @nn.compact
    def __call__(self, x, train: bool):
        """Map (B, H, W, features) of the map x (B, H, W, C)."""
        channels = x.shape[-1]
        kernel = self.param("depthwise_kernel", uniform_by_inputs, (3, 3, 1, channels), self.param_dtype)
        bias = self.param("depthwise_bias", bias_by_inputs(9), (channels,), self.param_dtype)
        x = depthwise(x, kernel.astype(x.dtype), 1, formulation_of(self.formulation).depthwise)
        mean, gain = self.normalisation(x, bias, train)
        offset = self.param("norm_bias", nn.initializers.zeros_init(), (channels,), self.param_dtype)
        matrix = self.param("kernel", normal_002, (channels, self.features), self.param_dtype)
        vector = self.param("bias", nn.initializers.zeros_init(), (self.features,), self.param_dtype)
        vector = vector + (offset - mean * gain) @ matrix
        return product(x, gain[:, None] * matrix, self.dtype) + vector.astype(x.dtype)

    def normalisation(self, x, bias, train: bool):
        """Mean and gain of the BatchNorm after the depthwise convolution, both (C,), for x without its bias.

        Epsilon 1e-5, momentum 0.9 (PyTorch's 0.1), statistics in float32, over all devices of `axis_name`.
        """
        wide = jnp.promote_types(x.dtype, jnp.float32)
        zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
        scale = self.param("norm_scale", ones, bias.shape, self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", zeros, None, bias.shape, wide)
        running_variance = self.variable("batch_stats", "var", ones, None, bias.shape, wide)
        if not train:
            return running_mean.value - bias, scale * lax.rsqrt(running_variance.value + 1e-5)
        mean = jnp.mean(x, axis=(0, 1, 2), dtype=wide)
        square = jnp.mean(jnp.square(x.astype(wide)), axis=(0, 1, 2))
        if self.axis_name is not None and not self.is_initializing():
            mean, square = lax.pmean((mean, square), self.axis_name)
        variance = jnp.maximum(square - jnp.square(mean), 0.0)
        if not self.is_initializing():
            running_mean.value = 0.9 * running_mean.value + 0.1 * (mean + lax.stop_gradient(bias))
            running_variance.value = 0.9 * running_variance.value + 0.1 * variance
        return mean, scale * lax.rsqrt(variance + 1e-5)


class Block(nn.Module):
    """Pre-norm transformer block: attention with convolutional projections, then a perceptron of ratio 4.

    tokens (B, T, C) -> (B, T, C); `grid` is (rows, columns) of the map. With `class_token` the first token stands
    outside the map and enters queries, keys and values as it is.
    """

    grid: tuple[int, int]
    heads: int
    class_token: bool
    attention_scale: str
    attention: str
    dropout: float
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    axis_name: str | None
    formulation: str

    @nn.compact
    def __call__(self, tokens, train: bool):
        """Tokens (B, T, C) after the block."""
        batch, count, width = tokens.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = layer_norm(tokens, self.param_dtype, "norm_1")
        cells = x[:, int(self.class_token) :].reshape(batch, *self.grid, width)
        inputs = []
        for name in ("query", "key", "value"):
            project = Projection(width, **types, axis_name=self.axis_name, formulation=self.formulation, name=name)
            projected = project(cells, train).reshape(batch, -1, width)
            if self.class_token:
                projected = jnp.concatenate([x[:, :1], projected], axis=1)
            inputs.append(projected.reshape(batch, count, self.heads, width // self.heads))
        scaled_by = width if self.attention_scale == "embedding" else width // self.heads
        query, key, value = inputs
        x = attend(query, key, value, scaled_by**-0.5, self.attention, self.dtype)
        tokens = tokens + drop(linear(width, x, **types, name="output")(x.reshape(batch, count, width)))
        weights = Weights(
            NormParameters(self.param_dtype, name="norm_2")(width),
            LinearParameters(4 * width, normal_002, self.param_dtype, name="dense_1")(width),
            LinearParameters(width, normal_002, self.param_dtype, name="dense_2")(4 * width),
        )
        if self.dropout or not formulation_of(self.formulation).by_event:
            return perceptron(tokens, weights, self.dtype, drop)
        return by_events(tokens, weights, self.dtype)


def layer_norm(x, param_dtype, name: str):
    """LayerNorm of x (..., C) over its channels, in its type."""
    return nn.LayerNorm(epsilon=1e-5, dtype=x.dtype, param_dtype=param_dtype, name=name)(x)


def linear(width: int, x, dtype, param_dtype, name: str) -> nn.Dense:
    """A Dense layer for input `x` with the CvT original's initial values: normal of 0.02, bias of 0."""
    return dense(width, x, dtype, param_dtype, name, normal_002, nn.initializers.zeros_init())


class CvT(nn.Module):
    """Convolutional vision transformer: (B, H, W, C) energies -> (B,) logits in float32.

    Three stages, each a convolutional token embedding with LayerNorm and then transformer blocks; a class token joins in
    the last stage and carries the logit. On 18 x 72 cells the token grids are 21 x 36, 21 x 18 and 21 x 18 (+1).
    attention_scale: the products are scaled by the width of one "head" to the -1/2, or of the "embedding", as the CvT
    original does. attention: see `attention.attention`. Epsilons are 1e-5, GELU is exact.
    Initial values: the CvT original's, normal of 0.02 for linear layers, 1 x 1 convolutions and the class token;
    PyTorch's default, uniform between -+ 1/sqrt(inputs), for embeddings and depthwise convolutions.
    Raises ValueError for an unknown attention scale and for widths that their heads do not divide.
    """

    widths: Sequence[int] = (64, 192, 384)
    heads: Sequence[int] = (1, 3, 6)
    blocks: Sequence[int] = (1, 1, 2)
    kernels: Sequence[Sequence[int]] = ((2, 6), (3, 4), (3, 3))
    strides: Sequence[Sequence[int]] = ((1, 2), (1, 2), (1, 1))
    paddings: Sequence[Sequence[int]] = ((2, 2), (1, 1), (1, 1))
    dropout: float = 0.0
    attention_scale: str = "head"
    attention: str = "auto"
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Logits (B,) of energies x (B, H, W, C)."""
        if self.attention_scale not in ("embedding", "head"):
            raise ValueError(f"attention_scale is {self.attention_scale!r}; it must be embedding or head")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = x.astype(kept_dtype(self.dtype, self.formulation))
        for stage, width in enumerate(self.widths):
            last = stage == len(self.widths) - 1
            x = self.embedding(x, stage)
            batch, *grid, _ = x.shape
            tokens = x.reshape(batch, -1, width)
            if last:
                token = self.param("class_token", normal_002, (1, 1, width), self.param_dtype)
                token = jnp.broadcast_to(token.astype(x.dtype), (batch, 1, width))
                tokens = jnp.concatenate([token, tokens], axis=1)
            for number in range(self.blocks[stage]):
                tokens = Block(
                    tuple(grid),
                    self.heads[stage],
                    last,
                    self.attention_scale,
                    self.attention,
                    self.dropout,
                    **types,
                    axis_name=self.axis_name,
                    formulation=self.formulation,
                    name=f"stage_{stage + 1}_block_{number + 1}",
                )(tokens, train)
            x = tokens[:, int(last) :].reshape(x.shape)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        top: dict[str, Any] = {"dtype": wide, "param_dtype": self.param_dtype}
        token = layer_norm(tokens[:, 0].astype(wide), self.param_dtype, "norm")
        return linear(1, token, **top, name="logit")(token)[:, 0]

    def embedding(self, x, stage: int):
        """Convolutional token embedding of one stage with its LayerNorm: (B, H, W, C) -> (B, rows, columns, width)."""
        rows, columns = self.kernels[stage]
        above, left = self.paddings[stage]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Convolution(
            self.widths[stage],
            (rows, columns),
            self.strides[stage],
            ((above, above), (left, left)),
            kernel_init=uniform_by_inputs,
            bias_init=bias_by_inputs(rows * columns * x.shape[-1]),
            formulation=self.formulation,
            name=f"stage_{stage + 1}_embedding",
            **types,
        )(x)
        return layer_norm(x, self.param_dtype, f"stage_{stage + 1}_norm")
