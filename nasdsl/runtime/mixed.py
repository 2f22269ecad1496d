"""Weighted sums of candidates.

Takes scalars and tensors, returns tensors. Invariant: the function and its first gradients are those
of `sum_i weights[i] * outputs[i]`; the gradient of a weight is the inner product of the incoming
gradient with its term. No product is formed, and the terms are kept for the backward pass only where
weights want a gradient. A second derivative is refused, never wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def mix(weights: Sequence[Tensor], outputs: Sequence[Tensor]) -> Tensor:
    """`sum_i weights[i] * outputs[i]`.

    Args:
        weights: scalars, shape ().
        outputs: one shape, such as (B, C, H, W).

    Returns:
        A tensor of that shape. DARTS (Liu et al., ICLR 2019), section 2.2, equation 2.
    """
    kinds = {t.dtype for t in (*weights, *outputs)}
    if len(kinds) > 1 or torch.compiler.is_compiling():
        total = weights[0] * outputs[0]
        for weight, output in zip(weights[1:], outputs[1:], strict=True):
            total = total + weight * output
        return total
    made: Tensor = _Mix.apply(torch.stack(tuple(weights)), *outputs)  # type: ignore[no-untyped-call]
    return made


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, *outputs: Tensor) -> Tensor:
        total = weights[0] * outputs[0]
        for index, output in enumerate(outputs[1:], 1):
            total.addcmul_(output, weights[index])
        ctx.save_for_backward(weights, *(outputs if ctx.needs_input_grad[0] else ()))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, *outputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        found = torch.stack([inner(gradient, o) for o in outputs]) if wanted[0] else None
        parts = [gradient * weights[i] if each else None for i, each in enumerate(wanted[1:])]
        return found, *parts


def inner(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of two tensors of one shape, shape (), without forming their product if it can."""
    if left.dtype not in (torch.float32, torch.float64):
        return (left.float() * right.float()).sum().to(left.dtype)
    if left.dim() == 4:
        left, right = left.permute(0, 2, 3, 1), right.permute(0, 2, 3, 1)
    if left.is_contiguous() and right.is_contiguous():
        return torch.dot(left.reshape(-1), right.reshape(-1))
    return (left * right).sum()


__all__ = ["mix"]
