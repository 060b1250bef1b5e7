"""Convolutional vision transformer, 4,895,873 parameters."""

import torch
from torch import nn
from torch.nn import functional


class Projection(nn.Module):
    """Depthwise 3 x 3 convolution, BatchNorm, 1 x 1 convolution: (B, C, H, W) -> (B, H * W, C)."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.pointwise = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, H * W, C) of a map (B, C, H, W)."""
        # Channels last in memory makes this a view, and the 1 x 1 convolution one matrix product over tokens.
        return self.pointwise(self.norm(self.depthwise(x)).flatten(2).transpose(1, 2))


class Block(nn.Module):
    """Pre-norm transformer block with convolutional projections: (B, T, C) -> (B, T, C)."""

    def __init__(self, width: int, heads: int, class_token: bool, attention_scale: str):
        super().__init__()
        self.heads, self.class_token = heads, int(class_token)
        self.scale = (width if attention_scale == "embedding" else width // heads) ** -0.5
        self.norm_1 = nn.LayerNorm(width)
        self.query, self.key, self.value = (Projection(width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.dense_1 = nn.Linear(width, 4 * width)
        self.dense_2 = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Tokens (B, T, C) after the block; `grid` is (rows, columns) of their map."""
        batch, count, width = tokens.shape
        x = self.norm_1(tokens)
        cells = x[:, self.class_token :].transpose(1, 2).unflatten(2, grid)
        inputs = []
        for project in (self.query, self.key, self.value):
            projected = project(cells)
            if self.class_token:
                projected = torch.cat([x[:, :1], projected], 1)
            inputs.append(projected.view(batch, count, self.heads, -1).transpose(1, 2))
        query, key, value = inputs
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        tokens = tokens + self.output(mixed.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.dense_2(functional.gelu(self.dense_1(self.norm_2(tokens))))


class CvT(nn.Module):
    """Convolutional vision transformer: (B, C, H, W) -> (B,) logits."""

    def __init__(
        self,
        shape=(1, 18, 72),
        widths=(64, 192, 384),
        heads=(1, 3, 6),
        blocks=(1, 1, 2),
        kernels=((2, 6), (3, 4), (3, 3)),
        strides=((1, 2), (1, 2), (1, 1)),
        paddings=((2, 2), (1, 1), (1, 1)),
        attention_scale="head",
    ):
        super().__init__()
        self.embeddings, self.norms, self.stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inputs = shape[0]
        for stage, width in enumerate(widths):
            last = stage == len(widths) - 1
            self.embeddings.append(nn.Conv2d(inputs, width, kernels[stage], strides[stage], paddings[stage]))
            self.norms.append(nn.LayerNorm(width))
            stack = (Block(width, heads[stage], last, attention_scale) for _ in range(blocks[stage]))
            self.stages.append(nn.ModuleList(stack))
            inputs = width
        self.class_token = nn.Parameter(torch.zeros(1, 1, inputs))
        self.norm = nn.LayerNorm(inputs)
        self.logit = nn.Linear(inputs, 1)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B,) of energies (B, C, H, W)."""
        for stage, (embed, norm, blocks) in enumerate(zip(self.embeddings, self.norms, self.stages, strict=True)):
            x = embed(x)
            grid = (x.shape[2], x.shape[3])
            tokens = norm(x.flatten(2).transpose(1, 2))
            last = stage == len(self.stages) - 1
            if last:
                tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
            for block in blocks:
                tokens = block(tokens, grid)
            if not last:
                x = tokens.transpose(1, 2).unflatten(2, grid)
        return self.logit(self.norm(tokens[:, 0]))[:, 0]
