"""The convolutional network of the AMS-02 calorimeter study: 106,317 parameters on 18 x 72 cells.

B batch, H layers, W cells, C channels.
"""

import jax.numpy as jnp
from flax import linen as nn

from .convolution import Convolution, max_pool
from .initial_values import bias_by_inputs, uniform_by_inputs
from .mlp import dense


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
        x = x.astype(self.dtype)
        for number, (width, size) in enumerate(zip(self.filters, self.kernels, strict=True), 1):
            x = Convolution(
                width,
                (size, size),
                padding=((size - 1) // 2, size // 2),
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                kernel_init=uniform_by_inputs,
                bias_init=bias_by_inputs(size * size * x.shape[-1]),
                formulation=self.formulation,
                name=f"convolution_{number}",
            )(x)
            # ReLU and maximum commute; pooling first leaves a quarter of the cells to ReLU.
            x = nn.relu(max_pool(x, (2, 2), (2, 2), formulation=self.formulation))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(dense(self.hidden, x, self.dtype, self.param_dtype, "dense")(x))
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return dense(1, x, wide, self.param_dtype, "logit")(x)[:, 0]
