"""Depthwise convolution with a backward pass that is fast on a CPU.

Takes images (B, C, H, W) and filters (C, 1, k, k), returns images (B, C, H', W').
Invariant: the function and its gradients are those of `torch.nn.functional.conv2d`;
only the arithmetic that reaches them differs.

Backward on a CPU is where a mixed-operation supernet spends most of its time: the
library's fast kernels for the filters' gradient know filters up to three wide and
without dilation, all others take a path that is about ten times slower. Three exact
identities bring every case to the fast kernels:

- the gradient of the input of a stride-1 convolution is a convolution with the
  flipped filter;
- a convolution with dilation 2 is one with dilation 1 on each of the four images of
  even and odd rows and columns (with stride 2, on one of them);
- the gradient of a wide filter is put together from three columns at a time, against
  the input shifted by as many columns.

Several convolutions of one input (all edges that leave a node of a cell) share what the
backward pass makes of that input; small images are put side by side, because there a call
costs more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.operators.derivatives import once, traced

WIDEST = 3
"""Columns of a filter whose gradient one call of the fast kernel finds."""
SMALL = 2**17
"""Numbers in an image up to which calls cost more than arithmetic."""


class Depthwise(nn.Conv2d):
    """Depthwise convolution: (B, C, H, W) to (B, C, H', W')."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(channels, channels, kernel, stride, padding, dilation, channels, bias)

    def forward(self, x: Tensor) -> Tensor:
        return depthwise((x,), self.weight, self.bias, _geometry(self))[0]


class DepthwiseFan(nn.Module):
    """`copies` depthwise convolutions side by side: of one input, or each of an input of its own.

    Takes (B, C, H, W), or as many of them as there are copies; returns `copies` images
    (B, C, H', W'). The filters of copy `i` are rows `i*C` to `(i+1)*C` of `conv.weight`.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = False,
        copies: int = 1,
    ) -> None:
        super().__init__()
        total = copies * channels
        self.conv = nn.Conv2d(total, total, kernel, stride, padding, dilation, total, bias)

    def forward(self, x: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        inputs = (x,) if isinstance(x, Tensor) else tuple(x)
        return depthwise(inputs, self.conv.weight, self.conv.bias, _geometry(self.conv))


@dataclass(frozen=True)
class Geometry:
    """Stride, padding and dilation, the same both ways."""

    stride: int
    padding: int
    dilation: int


def _geometry(conv: nn.Conv2d) -> Geometry:
    return Geometry(int(conv.stride[0]), int(conv.padding[0]), int(conv.dilation[0]))


def depthwise(
    inputs: Sequence[Tensor], weight: Tensor, bias: Tensor | None, how: Geometry
) -> tuple[Tensor, ...]:
    """Depthwise convolutions, as many as `weight`, (K*C, 1, k, k), has filters a channel.

    Args:
        inputs: one image (B, C, H, W) for all, or K of them.
    """
    channels = inputs[0].shape[1]
    if how.dilation == 2 and how.stride == 2 and how.padding % 2 == 0:
        # Only even rows and columns are read.
        inputs, how = [x[:, :, ::2, ::2] for x in inputs], Geometry(1, how.padding // 2, 1)
    if inputs[0].device.type != "cpu" or not torch.is_grad_enabled() or traced():
        copies = weight.shape[0] // channels
        wide = _forward(_side_by_side(inputs, copies), weight, how)
        made = wide.chunk(copies, 1)
    else:
        if torch.is_autocast_enabled("cpu"):  # which does not see into a function of our own
            dtype = torch.get_autocast_dtype("cpu")
            inputs, weight = [x.to(dtype) for x in inputs], weight.to(dtype)
        made = _Depthwise.apply(how, weight, *inputs)  # type: ignore[no-untyped-call]
    if bias is None:
        return made
    return tuple(y + b.view(1, -1, 1, 1) for y, b in zip(made, torch.split(bias, channels), strict=True))


def _forward(x: Tensor, weight: Tensor, how: Geometry) -> Tensor:
    return F.conv2d(x, weight, None, how.stride, how.padding, how.dilation, weight.shape[0])


def _side_by_side(inputs: Sequence[Tensor], copies: int) -> Tensor:
    """K images (B, C, H, W), or one K times, as (B, K*C, H, W), channels last."""
    if len(inputs) == copies:
        joined = torch.cat([x.permute(0, 2, 3, 1) for x in inputs], 3) if copies > 1 else None
        return inputs[0] if joined is None else joined.permute(0, 3, 1, 2)
    last = inputs[0].permute(0, 2, 3, 1).unsqueeze(3)
    return last.expand(-1, -1, -1, copies, -1).flatten(3).permute(0, 3, 1, 2)


class _Depthwise(torch.autograd.Function):
    """Small images are taken side by side, one call for all; large ones each by itself."""

    @staticmethod
    def forward(ctx: Any, how: Geometry, weight: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        inputs = tuple(x.contiguous(memory_format=torch.channels_last) for x in inputs)
        channels = inputs[0].shape[1]
        copies = weight.shape[0] // channels
        ctx.how, ctx.copies, ctx.shared = how, copies, len(inputs) < copies
        ctx.joined = copies > 1 and inputs[0].numel() <= SMALL
        if not ctx.joined:
            ctx.save_for_backward(weight, *inputs)
            sources = inputs * copies if ctx.shared else inputs
            filters = torch.split(weight, channels)
            return tuple(_forward(x, w, how) for x, w in zip(sources, filters, strict=True))
        wide = _side_by_side(inputs, copies)
        ctx.save_for_backward(weight, inputs[0] if ctx.shared else wide)
        return _forward(wide, weight, how).chunk(copies, 1)

    @staticmethod
    @once
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensors
        wanted = (any(ctx.needs_input_grad[2:]), ctx.needs_input_grad[1])
        if ctx.joined:
            x = _side_by_side(inputs, ctx.copies) if ctx.shared else inputs[0]
            gradient = _side_by_side(incoming, ctx.copies)
            to_input, to_weight = gradients_of(x, weight, [gradient], ctx.how, wanted)
            if to_input is None:
                return None, to_weight, *[None] * (1 if ctx.shared else ctx.copies)
            parts = to_input.chunk(ctx.copies, 1)
            return None, to_weight, *((_total(parts, fresh=True),) if ctx.shared else parts)
        gradients = [g.contiguous(memory_format=torch.channels_last) for g in incoming]
        if ctx.shared or ctx.copies == 1:
            to_input, to_weight = gradients_of(inputs[0], weight, gradients, ctx.how, wanted)
            return None, to_weight, to_input
        filters = torch.split(weight, inputs[0].shape[1])
        lanes = zip(inputs, filters, gradients, strict=True)
        pairs = [gradients_of(x, w, [g], ctx.how, wanted) for x, w, g in lanes]
        rows = [second for _, second in pairs if second is not None]
        return None, torch.cat(rows) if rows else None, *(first for first, _ in pairs)


def gradients_of(
    x: Tensor, weight: Tensor, gradients: Sequence[Tensor], how: Geometry, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of an input and of all filters that read it, those that are wanted, the others None."""
    filters = torch.split(weight, x.shape[1])
    if how.dilation == 1 and (how.stride != 1 or weight.shape[-1] <= WIDEST):
        pairs = [_native(g, x, w, how, wanted) for g, w in zip(gradients, filters, strict=True)]
        to_input = _total([first for first, _ in pairs]) if wanted[0] else None
        return to_input, torch.cat([second for _, second in pairs]) if wanted[1] else None
    to_input = to_weight = None
    if wanted[0]:
        parts = [_input_gradient(g, x, w, how) for g, w in zip(gradients, filters, strict=True)]
        to_input = _total(parts)
    if wanted[1]:
        to_weight = torch.cat(_weight_gradients(x, gradients, filters[0], how))
    return to_input, to_weight


