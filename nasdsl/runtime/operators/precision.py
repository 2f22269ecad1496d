"""Which number format a computation takes under autocast.

Takes tensors, returns formats and products. Invariant: what is summed over examples and
pixels is summed in float32 at least, and returned so.

Operations of our own are not known to autocast. They take its format for what is as large as an
image, and float32 for everything that is not: means, covariances, scales, gradients of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

LOW = frozenset({torch.bfloat16, torch.float16})
"""Formats that are too short for sums."""

_F = TypeVar("_F", bound=Callable[..., Any])
_CUDA_WIDE = hasattr(torch.ops.aten.bmm, "dtype")


def image_format(x: Tensor) -> torch.dtype:
    """What images are kept in: autocast's format where it is on, else that of `x`."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def wide(dtype: torch.dtype) -> torch.dtype:
    """The format of sums over numbers of a format."""
    return torch.float32 if dtype in LOW else dtype


def product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right`, (k, a, n) and (k, n, b) to (k, a, b), summed and returned in float32 at least."""
    if left.dtype not in LOW:
        return torch.bmm(left, right)
    if _CUDA_WIDE and left.device.type == "cuda" and not torch.is_grad_enabled():
        made: Tensor = torch.ops.aten.bmm.dtype(left, right, torch.float32)
        return made
    return torch.bmm(left.float(), right.float())


def dot(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of two tensors of one shape, summed and returned in float32 at least."""
    if left.dtype in LOW or left.dtype != right.dtype:
        return (left.to(wide(left.dtype)) * right).sum()
    return torch.dot(left.reshape(-1), right.reshape(-1))


def without_autocast(backward: _F) -> _F:
    """A backward pass that a caller's autocast does not reach: it knows its formats."""

    @wraps(backward)
    def run(ctx: Any, *incoming: Tensor) -> Any:
        kind = incoming[0].device.type
        if not torch.is_autocast_enabled(kind):
            return backward(ctx, *incoming)
        with torch.autocast(kind, enabled=False):
            return backward(ctx, *incoming)

    return cast(_F, run)


__all__ = ["LOW", "dot", "image_format", "product", "wide", "without_autocast"]
