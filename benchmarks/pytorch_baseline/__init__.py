"""The networks in plain PyTorch: what jaxhep is compared with in tests and benchmarks.

The calorimeter networks take (B, C, H, W) energies, B batch, C channels, H layers, W cells, and give (B,) logits;
PointNet takes (B, P, 3) points and gives (B, outputs) values.
"""

from functools import partial

from .cnn import CNN
from .cvt import CvT
from .mlp import MLP
from .pointnet import PointNet
from .resnet import ResNet

MODELS = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet10": partial(ResNet, stage_sizes=(1, 1, 1, 1)),
    "resnet18": partial(ResNet, stage_sizes=(2, 2, 2, 2)),
    "cvt": CvT,
    "pointnet": PointNet,
}
