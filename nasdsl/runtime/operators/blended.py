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

from nasdsl.runtime.operators.depthwise import Geometry, depthwise
from nasdsl.runtime.operators.derivatives import once, traced

EPS = 1e-5
"""Added to a filter's norm."""


def normalised(weight: Tensor, how: str) -> Tensor:
    """Filters (D, C, k, k) over their norm: of each output channel (`filter`), or of all at once (`kernel`).

    Per output channel leaves what batch norm directly behind computes as it is; ahead of a
    pointwise convolution only one norm for all does (times the root of D, so that a channel's
    norm is about one). `none` leaves the filters alone.
    """
    if how == "none":
        return weight
    _, inverse = _norms(weight.reshape(1, 1, len(weight), -1), how)
    return weight * inverse.view(-1, 1, 1, 1)


def _norms(flat: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Norms of filters (n, K, D, q), and what the filters are multiplied with: (n, K, D, 1) or (n, K, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(flat, dim=3 if how == "filter" else (2, 3), keepdim=True)
    inverse = (norms + EPS).reciprocal_()
    return norms, inverse if how == "filter" else inverse.mul_(flat.shape[2] ** 0.5)


class _Blend(torch.autograd.Function):
    """`sum_j w_kj K_kj / |K_kj|` for every copy k, smaller filters padded."""

    @staticmethod
    def forward(ctx: Any, how: str, weights: Tensor, *filters: Tensor) -> Tensor:
        copies, count = weights.shape
        size = max(f.shape[-1] for f in filters)
        padded = torch.stack([F.pad(f, ((size - f.shape[-1]) // 2,) * 4) for f in filters])
        flat = padded.reshape(count, copies, padded.shape[1] // copies, -1)
        factor = weights.t().contiguous().view(count, copies, 1, 1)
        saved: tuple[Tensor, ...] = ()
        if how != "none":
            saved = _norms(flat, how)
            factor = factor * saved[1]
        ctx.how, ctx.sizes = how, [f.shape[-1] for f in filters]
        ctx.shape = padded.shape
        ctx.save_for_backward(flat, factor, *saved)
        return (flat * factor).sum(0).view(padded.shape[1:])

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, factor, *saved = ctx.saved_tensors
        given = gradient.reshape(flat.shape[1:]).contiguous()
        inner = (flat * given).sum(3, keepdim=True)
        if ctx.how != "filter":
            inner = inner.sum(2, keepdim=True)
        to_weights = (
            (inner * saved[1] if saved else inner).sum((2, 3)).t() if ctx.needs_input_grad[1] else None
        )
        if not any(ctx.needs_input_grad[2:]):
            return None, to_weights, *(None for _ in ctx.sizes)
        found = given * factor
        if saved:
            norms = saved[0]
            through = inner.mul_(factor).div_((norms + EPS).mul_(norms.clamp_min(1e-30)))
            found = found.addcmul_(flat, through, value=-1)
        size = ctx.shape[-1]
        edges = [(size - each) // 2 for each in ctx.sizes]
        parts = [
            p[..., e : size - e, e : size - e] for p, e in zip(found.view(ctx.shape), edges, strict=True)
        ]
        return None, to_weights, *parts


def blended(weights: Tensor, filters: Sequence[Tensor], how: str) -> Tensor:
    """Blended filters, (K*D, C, k, k), for K copies side by side.

    Args:
        weights: (K, n), one for each copy and each of the n filters.
        filters: n tensors (K*D, C, k_j, k_j).
        how: see `normalised`; norms are of each copy's own filters.
    """
    if traced():
        return _blended_traced(weights, filters, how)
    made: Tensor = _Blend.apply(how, weights.to(filters[0].dtype), *filters)  # type: ignore[no-untyped-call]
    return made


def _blended_traced(weights: Tensor, filters: Sequence[Tensor], how: str) -> Tensor:
    """The same, for autograd to follow as often as it likes."""
    copies, count = weights.shape
    size = max(f.shape[-1] for f in filters)
    padded = torch.stack([F.pad(f, ((size - f.shape[-1]) // 2,) * 4) for f in filters])
    flat = padded.reshape(count, copies, padded.shape[1] // copies, -1)
    factor = weights.to(flat.dtype).t().view(count, copies, 1, 1)
    if how != "none":
        norms: Tensor = torch.linalg.vector_norm(flat, dim=3 if how == "filter" else (2, 3), keepdim=True)
        inverse = 1.0 / (norms + EPS)
        factor = factor * (inverse if how == "filter" else inverse * flat.shape[2] ** 0.5)
    return (flat * factor).sum(0).view(padded.shape[1:])


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
