"""Convolutions whose filter is a weighted sum of several (kernel merging).

Takes images and weights, returns images. Invariant: parallel linear convolutions of one
input, summed with weights, are one convolution with the summed filters, smaller ones padded
with zeros; with normalised filters on both sides it is the same function, gradients included.

Topological simplification (TopoNAS 2024): kernel merging and kernel normalisation. The
paper's text was not available; both are reconstructions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.depthwise import Geometry, depthwise

EPS = 1e-5
"""Added to a filter's norm."""


def normalised(weight: Tensor, how: str) -> Tensor:
    """Filters (D, C, k, k) over their norm: of each output channel (`filter`), or of all at once (`kernel`).

    Per output channel leaves what batch norm directly behind computes as it is; ahead of a
    pointwise convolution only one norm for all does (times the root of D, so that a channel's
    norm is about one). `none` leaves the filters alone.
    """
    if how == "filter":
        norms: Tensor = torch.linalg.vector_norm(weight, dim=(1, 2, 3), keepdim=True)
        scaled: Tensor = weight / (norms + EPS)
        return scaled
    if how == "kernel":
        norm: Tensor = torch.linalg.vector_norm(weight)
        factor: Tensor = weight.shape[0] ** 0.5 / (norm + EPS)
        return weight * factor
    return weight


def blended(weights: Sequence[Tensor], filters: Sequence[Tensor], how: str) -> Tensor:
    """`sum_i weights[i] * filters[i]`, each normalised and padded to the largest, (D, C, k, k)."""
    size = max(f.shape[-1] for f in filters)
    total: Tensor | None = None
    for weight, filter_ in zip(weights, filters, strict=True):
        edge = (size - filter_.shape[-1]) // 2
        term = weight * F.pad(normalised(filter_, how), (edge,) * 4)
        total = term if total is None else total + term
    if total is None:
        raise ValueError("nothing to blend")
    return total


class BlendedConv(nn.Module):
    """A convolution with blended filters: `forward(x, weights)`, (B, C, H, W) to (B, D, H', W').

    Args:
        kernels: sizes of the filters that are blended, in the order of their weights.
        normalise: see `normalised`.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernels: Sequence[int],
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        normalise: str = "filter",
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, out, k, groups=groups, bias=bias) for k in kernels)
        self.groups, self.normalise = groups, normalise
        self.geometry = Geometry(stride, dilation * (max(kernels) - 1) // 2, dilation)

    def forward(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        convs = [c for c in self.convs if isinstance(c, nn.Conv2d)]
        kernel = blended(weights, [c.weight for c in convs], self.normalise)
        biases = [w * c.bias for w, c in zip(weights, convs, strict=True) if c.bias is not None]
        bias = torch.stack(biases).sum(0) if biases else None
        how = self.geometry
        if self.groups == x.shape[1] == kernel.shape[0]:
            return depthwise((x,), kernel, bias, how)[0]
        return F.conv2d(x, kernel, bias, how.stride, how.padding, how.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"normalise={self.normalise}"


__all__ = ["BlendedConv", "blended", "normalised"]
