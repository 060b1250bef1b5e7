"""Convolution, depthwise convolution and max-pool, each in the formulations that are fast on some back end.

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


class Formulation(NamedTuple):
    """How the three operations are written: see `convolution`, `depthwise` and `max_pool`."""

    convolution: str
    depthwise: str
    max_pool: str


FORMULATIONS = {
    "direct": Formulation("direct", "direct", "direct"),
    "cpu": Formulation("patches", "shifts", "slices"),
    # XLA's own convolution is quicker on large maps, but inside lax.scan it falls to a path 7 times slower: only for
    # one step per dispatch.
    "cpu one step": Formulation("by size", "shifts", "slices"),
    "accelerator": Formulation("direct", "shifts", "direct"),
}


# Maps of at most this many cells are quicker as patches on a CPU, larger ones by XLA's convolution (measured).
SMALL_MAP = 32


def formulation_of(name: str) -> Formulation:
    """The formulation called `name`; "auto" means "cpu" or "accelerator", whichever JAX runs on. Raises ValueError."""
    if name == "auto":
        name = "cpu" if jax.default_backend() == "cpu" else "accelerator"
    if name not in FORMULATIONS:
        raise ValueError(f"formulation is {name!r}; it must be 'auto' or one of {', '.join(FORMULATIONS)}")
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


def convolution(x, kernel, strides=(1, 1), padding=0, formulation: str = "direct"):
    """Ordinary convolution of x (B, H, W, C) with kernel (rows, columns, C, features).

    formulation: "direct" is XLA's convolution (cuDNN on GPU); "patches" gathers each window into a row and multiplies
    one matrix; "taps" adds one product per cell of the window; "by size" takes patches for maps of up to `SMALL_MAP`
    cells, else direct. Raises ValueError for another name.
    """
    padding = sides(padding)
    rows, above_below = live(x.shape[1], kernel.shape[0], strides[0], padding[0])
    columns, left_right = live(x.shape[2], kernel.shape[1], strides[1], padding[1])
    kernel, padding = kernel[rows, columns], (above_below, left_right)
    if formulation == "by size":
        positions = output_size(x.shape[1], kernel.shape[0], strides[0], padding[0])
        positions *= output_size(x.shape[2], kernel.shape[1], strides[1], padding[1])
        formulation = "patches" if positions <= SMALL_MAP else "direct"
    if formulation == "direct":
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    cells = windows(pad(x, padding), kernel.shape[:2], strides)
    if formulation == "patches":
        return jnp.concatenate(cells, -1) @ kernel.reshape(-1, kernel.shape[-1])
    if formulation == "taps":
        matrices = kernel.reshape(-1, *kernel.shape[2:])
        return sum(cell @ matrix for cell, matrix in zip(cells, matrices, strict=True))
    raise ValueError(f"convolution formulation is {formulation!r}; it must be direct, patches, taps or by size")


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


def max_pool(x, window, strides, padding=0, formulation: str = "auto"):
    """Largest value of each window of x (B, H, W, C); the gradient goes to the first of equal values, as in PyTorch.

    formulation: a name of `FORMULATIONS` or "auto". "direct" is XLA's window reduction, "slices" compares the strided
    slices of the input one after the other.
    """
    padding = sides(padding)
    if formulation_of(formulation).max_pool == "direct":
        return nn.max_pool(x, window, strides, padding)
    largest, *others = windows(pad(x, padding, -jnp.inf), window, strides)
    for other in others:
        # "or not a number" lets a diverged network show, as the window reduction does.
        largest = jnp.where((other > largest) | jnp.isnan(other), other, largest)
    return largest


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
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype).astype(self.dtype)
        written = formulation_of(self.formulation).convolution
        y = convolution(x.astype(self.dtype), kernel, self.strides, self.padding, written)
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, (self.features,), self.param_dtype).astype(self.dtype)
        return y
