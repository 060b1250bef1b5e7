"""The four calorimeter networks in plain PyTorch: what jaxhep is compared with in tests and benchmarks.

Each takes (B, C, H, W) energies, B batch, C channels, H layers, W cells, and gives (B,) logits.
"""

from functools import partial

from .cnn import CNN
from .cvt import CvT
from .mlp import MLP
from .resnet import ResNet

MODELS = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet10": partial(ResNet, stage_sizes=(1, 1, 1, 1)),
    "resnet18": partial(ResNet, stage_sizes=(2, 2, 2, 2)),
    "cvt": CvT,
}
