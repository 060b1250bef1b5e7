"""The convolutional network of the AMS-02 calorimeter study: 106,317 parameters on 18 x 72 cells.

B batch, H layers, W cells, C channels.
"""

import jax.numpy as jnp
from flax import linen as nn

from . import events_innermost
from .convolution import convolution, formulation_of
from .initial_values import bias_by_inputs, uniform_by_inputs
from .mlp import dense
from .pooling import max_pool
from .products import kept_dtype


class ConvolutionParameters(nn.Module):
    """Parameters of a convolution of x (B, H, W, C): kernel (size, size, C, features) and bias (features,)."""

    features: int
    size: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, channels: int):
        """Kernel and bias for so many channels."""
        shape = (self.size, self.size, channels, self.features)
        kernel = self.param("kernel", uniform_by_inputs, shape, self.param_dtype)
        bias = self.param("bias", bias_by_inputs(self.size**2 * channels), (self.features,), self.param_dtype)
        return kernel.astype(self.dtype), bias.astype(self.dtype)


class CNN(nn.Module):
    """Three convolutions, each with ReLU and 2 x 2 max-pool, then two dense layers: (B, H, W, C) -> (B,) logits in float32.

    The publication gives filters and the parameter count; kernels 2, 2, 4 and a hidden layer of 100 reproduce the
    count exactly. Padding keeps the size; where a kernel is even, the odd cell of padding goes below and to the right
    (as PyTorch's padding="same" and XLA's "SAME" both do).
    Initial values: PyTorch's default, uniform between -+ 1/sqrt(inputs) for kernels, weights and biases.
    """

    filters: tuple[int, ...] = (12, 24, 48)
    kernels: tuple[int, ...] = (2, 2, 4)
    hidden: int = 100
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Logits (B,) of energies x (B, H, W, C)."""
        del train
        x = x.astype(kept_dtype(self.dtype, self.formulation))
        channels, weights = x.shape[-1], []
        for number, (width, size) in enumerate(zip(self.filters, self.kernels, strict=True), 1):
            parameters = ConvolutionParameters(width, size, x.dtype, self.param_dtype, name=f"convolution_{number}")
            weights.append(parameters(channels))
            channels = width
        if formulation_of(self.formulation).events_innermost:
            x = events_innermost.in_chunks(lambda events: with_events_innermost(events, weights), x)
        else:
            x = with_channels_innermost(x, weights, self.formulation)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(dense(self.hidden, x, self.dtype, self.param_dtype, "dense")(x))
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return dense(1, x, wide, self.param_dtype, "logit")(x)[:, 0]


def with_channels_innermost(x, weights: list, formulation: str):
    """Convolutions and pooling of x (B, H, W, C), one after the other: (B, rows, columns, features)."""
    for kernel, bias in weights:
        padding = events_innermost.padding_of(kernel.shape[0])
        x = convolution(x, kernel, padding=padding, formulation=formulation_of(formulation).convolution) + bias
        # ReLU and maximum commute; pooling first leaves a quarter of the cells to ReLU.
        x = nn.relu(max_pool(x, (2, 2), (2, 2), formulation=formulation))
    return x


def with_events_innermost(x, weights: list):
    """The same in the other order of axes, which is far quicker on CPUs."""
    x = x.transpose(3, 1, 2, 0)
    for kernel, bias in weights:
        x = events_innermost.pooled(events_innermost.convolution(x, kernel), bias)
    return x.transpose(3, 1, 2, 0)
