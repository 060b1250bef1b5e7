"""PointNet of the ALPHA-g vertex study: 2,658,369 parameters, or 3,459,394 with a learned shift along z.

Qi et al., arXiv:1612.00593, as used for the annihilation vertex in arXiv:2412.00961 and arXiv:2502.12169.
B events, P points, C features.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxhep.kernels import Kernels
from jaxhep.models.initial_values import bias_by_inputs, ones, uniform_by_inputs, zeros
from jaxhep.models.layers import Compute, dense, how, moving_statistics


class PointLayer(nn.Module):
    """Dense layer shared by all points, then BatchNorm over the real points, ReLU, and the maximum over points if `pool`.

    Parameters kernel (C, F), bias (F,), norm_scale, norm_bias (F,); moving mean and variance in batch_stats. Statistics
    are in at least float32. The bias is in the mean too and cancels: left out of the sum its gradient is exactly zero.
    """

    features: int
    compute: Compute
    relu: bool = True
    pool: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Features (..., F) of x (..., C), or (B, F) of (B, P, C) with `pool`; weight (B, P), see `kernels.point_layer`."""
        wide, vector = self.compute.wide().dtype, (self.features,)
        parameter = self.compute.param_dtype
        kernel = self.param("kernel", uniform_by_inputs, (x.shape[-1], self.features), parameter).astype(wide)
        bias = self.param("bias", bias_by_inputs(x.shape[-1]), vector, parameter).astype(wide)
        scale = self.param("norm_scale", ones, vector, parameter).astype(wide)
        shift = self.param("norm_bias", zeros, vector, parameter).astype(wide)
        (moving_mean, moving_variance), move = moving_statistics(self, self.features, wide)

        x, known = self.compute.activations(x), None if train else (moving_mean - bias, moving_variance)
        chosen = (self.compute.dtype, self.pool, self.compute.axis_name, self.relu)
        y, mean, variance = self.compute.kernels.point_layer(x, weight, kernel, scale, shift, known, *chosen)
        if train:
            move(mean + bias, variance)
        return y.astype(x.dtype)


class Transform(nn.Module):
    """T-Net: shared layers, maximum over points, dense layers, then a dense layer of `outputs` values: (B, outputs)."""

    outputs: int
    point_widths: tuple[int, ...]
    head_widths: tuple[int, ...]
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None, train: bool) -> jax.Array:
        """Values (B, outputs) in at least float32 of points x (B, P, C) with weight (B, P) or None."""
        for number, width in enumerate(self.point_widths, 1):
            pool = number == len(self.point_widths)
            # Coordinates in mm need more digits than half precision has: a layer on them, narrow as it is, keeps them.
            compute = self.compute.wide() if x.shape[-1] == 3 else self.compute
            x = PointLayer(width, compute, pool=pool, name=f"points_{number}")(x, weight, train)
        for number, width in enumerate(self.head_widths, 1):
            x = PointLayer(width, self.compute, name=f"dense_{number}")(x, None, train)
        return dense(self.outputs, x, self.compute.wide(), "values")


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
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> jax.Array:
        """Outputs (B, outputs) of points x (B, P, 3), or of (points, mask) with mask (B, P) True for real points.

        Coordinates may be in any unit, mm as a rule. Each event needs at least one real point; what padded points hold
        does not matter. Raises ValueError for a z_output that is not an output.
        """
        if not 0 <= self.z_output < self.outputs:
            raise ValueError(
                f"z_output is {self.z_output}; it must be one of the {self.outputs} outputs, counted from 0"
            )
        compute, widths = how(self), (self.transform_widths, self.head_widths)
        wide = compute.wide().dtype
        points, weight = real_points(x, wide)
        shift = None
        if self.z_shift:
            shift = Transform(1, *widths, compute, name="shift")(points, weight, train)
            points = points - shift[:, None] * jnp.asarray([0, 0, 1], wide)
        size = self.point_widths[0]
        x = compute.activations(PointLayer(size, compute.wide(), name="points_1")(points, weight, train))
        matrix = Transform(size * size, *widths, compute, name="transform")(x, weight, train)
        matrix = matrix.reshape(-1, size, size) + jnp.eye(size, dtype=wide)
        x = x @ matrix.astype(x.dtype)
        for number, width in enumerate(self.point_widths[1:], 2):
            last = number == len(self.point_widths)
            x = PointLayer(width, compute, relu=not last, pool=last, name=f"points_{number}")(x, weight, train)
        for number, width in enumerate(self.head_widths, 1):
            x = PointLayer(width, compute, name=f"dense_{number}")(x, None, train)
        x = dense(self.outputs, x, compute.wide(), "output")
        return x if shift is None else x.at[:, self.z_output].add(shift[:, 0])


def real_points(x: Any, dtype: Any) -> tuple[jax.Array, jax.Array | None]:
    """Points (B, P, 3) with each padded one replaced by its event's first real one, and weights (B, P) or None.

    A repeated point cannot change a maximum over points, so padding needs no other care than in sums.
    """
    if not isinstance(x, tuple | list):
        return x.astype(dtype), None
    points, mask = x
    first = jnp.argmax(mask, axis=1)[:, None, None]
    repeated = jnp.take_along_axis(points, first, axis=1)
    return jnp.where(mask[..., None], points, repeated).astype(dtype), mask.astype(dtype)
