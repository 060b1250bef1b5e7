"""PointNet of the ALPHA-g vertex study: 2,658,369 parameters, or 3,459,394 with a learned shift along z.

Qi et al., arXiv:1612.00593, as used for the annihilation vertex in arXiv:2412.00961 and arXiv:2502.12169.
B events, P points, C features.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from .mlp import dense
from .point_layers import PointLayer
from .products import kept_dtype


class Transform(nn.Module):
    """T-Net: shared layers, maximum over points, dense layers, then a dense layer of `outputs` values: (B, outputs)."""

    outputs: int
    layer: Callable
    point_widths: tuple[int, ...]
    head_widths: tuple[int, ...]
    first_dtype: jnp.dtype
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, weight, train: bool):
        """Values (B, outputs) in at least float32 of points x (B, P, C) with weight (B, P) or None."""
        for number, width in enumerate(self.point_widths, 1):
            pool = number == len(self.point_widths)
            dtype = self.first_dtype if number == 1 else self.dtype
            x = self.layer(width, dtype=dtype, pool=pool, name=f"points_{number}")(x, weight, train)
        for number, width in enumerate(self.head_widths, 1):
            x = self.layer(width, name=f"dense_{number}")(x, None, train)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return dense(self.outputs, x, wide, self.param_dtype, "values")(x)


class PointNet(nn.Module):
    """PointNet for regression: points (B, P, 3) -> (B, outputs) in float32.

    A shared layer of point_widths[0], a feature transform of that size from a T-Net, shared layers of point_widths[1:]
    (the last without ReLU), maximum over points, dense layers of head_widths, then the outputs. Dense layers have
    biases, and BatchNorm (epsilon 1e-5, momentum 0.9, PyTorch's 0.1) follows all but the last of each part.
    With `z_shift` a second T-Net on the raw points gives one value per event, subtracted from the points' z and added
    to output number `z_output`. The order of the points does not matter.
    BatchNorm's statistics are over the real points of the whole batch under jit and, with `axis_name`, under pmap.
    Initial values: PyTorch's nn.Linear default, uniform between -+ 1/sqrt(inputs); the feature transform adds the identity.
    """

    outputs: int = 1
    z_output: int = 0
    z_shift: bool = False
    point_widths: tuple[int, ...] = (64, 128, 1024)
    transform_widths: tuple[int, ...] = (64, 128, 1024)
    head_widths: tuple[int, ...] = (512, 256)
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Outputs (B, outputs) of points x (B, P, 3), or of (points, mask) with mask (B, P) True for real points.

        Coordinates may be in any unit, mm as a rule. Each event needs at least one real point; what padded points hold
        does not matter. Raises ValueError for an unknown formulation or a z_output that is not an output.
        """
        if not 0 <= self.z_output < self.outputs:
            raise ValueError(
                f"z_output is {self.z_output}; it must be one of the {self.outputs} outputs, counted from 0"
            )
        wide = jnp.promote_types(self.dtype, jnp.float32)
        points, weight = real_points(x, wide)

        layer = partial(
            PointLayer,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            axis_name=self.axis_name,
            formulation=self.formulation,
        )

        def transform(outputs: int, name: str, first_dtype) -> Transform:
            widths, dtypes = (self.transform_widths, self.head_widths), (first_dtype, self.dtype, self.param_dtype)
            return Transform(outputs, layer, *widths, *dtypes, name=name)

        shift = None
        if self.z_shift:
            shift = transform(1, "shift", wide)(points, weight, train)
            points = points - shift[:, None] * jnp.asarray([0, 0, 1], wide)
        # Coordinates in mm need more digits than half precision has: the first layer, narrow as it is, keeps them.
        kept = kept_dtype(self.dtype, self.formulation)
        x = layer(self.point_widths[0], dtype=wide, name="points_1")(points, weight, train).astype(kept)
        size = self.point_widths[0]
        matrix = transform(size * size, "transform", self.dtype)(x, weight, train)
        matrix = matrix.reshape(-1, size, size) + jnp.eye(size, dtype=wide)
        x = x @ matrix.astype(kept)
        for number, width in enumerate(self.point_widths[1:], 2):
            last = number == len(self.point_widths)
            x = layer(width, relu=not last, pool=last, name=f"points_{number}")(x, weight, train)
        for number, width in enumerate(self.head_widths, 1):
            x = layer(width, name=f"dense_{number}")(x, None, train)
        x = dense(self.outputs, x, wide, self.param_dtype, "output")(x)
        return x if shift is None else x.at[:, self.z_output].add(shift[:, 0])


def real_points(x, dtype):
    """Points (B, P, 3) with each padded one replaced by its event's first real one, and weights (B, P) or None.

    A repeated point cannot change a maximum over points, so padding needs no other care than in sums.
    """
    if not isinstance(x, tuple | list):
        return x.astype(dtype), None
    points, mask = x
    first = jnp.argmax(mask, axis=1)[:, None, None]
    repeated = jnp.take_along_axis(points, first, axis=1)
    return jnp.where(mask[..., None], points, repeated).astype(dtype), mask.astype(dtype)
