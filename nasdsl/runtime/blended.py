"""Convolutions whose filter is a weighted sum of several (kernel merging).

Takes images and weights, returns images. Invariant: parallel linear convolutions of one
input, summed with weights, are one convolution with the summed filters, smaller ones padded
with zeros; with normalised filters on both sides it is the same function, and so are its
first gradients. A second derivative is refused, never wrong.

Topological simplification (TopoNAS 2024): kernel merging and kernel normalisation. The
paper's text was not available; both are reconstructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    inverse, _ = _inverse_norms(weight.flatten(1).unsqueeze(0), how)
    return weight if inverse is None else weight * inverse.view(-1, 1, 1, 1)


def _inverse_norms(flat: Tensor, how: str) -> tuple[Tensor | None, Tensor | None]:
    """What filters (K, D, n) are multiplied with, (K, D, 1) or (K, 1, 1), and their norms; None for `none`."""
    if how == "filter":
        norms: Tensor = torch.linalg.vector_norm(flat, dim=2, keepdim=True)
        return (norms + EPS).reciprocal(), norms
    if how == "kernel":
        norms = torch.linalg.vector_norm(flat, dim=(1, 2), keepdim=True)
        return (norms + EPS).reciprocal() * flat.shape[1] ** 0.5, norms
    return None, None


class _Blend(torch.autograd.Function):
    """`sum_j w_kj K_kj / |K_kj|` for every copy k, smaller filters padded."""

    @staticmethod
    def forward(ctx: Any, how: str, weights: Tensor, *filters: Tensor) -> Tensor:
        copies, size = weights.shape[0], max(f.shape[-1] for f in filters)
        rows, channels = filters[0].shape[:2]
        made = filters[0].new_zeros(rows, channels, size, size)
        saved: list[Tensor] = []
        for index, each in enumerate(filters):
            inverse, norms = _inverse_norms(each.reshape(copies, rows // copies, -1), how)
            factor = weights[:, index].view(copies, 1, 1)
            if inverse is not None and norms is not None:
                saved += [inverse, norms]
                factor = factor * inverse
            _middle(made, each, copies).addcmul_(each.view(copies, -1, *each.shape[1:]), _wide(factor))
        ctx.how = how
        ctx.save_for_backward(weights, *filters, *saved)
        return made

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, *rest = ctx.saved_tensors
        copies, count = weights.shape
        filters, saved = rest[:count], rest[count:]
        to_weights, to_filters = [], []
        for index, each in enumerate(filters):
            part = _middle(gradient, each, copies)
            split = each.view(copies, -1, *each.shape[1:])
            # <dL/dK^, K>, summed over what has one norm.
            inner = (part * split).sum((2, 3, 4), keepdim=True)
            factor = _wide(weights[:, index].view(copies, 1, 1))
            if not saved:
                to_weights.append(inner.sum((1, 2, 3, 4)))
                to_filters.append((part * factor).reshape(each.shape) if ctx.needs_input_grad[2] else None)
                continue
            inverse, norms = (_wide(t) for t in saved[2 * index : 2 * index + 2])
            to_weights.append((inner * inverse).sum((1, 2, 3, 4)))
            if not ctx.needs_input_grad[2]:
                to_filters.append(None)
                continue
            if inverse.shape[1] == 1:
                inner = inner.sum(1, keepdim=True)
            scale = factor * inverse
            through_norm = inner * scale / ((norms + EPS) * norms.clamp_min(1e-30))
            to_filters.append((part * scale - split * through_norm).reshape(each.shape))
        found = torch.stack(to_weights, 1) if ctx.needs_input_grad[1] else None
        return None, found, *to_filters


def _middle(whole: Tensor, part: Tensor, copies: int) -> Tensor:
    """The middle of filters, as large as those of `part`: (K, D, C, k, k)."""
    edge, size = (whole.shape[-1] - part.shape[-1]) // 2, part.shape[-1]
    split = whole.view(copies, -1, *whole.shape[1:])
    return split[..., edge : edge + size, edge : edge + size]


def _wide(factor: Tensor) -> Tensor:
    return factor.unsqueeze(-1).unsqueeze(-1)


def blended(weights: Tensor, filters: Sequence[Tensor], how: str) -> Tensor:
    """Blended filters, (K*D, C, k, k), for K copies side by side.

    Args:
        weights: (K, n), one for each copy and each of the n filters.
        filters: n tensors (K*D, C, k_j, k_j).
        how: see `normalised`; norms are of each copy's own filters.
    """
    made: Tensor = _Blend.apply(how, weights.to(filters[0].dtype), *filters)  # type: ignore[no-untyped-call]
    return made


class _Blending(nn.Module):
    """What both modules share: one convolution's weights for each size, and their blend."""

    def __init__(
        self, channels: int, out: int, kernels: Sequence[int], groups: int, bias: bool, copies: int, how: str
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, out, k, groups=groups, bias=bias) for k in kernels)
        self.copies, self.normalise = copies, how

    def blend(self, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Filters and bias, from one vector of weights for each copy."""
        convs = [c for c in self.convs if isinstance(c, nn.Conv2d)]
        table = torch.stack(tuple(weights))
        filters = blended(table, [c.weight for c in convs], self.normalise)
        if convs[0].bias is None:
            return filters, None
        biases = torch.stack([c.bias.view(self.copies, -1) for c in convs if c.bias is not None], 1)
        return filters, (table.unsqueeze(2) * biases).sum(1).flatten()

    def extra_repr(self) -> str:
        return f"copies={self.copies}, normalise={self.normalise}"


class BlendedConv(_Blending):
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
        super().__init__(channels, out, kernels, groups, bias, 1, normalise)
        self.groups = groups
        self.geometry = Geometry(stride, dilation * (max(kernels) - 1) // 2, dilation)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        kernel, bias = self.blend((weights,))
        how = self.geometry
        if self.groups == x.shape[1] == kernel.shape[0]:
            return depthwise((x,), kernel, bias, how)[0]
        return F.conv2d(x, kernel, bias, how.stride, how.padding, how.dilation, self.groups)


class BlendedFan(_Blending):
    """`copies` depthwise convolutions with blended filters, of one input or of as many.

    `forward(x, weights)`: x (B, C, H, W) or `copies` of them, one vector of weights for each
    copy; returns `copies` images (B, C, H', W'). The filters of copy `i` are rows `i*C` to
    `(i+1)*C` of every weight.
    """

    def __init__(
        self,
        channels: int,
        kernels: Sequence[int],
        copies: int,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
        normalise: str = "kernel",
    ) -> None:
        total = copies * channels
        super().__init__(total, total, kernels, total, bias, copies, normalise)
        self.geometry = Geometry(stride, dilation * (max(kernels) - 1) // 2, dilation)

    def forward(self, x: Tensor | Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        inputs = (x,) if isinstance(x, Tensor) else tuple(x)
        return depthwise(inputs, *self.blend(weights), self.geometry)


__all__ = ["BlendedConv", "BlendedFan", "blended", "normalised"]
