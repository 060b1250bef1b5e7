"""The multilayer perceptron of the AMS-02 calorimeter study: 192,001 parameters on 18 x 72 cells.

B batch, H layers, W cells, C channels.
"""

import jax.numpy as jnp
from flax import linen as nn

from .initial_values import bias_by_inputs, uniform_by_inputs


class MLP(nn.Module):
    """Fully connected network with ReLU: (B, H, W, C) energies -> (B,) logits in float32.

    Initial values: PyTorch's nn.Linear default, uniform between -+ 1/sqrt(inputs) for weights and biases.
    `formulation` and `axis_name` are accepted because every network here takes them; neither matters without
    convolutions and BatchNorm.
    """

    hidden: tuple[int, ...] = (120, 120, 120, 60)
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Logits (B,) of energies x (B, H, W, C)."""
        del train
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        for number, width in enumerate(self.hidden, 1):
            x = nn.relu(dense(width, x, self.dtype, self.param_dtype, f"dense_{number}")(x))
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return dense(1, x, wide, self.param_dtype, "logit")(x)[:, 0]


def dense(width: int, x, dtype, param_dtype, name: str) -> nn.Dense:
    """A Dense layer for input `x` with PyTorch's default initial values."""
    return nn.Dense(
        width,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=uniform_by_inputs,
        bias_init=bias_by_inputs(x.shape[-1]),
        name=name,
    )
