"""Multilayer perceptron, 192,001 parameters."""

import torch
from torch import nn
from torch.nn import functional


class MLP(nn.Module):
    """Fully connected network with ReLU: (B, C, H, W) -> (B,) logits."""

    def __init__(self, shape=(1, 18, 72), hidden=(120, 120, 120, 60)):
        super().__init__()
        inputs = (shape[0] * shape[1] * shape[2], *hidden[:-1])
        self.dense = nn.ModuleList(nn.Linear(*sizes) for sizes in zip(inputs, hidden, strict=True))
        self.logit = nn.Linear(hidden[-1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B,) of energies (B, C, H, W)."""
        x = x.flatten(1)
        for layer in self.dense:
            x = functional.relu(layer(x))
        return self.logit(x)[:, 0]
