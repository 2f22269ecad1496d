"""Weighted sums of candidates.

Takes scalars and tensors, returns tensors. Invariant: the function and its first gradients are those
of `sum_i weights[i] * outputs[i]`; the gradient of a weight is the inner product of the incoming
gradient with its term. No product is formed, and the terms are kept for the backward pass only where
weights want a gradient. A second derivative is refused, never wrong, but inside
`nasdsl.runtime.operators.derivatives.twice`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasdsl.runtime.activation import Idle
from nasdsl.runtime.operators.derivatives import once, traced
from nasdsl.runtime.operators.precision import dot
from nasdsl.runtime.operators.recompute import OnCopies


def mix(weights: Sequence[Tensor], outputs: Sequence[Tensor]) -> Tensor:
    """`sum_i weights[i] * outputs[i]`.

    Args:
        weights: scalars, shape ().
        outputs: one shape, such as (B, C, H, W).

    Returns:
        A tensor of that shape. DARTS (Liu et al., ICLR 2019), section 2.2, equation 2.
    """
    kinds = {t.dtype for t in (*weights, *outputs)}
    if len(kinds) > 1 or traced():
        total = weights[0] * outputs[0]
        for weight, output in zip(weights[1:], outputs[1:], strict=True):
            total = total + weight * output
        return total
    made: Tensor = _Mix.apply(torch.stack(tuple(weights)), *outputs)  # type: ignore[no-untyped-call]
    return made


def mix_running(
    weights: Sequence[Tensor | Idle], terms: Sequence[Callable[[], Tensor]], home: nn.Module
) -> Tensor:
    """`mix` over the terms that run; the others are never computed.

    Where nothing runs, the first term does for its shape, and moves no statistics.

    Args:
        weights: scalars, shape (), those of terms that do not run marked `Idle`.
        terms: make a tensor each, all of one shape.
        home: what holds the modules that the terms call.

    Returns:
        A tensor of that shape; zeros where nothing runs.
    """
    pairs = list(zip(weights, terms, strict=True))
    chosen = [(w, term) for w, term in pairs if not isinstance(w, Idle)]
    if chosen:
        total = mix([w for w, _ in chosen], [term() for _, term in chosen])
    else:
        with torch.no_grad(), OnCopies(home):
            total = torch.zeros_like(terms[0]())
    bare = [w.weight for w in weights if isinstance(w, Idle) and w.counted and w.weight.requires_grad]
    return total + torch.stack(bare).sum().to(total.dtype) if bare else total


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, *outputs: Tensor) -> Tensor:
        total = weights[0] * outputs[0]
        for index, output in enumerate(outputs[1:], 1):
            total.addcmul_(output, weights[index])
        ctx.save_for_backward(weights, *(outputs if ctx.needs_input_grad[0] else ()))
        return total

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, *outputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        found = None
        if wanted[0]:
            flat = _channels_last(gradient)
            found = torch.stack([dot(flat, _channels_last(o)) for o in outputs]).to(weights.dtype)
        parts = [gradient * weights[i] if each else None for i, each in enumerate(wanted[1:])]
        return found, *parts


def _channels_last(x: Tensor) -> Tensor:
    """An image as it lies in memory, so that making it flat is no copy; anything else as it is."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


__all__ = ["mix", "mix_running"]
