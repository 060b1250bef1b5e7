"""Operations that networks are made of: the plain form of each, and forms that are fast on some platform.

One file for each operation, the plain form first. `Kernels()` are the plain forms, `choose` gives those that are fast on
a platform; parameters and, to rounding, numbers are the same with either. A single operation is exchanged by
`kernels._replace(attention=...)`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax

from jaxhep.kernels import (
    attention,
    convolution,
    depthwise,
    flat,
    max_pool,
    normalised_product,
    perceptron,
    point_layer,
    point_layer_by_passes,
    pooled_convolutions,
    product,
)

__all__ = ["PLATFORMS", "Kernels", "choose"]

PLATFORMS = ("cpu", "gpu", "tpu")  # as JAX's devices call them
Array = Callable[..., jax.Array]


class Kernels(NamedTuple):
    """What a network computes with; each file says what its operation takes."""

    activation_dtype: Callable[[Any], Any] = product.as_asked
    product: Array = product.product
    convolution: Array = convolution.convolution
    depthwise: Array = depthwise.depthwise
    flat: Array = flat.flat
    max_pool: Array = max_pool.max_pool
    pooled_convolutions: Array = pooled_convolutions.pooled_convolutions
    attention: Array = attention.attention
    perceptron: Array = perceptron.perceptron
    normalised_product: Array = normalised_product.normalised_product
    point_layer: Callable[..., tuple[jax.Array, jax.Array, jax.Array]] = point_layer.point_layer


# Each network keeps the objects it was made with: equal choices must be the same objects, or they compile twice.
_FOLDED, _FOLDED_ROUNDED = (normalised_product.folded(form) for form in (product.product, product.rounded))
_POINTS_ON_CPU = point_layer.by_covariance(product.rounded, point_layer.in_turn)
_POINTS_ELSEWHERE = point_layer.by_covariance(point_layer.of_few, point_layer.at_once)
_IN_LOOPS, _OUTSIDE_LOOPS = convolution.by_size(own=False), convolution.by_size(own=True)
_PERCEPTRON = partial(perceptron.perceptron, activated=perceptron.gelu_from_product)
_CHAIN = partial(pooled_convolutions.pooled_convolutions, convolution=convolution.of_live_cells)
# Compiled for a GPU the window reduction's gradient is a scatter; for a TPU the slices need more cycles than it.
_CHAIN_BY_SLICES = partial(_CHAIN, max_pool=max_pool.by_slices)


@cache
def _points_by_pallas(platform: str) -> Callable[..., point_layer.Found]:
    """The point layer in kernels of our own for an accelerator: Pallas is loaded only where it is used."""
    if platform == "gpu":
        from jaxhep.kernels.points_by_triton import PASSES
    else:
        from jaxhep.kernels.points_by_mosaic import PASSES
    return point_layer_by_passes.by_passes(PASSES, _POINTS_ELSEWHERE)


@cache
def _depthwise_by_triton() -> Array:
    from jaxhep.kernels.depthwise_by_triton import kernel_sums

    return depthwise.by_shifts_with(kernel_sums)


def choose(platform: str, steps_per_dispatch: int = 1, members: int = 1, own_kernels: bool = True) -> Kernels:
    """Return the forms that are fast on a platform, for so many steps or parts of a batch in one program, and members.

    `platform` is that of the devices which will run the program, wherever it is compiled. Without `own_kernels` there are
    none but XLA's and the vendors'. Raises ValueError for another than cpu, gpu or tpu.
    """
    if platform == "cpu":
        # XLA's CPU convolution is quick, but several times slower inside lax.scan, and slower with a batch of kernels.
        in_loops = steps_per_dispatch > 1 or members > 1
        return Kernels(
            activation_dtype=product.at_least_float32,
            product=product.rounded,
            convolution=_IN_LOOPS if in_loops else _OUTSIDE_LOOPS,
            depthwise=depthwise.by_shifts,
            max_pool=max_pool.by_slices,
            pooled_convolutions=pooled_convolutions.with_events_innermost,
            attention=attention.by_head,
            perceptron=perceptron.by_events,
            normalised_product=_FOLDED_ROUNDED,
            point_layer=_POINTS_ON_CPU,
        )
    if platform in PLATFORMS:
        return Kernels(
            convolution=convolution.of_live_cells,
            depthwise=_depthwise_by_triton() if platform == "gpu" and own_kernels else depthwise.by_shifts,
            flat=flat.flat_first if platform == "tpu" else flat.flat,
            max_pool=max_pool.by_slices if platform == "gpu" else max_pool.max_pool,
            pooled_convolutions=_CHAIN_BY_SLICES if platform == "gpu" else _CHAIN,
            attention=attention.by_cudnn if platform == "gpu" else attention.attention,
            perceptron=_PERCEPTRON,
            normalised_product=_FOLDED,
            point_layer=_points_by_pallas(platform) if own_kernels else _POINTS_ELSEWHERE,
        )
    raise ValueError(f"platform is {platform!r}, wanted one of {', '.join(PLATFORMS)}")
