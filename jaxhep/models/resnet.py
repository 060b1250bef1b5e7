"""ResNet10 and ResNet18 of the AMS-02 calorimeter study: 4,900,033 and 11,170,753 parameters.

The layout is torchvision's ResNet of basic blocks (He et al., arXiv:1512.03385), with one logit.
B batch, H layers, W cells, C channels.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxhep.kernels import Kernels
from jaxhep.models.initial_values import normal_by_outputs
from jaxhep.models.layers import Convolution, dense, how, squeezed


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm around a shortcut; the first convolution carries the stride."""

    features: int
    stride: int
    convolution: partial
    batch_norm: partial

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, rows, columns, features) of the map x (B, H, W, C)."""
        y = self.convolution(self.features, (3, 3), (self.stride, self.stride), 1, name="convolution_1")(x)
        y = nn.relu(self.batch_norm(name="batch_norm_1")(y))
        y = self.convolution(self.features, (3, 3), (1, 1), 1, name="convolution_2")(y)
        y = self.batch_norm(name="batch_norm_2")(y)
        if x.shape != y.shape:
            x = self.convolution(self.features, (1, 1), (self.stride, self.stride), 0, name="shortcut")(x)
            x = self.batch_norm(name="shortcut_batch_norm")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Residual network of basic blocks: (B, H, W, C) energies -> logits in float32, (B,) or (B, outputs).

    Stem: 7 x 7 convolution of stride 2, BatchNorm, ReLU, 3 x 3 max-pool of stride 2. Stage k has width * 2^(k-1)
    features and halves the map from stage 2 on; the mean over the last map goes to the logit.
    Convolutions have no bias, since a BatchNorm follows. BatchNorm: epsilon 1e-5, momentum 0.9 (PyTorch's 0.1);
    its statistics are of the whole batch under jit and, with `axis_name`, under pmap.
    Initial values: torchvision's, normal with variance 2/fan_out for kernels; PyTorch's nn.Linear default for the logit.
    """

    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    outputs: int = 1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of energies x (B, H, W, C)."""
        compute = how(self)
        x = compute.activations(x)
        convolution = partial(Convolution, compute=compute, kernel_init=normal_by_outputs)
        batch_norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=x.dtype,
            param_dtype=self.param_dtype,
            axis_name=self.axis_name,
        )
        x = convolution(self.width, (7, 7), (2, 2), 3, name="stem")(x)
        x = nn.relu(batch_norm(name="stem_batch_norm")(x))
        x = self.kernels.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.stage_sizes, 1):
            for block in range(1, blocks + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                features = self.width * 2 ** (stage - 1)
                x = BasicBlock(features, stride, convolution, batch_norm, name=f"stage_{stage}_block_{block}")(x)
        x = jnp.mean(x, axis=(1, 2), dtype=compute.wide().dtype)
        return squeezed(dense(self.outputs, x, compute.wide(), "logit"))
