"""Modules that torch does not have, for networks that import nothing else.

Takes and returns tensors; images are (B, C, H, W), tokens (B, L, D). Invariant: a class
here needs torch only, because its text is copied into every `model.py` that uses it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate: mean over pixels, two biased layers, ReLU, hard sigmoid.

    Hu et al., CVPR 2018, section 3; the hard gate of Howard et al., ICCV 2019, section 5.3.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.expand = nn.Conv2d(width, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same."""
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(gate)


class Attention(nn.Module):
    """Multi-head self-attention with heads of a fixed width (Vaswani et al., NeurIPS 2017, section 3.2)."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * heads * head_width)
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) to the same."""
        batch, length, _ = x.shape
        # (B, L, 3 * heads * width) to three of (B, heads, L, width)
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class ClassToken(nn.Module):
    """A learned token before the others (Dosovitskiy et al., ICLR 2021, section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) to (B, L + 1, D)."""
        return torch.cat((self.token.expand(x.shape[0], 1, -1), x), 1)


class Position(nn.Module):
    """A learned vector added to each token (Dosovitskiy et al., ICLR 2021, section 3.1)."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) to the same."""
        return x + self.embedding


class Channels(nn.Module):
    """Some of the channels of an image."""

    def __init__(self, start: int, count: int) -> None:
        super().__init__()
        self.start = start
        self.count = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, count, H, W)."""
        return x[:, self.start : self.start + self.count]


class Zeros(nn.Module):
    """Zeros of the input's resolution and a width of their own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) to (B, channels, ...)."""
        return x.new_zeros(x.shape[0], self.channels, *x.shape[2:])
