"""A BatchNorm and the 1 x 1 convolution after it: x (B, H, W, C) -> (B, H, W, F).

Both forms take (x, mean, gain, offset, kernel, bias, dtype): (x - mean) * gain + offset with vectors (C,), then times the
kernel (C, F) plus the bias (F,), in products of `dtype`.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxhep.kernels.bias import add_bias
from jaxhep.kernels.product import product


def normalised_product(
    x: jax.Array, mean: jax.Array, gain: jax.Array, offset: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: Any
) -> jax.Array:
    """Normalised first, then multiplied."""
    x = ((x - mean) * gain + offset).astype(x.dtype)
    return add_bias(product(x, kernel, dtype), bias)


def folded(product: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Return the form, by this product, in which the normalisation is part of the weights and costs no pass over x."""

    def normalised(
        x: jax.Array,
        mean: jax.Array,
        gain: jax.Array,
        offset: jax.Array,
        kernel: jax.Array,
        bias: jax.Array,
        dtype: Any,
    ) -> jax.Array:
        bias = bias + (offset - mean * gain) @ kernel
        return add_bias(product(x, gain[:, None] * kernel, dtype), bias)

    return normalised
