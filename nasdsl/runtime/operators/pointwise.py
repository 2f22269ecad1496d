"""Pointwise convolution with a stride.

Takes images (B, C, H, W), returns images (B, D, H', W'). Invariant: function, weights and their names
are those of `torch.nn.Conv2d(C, D, 1, stride)`.

It reads every `stride`-th pixel only, so they are taken first and what is left is a matrix product.
That is also safe where the library is not: see `nasdsl.codegen.layout`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class StridedPointwise(nn.Conv2d):
    """`nn.Conv2d(channels, out, 1, stride)`."""

    def __init__(self, channels: int, out: int, stride: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__(channels, out, 1, stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        return F.conv2d(x[:, :, ::step, ::step], self.weight, self.bias, groups=self.groups)


__all__ = ["StridedPointwise"]
