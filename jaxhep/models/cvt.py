"""The convolutional vision transformer (CvT) of the AMS-02 calorimeter study: 4,895,873 parameters on 18 x 72 cells.

CvT: Wu et al., arXiv:2103.15808; this layout, with the study's kernels and strides, reproduces its parameter count.
B batch, H layers, W cells, C channels, T tokens.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxhep.kernels import Kernels
from jaxhep.models.initial_values import bias_by_inputs, normal_002, ones, uniform_by_inputs, zeros
from jaxhep.models.layers import Compute, Convolution, Parameters, batch_statistics, dense, how, layer_norm, squeezed


class Projection(nn.Module):
    """Convolutional projection to queries, keys or values: depthwise 3 x 3, BatchNorm, 1 x 1 convolution.

    The depthwise bias does not survive the subtraction of the mean: it shows in the moving mean alone, and its gradient
    is exactly zero.
    """

    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, C) of the map x (B, H, W, C)."""
        width, parameter, kernels = x.shape[-1], self.compute.param_dtype, self.compute.kernels
        kernel = self.param("depthwise_kernel", uniform_by_inputs, (3, 3, 1, width), parameter)
        bias = self.param("depthwise_bias", bias_by_inputs(9), (width,), parameter)
        scale = self.param("norm_scale", ones, (width,), parameter)
        offset = self.param("norm_bias", zeros, (width,), parameter)
        matrix = self.param("kernel", normal_002, (width, width), parameter)
        vector = self.param("bias", zeros, (width,), parameter)
        x = kernels.depthwise(x, kernel.astype(x.dtype), 1)
        mean, variance = batch_statistics(self, x, bias, self.compute.axis_name, train)
        gain = scale * lax.rsqrt(variance + 1e-5)
        return kernels.normalised_product(x, mean, gain, offset, matrix, vector, self.compute.dtype)


class Block(nn.Module):
    """Pre-norm transformer block: attention with convolutional projections, then a perceptron of ratio 4.

    `grid` is (rows, columns) of the map. With `class_token` the first token stands outside the map and enters queries,
    keys and values as it is.
    """

    grid: tuple[int, ...]
    heads: int
    class_token: bool
    scaled_by: int
    dropout: float
    compute: Compute

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        """Tokens (B, T, C) of tokens (B, T, C)."""
        (batch, count, width), inputs = tokens.shape, []
        drop = nn.Dropout(self.dropout, deterministic=not train) if self.dropout else None
        x = layer_norm(tokens, self.compute, "norm_1")
        cells = x[:, int(self.class_token) :].reshape(batch, *self.grid, width)
        for name in ("query", "key", "value"):
            projected = Projection(self.compute, name=name)(cells, train).reshape(batch, -1, width)
            if self.class_token:
                projected = jnp.concatenate([x[:, :1], projected], axis=1)
            inputs.append(projected.reshape(batch, count, self.heads, width // self.heads))
        x = self.compute.kernels.attention(*inputs, self.scaled_by**-0.5, self.compute.dtype)
        x = dense(width, x.reshape(batch, count, width), self.compute, "output", normal_002, zeros)
        tokens = tokens + (drop(x) if drop else x)

        arrays, hidden = partial(Parameters, self.compute.param_dtype), 4 * width
        norm = arrays(name="norm_2")(scale=(ones, (width,)), bias=(zeros, (width,)))
        dense_1 = arrays(name="dense_1")(kernel=(normal_002, (width, hidden)), bias=(zeros, (hidden,)))
        dense_2 = arrays(name="dense_2")(kernel=(normal_002, (hidden, width)), bias=(zeros, (width,)))
        return self.compute.kernels.perceptron(tokens, norm, dense_1, dense_2, self.compute.dtype, drop)


class CvT(nn.Module):
    """Convolutional vision transformer: (B, H, W, C) energies -> logits in float32, (B,) or (B, outputs).

    Three stages, each a convolutional token embedding with LayerNorm and then transformer blocks; a class token joins in
    the last stage and carries the logit. On 18 x 72 cells the token grids are 21 x 36, 21 x 18 and 21 x 18 (+1).
    attention_scale: the products are scaled by the width of one "head" to the -1/2, or of the "embedding", as the CvT
    original does. Epsilons are 1e-5, GELU is exact. Initial values: the CvT original's, normal of 0.02 for linear layers,
    1 x 1 convolutions and the class token; PyTorch's default, uniform between -+ 1/sqrt(inputs), for embeddings and
    depthwise convolutions.
    Raises ValueError for an unknown attention scale and for widths that their heads do not divide.
    """

    widths: Sequence[int] = (64, 192, 384)
    heads: Sequence[int] = (1, 3, 6)
    blocks: Sequence[int] = (1, 1, 2)
    kernel_sizes: Sequence[Sequence[int]] = ((2, 6), (3, 4), (3, 3))
    strides: Sequence[Sequence[int]] = ((1, 2), (1, 2), (1, 1))
    paddings: Sequence[Sequence[int]] = ((2, 2), (1, 1), (1, 1))
    dropout: float = 0.0
    attention_scale: str = "head"
    outputs: int = 1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of energies x (B, H, W, C)."""
        if self.attention_scale not in ("embedding", "head"):
            raise ValueError(f"attention_scale is {self.attention_scale!r}; it must be embedding or head")
        compute = how(self)
        x = compute.activations(x)
        for stage, (width, heads) in enumerate(zip(self.widths, self.heads, strict=True)):
            if width % heads:
                raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
            last, name = stage == len(self.widths) - 1, f"stage_{stage + 1}"
            (rows, columns), (above, left) = self.kernel_sizes[stage], self.paddings[stage]
            embedding = (width, (rows, columns), self.strides[stage], ((above, above), (left, left)), compute)
            bias = bias_by_inputs(rows * columns * x.shape[-1])
            x = Convolution(*embedding, bias_init=bias, name=f"{name}_embedding")(x)
            x = layer_norm(x, compute, f"{name}_norm")

            batch, *grid, _ = x.shape
            tokens = x.reshape(batch, -1, width)
            if last:
                token = self.param("class_token", normal_002, (1, 1, width), self.param_dtype)
                each = jnp.broadcast_to(token, (batch, 1, width)).astype(x.dtype)  # so its gradient sums in full
                tokens = jnp.concatenate([each, tokens], axis=1)
            scaled_by = width if self.attention_scale == "embedding" else width // heads
            for number in range(self.blocks[stage]):
                block = Block(
                    tuple(grid), heads, last, scaled_by, self.dropout, compute, name=f"{name}_block_{number + 1}"
                )
                tokens = block(tokens, train)
            x = tokens[:, int(last) :].reshape(x.shape)
        token = layer_norm(tokens[:, 0].astype(compute.wide().dtype), compute, "norm")
        return squeezed(dense(self.outputs, token, compute.wide(), "logit", normal_002, zeros))
