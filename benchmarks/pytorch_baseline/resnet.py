"""ResNet of basic blocks in torchvision's layout, 4,900,033 and 11,170,753 parameters."""

import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm around a shortcut."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.convolution_1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.batch_norm_1 = nn.BatchNorm2d(features)
        self.convolution_2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.batch_norm_2 = nn.BatchNorm2d(features)
        self.shortcut = None
        if stride != 1 or inputs != features:
            self.shortcut = nn.Conv2d(inputs, features, 1, stride, bias=False)
            self.shortcut_batch_norm = nn.BatchNorm2d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map of the block's features from the map before."""
        y = functional.relu(self.batch_norm_1(self.convolution_1(x)), inplace=True)
        y = self.batch_norm_2(self.convolution_2(y))
        if self.shortcut is not None:
            x = self.shortcut_batch_norm(self.shortcut(x))
        return functional.relu(x + y, inplace=True)


class ResNet(nn.Module):
    """Residual network: (B, C, H, W) -> (B,) logits."""

    def __init__(self, shape=(1, 18, 72), stage_sizes=(2, 2, 2, 2), width=64):
        super().__init__()
        self.stem = nn.Conv2d(shape[0], width, 7, 2, 3, bias=False)
        self.stem_batch_norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleDict()
        inputs = width
        for stage, blocks in enumerate(stage_sizes, 1):
            for block in range(1, blocks + 1):
                features = width * 2 ** (stage - 1)
                stride = 2 if stage > 1 and block == 1 else 1
                self.blocks[f"stage_{stage}_block_{block}"] = BasicBlock(inputs, features, stride)
                inputs = features
        self.logit = nn.Linear(inputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B,) of energies (B, C, H, W)."""
        x = functional.relu(self.stem_batch_norm(self.stem(x)), inplace=True)
        x = functional.max_pool2d(x, 3, 2, 1)
        for block in self.blocks.values():
            x = block(x)
        return self.logit(x.mean((2, 3)))[:, 0]
