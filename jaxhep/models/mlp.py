"""The multilayer perceptron of the AMS-02 calorimeter study: 192,001 parameters on 18 x 72 cells.

B batch, H layers, W cells, C channels.
"""

import jax.numpy as jnp
from flax import linen as nn

from .initial_values import bias_by_inputs, uniform_by_inputs
from .products import dot_general_in, kept_dtype


class MLP(nn.Module):
    """Fully connected network with ReLU: (B, H, W, C) energies -> (B,) logits in float32.

    Initial values: PyTorch's nn.Linear default, uniform between -+ 1/sqrt(inputs) for weights and biases.
    `axis_name` is accepted because every network here takes it; it does not matter without BatchNorm.
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
        x = x.reshape(x.shape[0], -1).astype(kept_dtype(self.dtype, self.formulation))
        for number, width in enumerate(self.hidden, 1):
            x = nn.relu(dense(width, x, self.dtype, self.param_dtype, f"dense_{number}")(x))
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return dense(1, x, wide, self.param_dtype, "logit")(x)[:, 0]


def dense(width: int, x, dtype, param_dtype, name: str, kernel_init=uniform_by_inputs, bias_init=None) -> nn.Dense:
    """A Dense layer for input `x` with products in `dtype`; initial values are PyTorch's default unless given."""
    return nn.Dense(
        width,
        dtype=jnp.promote_types(x.dtype, dtype),
        dot_general=dot_general_in(dtype),
        param_dtype=param_dtype,
        kernel_init=kernel_init,
        bias_init=bias_init or bias_by_inputs(x.shape[-1]),
        name=name,
    )
