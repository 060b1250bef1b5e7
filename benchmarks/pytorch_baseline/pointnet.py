"""PointNet, 2,658,369 parameters, or 3,459,394 with a learned shift along z."""

import torch
from torch import nn
from torch.nn import functional


class PointLayer(nn.Module):
    """Dense layer shared by all points, BatchNorm and ReLU: on rows (N, C), or on channels ahead of points (B, C, P)."""

    def __init__(self, inputs, features, relu=True):
        super().__init__()
        self.dense = nn.Linear(inputs, features)
        self.norm = nn.BatchNorm1d(features)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of x, (N, F) or (B, F, P)."""
        x = self.dense(x) if x.ndim == 2 else functional.conv1d(x, self.dense.weight[..., None], self.dense.bias)
        x = self.norm(x)
        return functional.relu(x) if self.relu else x


class PointStack(nn.Module):
    """Shared layers, maximum over points, dense layers, one dense layer without BatchNorm."""

    def __init__(self, inputs, point_widths, head_widths, outputs, last_relu=True):
        super().__init__()
        sizes = list(zip((inputs, *point_widths[:-1]), point_widths, strict=True))
        self.points = nn.ModuleList(PointLayer(*size, relu=last_relu or size is not sizes[-1]) for size in sizes)
        sizes = zip((point_widths[-1], *head_widths[:-1]), head_widths, strict=True)
        self.dense = nn.ModuleList(PointLayer(*size) for size in sizes)
        self.values = nn.Linear(head_widths[-1], outputs)

    def forward(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        """Values (B, outputs) of x, either (B * P, C) or (B, C, P)."""
        for layer in self.points:
            x = layer(x)
        x = x.view(batch, -1, x.shape[-1]).amax(1) if x.ndim == 2 else x.amax(2)
        for layer in self.dense:
            x = layer(x)
        return self.values(x)


class PointNet(nn.Module):
    """Points (B, P, 3), all real -> (B, outputs).

    rows: shared layers as nn.Linear on (B * P, C); else as convolutions of width 1 on (B, C, P). The parameters and
    results are the same.
    """

    def __init__(
        self,
        outputs=1,
        z_output=0,
        z_shift=False,
        point_widths=(64, 128, 1024),
        transform_widths=(64, 128, 1024),
        head_widths=(512, 256),
        rows=False,
    ):
        super().__init__()
        size = point_widths[0]
        self.z_output, self.rows, self.size = z_output, rows, size
        self.shift = PointStack(3, transform_widths, head_widths, 1) if z_shift else None
        self.first = PointLayer(3, size)
        self.transform = PointStack(size, transform_widths, head_widths, size * size)
        self.rest = PointStack(size, point_widths[1:], head_widths, outputs, last_relu=False)

    def arrange(self, x: torch.Tensor) -> torch.Tensor:
        """The layout of the shared layers, from (B, P, C)."""
        return x.reshape(-1, x.shape[-1]) if self.rows else x.transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values (B, outputs) of points (B, P, 3)."""
        batch, shift = len(x), None
        if self.shift is not None:
            shift = self.shift(self.arrange(x), batch)[:, 0]
            x = x - functional.pad(shift[:, None, None], (2, 0))
        x = self.first(self.arrange(x))
        matrix = self.transform(x, batch).view(batch, self.size, self.size)
        matrix = matrix + torch.eye(self.size, dtype=x.dtype, device=x.device)
        if self.rows:
            x = torch.bmm(x.view(batch, -1, self.size), matrix).reshape(-1, self.size)
        else:
            x = torch.bmm(matrix.transpose(1, 2), x)
        out = self.rest(x, batch)
        if shift is None:
            return out
        return out + shift[:, None] * functional.one_hot(torch.tensor(self.z_output), out.shape[1]).to(out)
