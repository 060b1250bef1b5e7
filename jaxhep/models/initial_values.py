"""Initial values of the PyTorch originals: the published networks were trained from these, so ours start alike."""

import jax
import jax.numpy as jnp
from flax import linen as nn

Initializer = nn.initializers.Initializer
zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()

# PyTorch's default for nn.Linear and nn.Conv2d: uniform between -+ 1/sqrt(fan_in), whose variance is 1/(3 fan_in).
uniform_by_inputs = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# torchvision's ResNet: kaiming_normal_(mode="fan_out", nonlinearity="relu"), variance 2/fan_out.
normal_by_outputs = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

# trunc_normal_(std=0.02) of the CvT original cuts at +-2 (not at two standard deviations): a plain normal in effect.
normal_002 = nn.initializers.normal(0.02)


def bias_by_inputs(inputs: int) -> Initializer:
    """PyTorch's default bias: uniform between -+ 1/sqrt(inputs), `inputs` being the fan-in of the kernel beside it."""

    def initial(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding  # newer Flax passes it; a bias is replicated
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return initial
