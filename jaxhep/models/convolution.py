"""Convolution and depthwise convolution, each in the formulations that are fast on some back end.

All formulations give the same numbers; only the speed differs, on CPUs by factors of tens to hundreds.
B batch, H layers (rows), W cells (columns), C channels; windows are given as (rows, columns).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from .products import kept_dtype, product


class Formulation(NamedTuple):
    """How the operations are written: see `convolution`, `depthwise` and `pooling.max_pool`.

    events_innermost: whether a network of few channels uses `events_innermost` instead; by_event: whether the perceptrons
    of a transformer take some events at a time, see `perceptron`.
    """

    convolution: str
    depthwise: str
    max_pool: str
    events_innermost: bool = False
    by_event: bool = False


FORMULATIONS = {
    "direct": Formulation("direct", "direct", "direct"),
    "cpu": Formulation("by size", "shifts", "slices", events_innermost=True, by_event=True),
    # XLA's CPU convolution is quick, but several times slower inside lax.scan, and slower with a batch of kernels.
    "cpu one step": Formulation("by size, no loop", "shifts", "slices", events_innermost=True, by_event=True),
    "accelerator": Formulation("direct", "shifts", "direct"),
}

# Measured on a CPU: the patches of a small map are made all at once, those of a larger one for so many positions at a
# time that they stay in the cache (of 360, 720 and 1,500 the middle was quickest); without a loop or a batch of
# kernels around it, XLA's own convolution wins between TINY_MAP and SMALL_MAP.
TINY_MAP, SMALL_MAP = 8, 32
CHUNK_POSITIONS = 768
PURPOSES = ("auto", "one step")


def formulation_of(name: str) -> Formulation:
    """The formulation called `name`, or the best where JAX runs for a purpose. Raises ValueError for another name.

    Purposes: "one step" is one network with one step per dispatch, in training or scoring; "auto" is anything.
    """
    if name in PURPOSES:
        on_cpu = "cpu" if name == "auto" else "cpu one step"
        name = on_cpu if jax.default_backend() == "cpu" else "accelerator"
    if name not in FORMULATIONS:
        wanted = ", ".join((*PURPOSES, *FORMULATIONS))
        raise ValueError(f"formulation is {name!r}; it must be one of {wanted}")
    return FORMULATIONS[name]


def sides(padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding as ((above, below), (left, right)), from that form, from (before, after) for both axes, or one number."""
    if isinstance(padding, int):
        padding = (padding, padding)
    if isinstance(padding[0], int):
        padding = (padding, padding)
    return tuple(padding[0]), tuple(padding[1])


def output_size(size: int, window: int, stride: int, padding: tuple[int, int]) -> int:
    """Number of window positions along one axis. Raises ValueError where the window does not fit once."""
    positions = (size + padding[0] + padding[1] - window) // stride + 1
    if positions < 1:
        raise ValueError(f"a window of {window} does not fit into {size} cells padded by {padding[0]} and {padding[1]}")
    return positions


def live(size: int, window: int, stride: int, padding: tuple[int, int]) -> tuple[slice, tuple[int, int]]:
    """Part of the window that ever meets data rather than padding, and the padding that goes with it (negative: crop).

    On the 1 x 3 maps at the end of a ResNet two thirds of a 3 x 3 kernel only ever multiply zeros.
    """
    positions = output_size(size, window, stride, padding)
    span = (positions - 1) * stride
    first = max(0, padding[0] - span)
    last = min(window, size + padding[0])
    before = padding[0] - first
    return slice(first, last), (before, span + last - first - size - before)


def pad(x, padding, value=0.0):
    """Pad the rows and columns of x (B, H, W, C); negative numbers crop."""
    (above, below), (left, right) = padding
    edges = ((0, 0, 0), (above, below, 0), (left, right, 0), (0, 0, 0))
    return lax.pad(x, jnp.asarray(value, x.dtype), edges)


def windows(x, window, strides) -> list:
    """Every cell of a sliding window over x (B, H, W, C), row by row: each (B, rows, columns, C)."""
    rows = output_size(x.shape[1], window[0], strides[0], (0, 0))
    columns = output_size(x.shape[2], window[1], strides[1], (0, 0))
    return [
        x[
            :,
            i : i + (rows - 1) * strides[0] + 1 : strides[0],
            j : j + (columns - 1) * strides[1] + 1 : strides[1],
        ]
        for i in range(window[0])
        for j in range(window[1])
    ]


