"""Networks. Each is a Flax Linen module called as model(x, train), computing with the operations in `kernels`.

Those of images take (B, H, W, C) energies and give logits, (B,) or (B, outputs); those of points take (B, P, 3) points,
or the pair (points, mask), and give (B, outputs) values.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from jaxhep.models.cnn import CNN
from jaxhep.models.cvt import CvT
from jaxhep.models.mlp import MLP
from jaxhep.models.pointnet import PointNet
from jaxhep.models.resnet import ResNet

IMAGES = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet10": partial(ResNet, stage_sizes=(1, 1, 1, 1)),
    "resnet18": partial(ResNet, stage_sizes=(2, 2, 2, 2)),
    "cvt": CvT,
}
POINTS = {
    "pointnet": PointNet,
}
MODELS = IMAGES | POINTS


def trainable_parameters(params: Any) -> int:
    """Number of trainable parameters in a tree of arrays or shapes: give `variables["params"]`, without batch_stats."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def summary(model: nn.Module, input_shape: Any) -> str:
    """Table of the trainable parameters of `model`: one line per top-level block.

    input_shape: shape of the input, as (B, H, W, C) or (B, P, 3), or an example of the input, such as the arrays or
    shapes (points, mask). Only shapes are computed: nothing is compiled. The last line is `trainable parameters: N`.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    inputs = input_shape
    if all(isinstance(size, int) for size in input_shape):
        inputs = jax.ShapeDtypeStruct(input_shape, jnp.float32)
    params = jax.eval_shape(lambda key, x: model.init(key, x, train=False), key, inputs)["params"]
    lines = [f"{'block':<28}{'parameters':>12}  shapes"]
    for name, block in params.items():
        leaves = traverse_util.flatten_dict(block, sep=".") if isinstance(block, dict) else {"": block}
        shapes = ", ".join(f"{leaf} {'x'.join(map(str, array.shape))}".strip() for leaf, array in leaves.items())
        if len(leaves) > 3:
            shapes = f"{len(leaves)} arrays"
        lines.append(f"{name:<28}{trainable_parameters(block):>12,}  {shapes}")
    lines.append(f"trainable parameters: {trainable_parameters(params)}")
    return "\n".join(lines)
