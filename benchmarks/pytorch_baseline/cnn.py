"""Convolutional network, 106,317 parameters."""

import torch
from torch import nn
from torch.nn import functional


class CNN(nn.Module):
    """Three convolutions with ReLU and 2 x 2 max-pool, then two dense layers: (B, C, H, W) -> (B,) logits."""

    def __init__(self, shape=(1, 18, 72), filters=(12, 24, 48), kernels=(2, 2, 4), hidden=100):
        super().__init__()
        channels, rows, columns = shape
        self.convolutions = nn.ModuleList()
        for width, size in zip(filters, kernels, strict=True):
            self.convolutions.append(nn.Conv2d(channels, width, size))
            channels, rows, columns = width, rows // 2, columns // 2
        self.dense = nn.Linear(channels * rows * columns, hidden)
        self.logit = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B,) of energies (B, C, H, W)."""
        for convolution in self.convolutions:
            size = convolution.kernel_size[0]
            # The same as padding="same", which PyTorch warns about and pads twice for even kernels.
            x = functional.pad(x, ((size - 1) // 2, size // 2, (size - 1) // 2, size // 2))
            x = functional.relu(functional.max_pool2d(convolution(x), 2))
        return self.logit(functional.relu(self.dense(x.flatten(1))))[:, 0]