def convolution(x, kernel, strides=(1, 1), padding=0, formulation: str = "direct", dtype=None):
    """Ordinary convolution of x (B, H, W, C) with kernel (rows, columns, C, features).

    dtype: type of the products, where that is not the type of x; XLA's own convolution is always in the type of x.
    formulation: "direct" is XLA's convolution (cuDNN on GPU); "patches" gathers each window into a row and multiplies
    one matrix; "chunks" does so for some events at a time and gathers them again for the gradient; "by size" and
    "by size, no loop" choose by the size of the map. Raises ValueError for another name.
    """
    padding = sides(padding)
    rows, above_below = live(x.shape[1], kernel.shape[0], strides[0], padding[0])
    columns, left_right = live(x.shape[2], kernel.shape[1], strides[1], padding[1])
    kernel, padding = kernel[rows, columns], (above_below, left_right)
    positions = output_size(x.shape[1], kernel.shape[0], strides[0], padding[0])
    positions *= output_size(x.shape[2], kernel.shape[1], strides[1], padding[1])
    if formulation.startswith("by size"):
        own = "no loop" in formulation and dtype in (None, x.dtype) and kernel.shape[:2] != (1, 1)
        formulation = by_size(positions, x.shape[-1], own)
    if formulation == "direct":
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    if formulation not in ("patches", "chunks"):
        raise ValueError(f"convolution formulation is {formulation!r}; it must be direct, patches, chunks or by size")
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def multiply(x, matrix):
        patches = jnp.concatenate(windows(pad(x, padding), kernel.shape[:2], strides), -1)
        return product(patches, matrix, x.dtype if dtype is None else dtype)

    batch = x.shape[0]
    chunk = batch if formulation == "patches" else events_at_a_time(batch, positions)
    if chunk == batch:
        return multiply(x, matrix)
    multiply = jax.checkpoint(multiply)
    y = lax.map(lambda events: multiply(events, matrix), x.reshape(batch // chunk, chunk, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def by_size(positions: int, channels: int, own: bool) -> str:
    """Quickest formulation on a CPU of a convolution of `channels` to a map of `positions` cells.

    own: whether XLA's own convolution, which does not round its operands, is among them.
    """
    if own and channels > 1 and TINY_MAP < positions <= SMALL_MAP:
        return "direct"
    return "patches" if positions <= SMALL_MAP or channels == 1 else "chunks"


def events_at_a_time(batch: int, positions: int) -> int:
    """Largest divisor of the batch whose maps have at most `CHUNK_POSITIONS` positions together, at least 1."""
    most = max(1, min(batch, CHUNK_POSITIONS // positions))
    return next(chunk for chunk in range(most, 0, -1) if batch % chunk == 0)


def depthwise(x, kernel, padding=1, formulation: str = "shifts"):
    """Convolve each channel of x (B, H, W, C) with its own window: kernel (rows, columns, 1, C), stride 1.

    formulation: "direct" is XLA's grouped convolution; "shifts" adds the shifted inputs with a hand-written gradient
    that sums the kernel's in float32; "autodiff" is the same sum with the gradient left to JAX; "rows" sums along the
    columns first, then the rows. Raises ValueError for another name.
    """
    padding = sides(padding)
    if formulation == "direct":
        groups = {"feature_group_count": x.shape[-1], "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return lax.conv_general_dilated(x, kernel, (1, 1), padding, **groups)
    if formulation == "shifts":
        return shifted_sum(x, kernel, padding)
    if formulation == "autodiff":
        return plain_shifted_sum(x, kernel, padding)
    if formulation == "rows":
        return sum_by_rows(x, kernel, padding)
    raise ValueError(f"depthwise formulation is {formulation!r}; it must be direct, shifts, autodiff or rows")


def plain_shifted_sum(x, kernel, padding):
    """Sum over the window's cells of the shifted input times that cell's weight."""
    weights = kernel.reshape(-1, kernel.shape[-1])
    cells = windows(pad(x, padding), kernel.shape[:2], (1, 1))
    return sum(cell * weight for cell, weight in zip(cells, weights, strict=True))


def sum_by_rows(x, kernel, padding):
    """The same sum, with one intermediate per row of the window: fewer differently shifted reads in one loop."""
    x = pad(x, padding)
    rows = x.shape[1] - kernel.shape[0] + 1
    total = 0
    for i in range(kernel.shape[0]):
        total = total + plain_shifted_sum(x[:, i : i + rows], kernel[i : i + 1], ((0, 0), (0, 0)))
    return total


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_sum(x, kernel, padding):
    """`plain_shifted_sum` with its gradient written out."""
    return plain_shifted_sum(x, kernel, padding)


def shifted_sum_forward(x, kernel, padding):
    """The sum, and what its gradient needs."""
    return plain_shifted_sum(x, kernel, padding), (x, kernel)


def shifted_sum_backward(padding, saved, gradient):
    """Gradients of x and kernel."""
    # dL/dx is the correlation turned round: the kernel flipped and the padding complemented. dL/dkernel is one sum per
    # cell of the window; in bfloat16 a sum over 10^5 cells needs a float32 accumulator.
    x, kernel = saved
    (rows, columns), ((above, below), (left, right)) = kernel.shape[:2], padding
    turned = ((rows - 1 - above, rows - 1 - below), (columns - 1 - left, columns - 1 - right))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    cells = windows(pad(x, padding), (rows, columns), (1, 1))
    sums = [jnp.sum(cell.astype(wide) * gradient.astype(wide), axis=(0, 1, 2)) for cell in cells]
    kernel_gradient = jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)
    return plain_shifted_sum(gradient, kernel[::-1, ::-1], turned), kernel_gradient


shifted_sum.defvjp(shifted_sum_forward, shifted_sum_backward)


class Convolution(nn.Module):
    """Convolution layer: (B, H, W, C) -> (B, rows, columns, features); parameters `kernel` and, if wanted, `bias`."""

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int] = (1, 1)
    padding: int | Sequence = 0
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x):
        """Map (B, rows, columns, features) of the map x (B, H, W, C)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kept = kept_dtype(self.dtype, self.formulation)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype).astype(kept)
        written = formulation_of(self.formulation).convolution
        y = convolution(x.astype(kept), kernel, self.strides, self.padding, written, self.dtype)
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, (self.features,), self.param_dtype).astype(kept)
        return y