def _total(parts: Sequence[Tensor], fresh: bool = False) -> Tensor:
    """The sum, in the memory of the first unless `fresh`."""
    first, *others = parts
    if fresh and others:
        first, *others = first + others[0], *others[1:]
    for part in others:
        first.add_(part)
    return first


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, how: Geometry) -> Tensor:
    back = how.dilation * (weight.shape[-1] - 1) - how.padding
    if how.stride == 1 and back >= 0:
        return _forward(gradient, weight.flip(2, 3), Geometry(1, back, how.dilation))
    return _native(gradient, x, weight, how, (True, False))[0]


def _weight_gradients(x: Tensor, gradients: Sequence[Tensor], like: Tensor, how: Geometry) -> list[Tensor]:
    """The gradients of filters shaped as `like`."""
    kernel = like.shape[-1]
    if how.dilation == 2 and how.stride == 1 and how.padding == kernel - 1:
        x, gradients, how = phases(x), [phases(g) for g in gradients], Geometry(1, how.padding // 2, 1)
    known = kernel <= WIDEST or x.dtype != torch.float32
    if known or how.dilation != 1 or how.stride != 1:
        return [_native(g, x, like, how, (False, True))[1] for g in gradients]
    width = gradients[0].shape[-1]
    wide = F.pad(x, (how.padding,) * 4)
    found: list[list[Tensor]] = [[] for _ in gradients]
    for first in range(0, kernel, WIDEST):
        columns = min(WIDEST, kernel - first)
        part = wide[..., first : first + width + columns - 1].contiguous(memory_format=torch.channels_last)
        narrow = like[..., :columns]
        for pieces, gradient in zip(found, gradients, strict=True):
            pieces.append(_native(gradient, part, narrow, Geometry(1, 0, 1), (False, True))[1])
    return [torch.cat(pieces, -1) for pieces in found]


def phases(x: Tensor) -> Tensor:
    """(B, C, H, W) to (4*B, C, H/2, W/2): even and odd rows and columns as images; odd sizes padded."""
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    batch, channels, height, width = x.shape
    last = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    split = last.permute(2, 4, 0, 1, 3, 5).reshape(4 * batch, height // 2, width // 2, channels)
    return split.permute(0, 3, 1, 2)


def _native(
    gradient: Tensor, x: Tensor, weight: Tensor, how: Geometry, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """The library's own gradients of the input and of the filters, those that are wanted."""
    found = torch.ops.aten.convolution_backward.default(
        gradient,
        x,
        weight,
        None,
        [how.stride, how.stride],
        [how.padding, how.padding],
        [how.dilation, how.dilation],
        False,
        [0, 0],
        weight.shape[0],
        [*wanted, False],
    )
    return found[0], found[1]
