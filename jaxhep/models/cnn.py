"""The convolutional network of the AMS-02 calorimeter study: 106,317 parameters on 18 x 72 cells.

B batch, H layers, W cells, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxhep.kernels import Kernels
from jaxhep.models.initial_values import bias_by_inputs, uniform_by_inputs
from jaxhep.models.layers import Parameters, dense, how, squeezed


class CNN(nn.Module):
    """Three convolutions, each with ReLU and 2 x 2 max-pool, then two dense layers.

    (B, H, W, C) energies -> logits in float32, (B,) or (B, outputs). The publication gives filters and the parameter
    count; kernels of 2, 2, 4 cells and a hidden layer of 100 reproduce the count exactly. Padding keeps the size.
    Initial values: PyTorch's default, uniform between -+ 1/sqrt(inputs) for kernels, weights and biases.
    """

    filters: tuple[int, ...] = (12, 24, 48)
    kernel_sizes: tuple[int, ...] = (2, 2, 4)
    hidden: int = 100
    outputs: int = 1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of energies x (B, H, W, C)."""
        del train
        compute = how(self)
        x = compute.activations(x)
        channels, weights = x.shape[-1], []
        for number, (width, size) in enumerate(zip(self.filters, self.kernel_sizes, strict=True), 1):
            kernel, bias = Parameters(self.param_dtype, name=f"convolution_{number}")(
                kernel=(uniform_by_inputs, (size, size, channels, width)),
                bias=(bias_by_inputs(size**2 * channels), (width,)),
            )
            weights.append((kernel.astype(x.dtype), bias))
            channels = width
        x = self.kernels.pooled_convolutions(x, weights)
        x = nn.relu(dense(self.hidden, x.reshape(x.shape[0], -1), compute, "dense"))
        return squeezed(dense(self.outputs, x, compute.wide(), "logit"))
