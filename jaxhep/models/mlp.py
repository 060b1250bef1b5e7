"""The multilayer perceptron of the AMS-02 calorimeter study: 192,001 parameters on 18 x 72 cells.

B batch, H layers, W cells, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxhep.kernels import Kernels
from jaxhep.models.layers import dense, how, squeezed


class MLP(nn.Module):
    """Fully connected network with ReLU: (B, H, W, C) energies -> logits in float32, (B,) or (B, outputs).

    Initial values: PyTorch's nn.Linear default, uniform between -+ 1/sqrt(inputs) for weights and biases.
    `axis_name` is accepted because every network here takes it; it does not matter without BatchNorm.
    """

    hidden: tuple[int, ...] = (120, 120, 120, 60)
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
        x = self.kernels.flat(x, self.kernels.activation_dtype(self.dtype))
        for number, width in enumerate(self.hidden, 1):
            x = nn.relu(dense(width, x, compute, f"dense_{number}"))
        return squeezed(dense(self.outputs, x, compute.wide(), "logit"))
