"""Weighted sums of candidates.

Takes scalars and tensors, returns tensors. Invariant: plain autograd; the
gradient of a weight is the inner product of the incoming gradient with its term.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def mix(weights: Sequence[Tensor], outputs: Sequence[Tensor]) -> Tensor:
    """`sum_i weights[i] * outputs[i]`.

    Args:
        weights: scalars, shape ().
        outputs: one shape, such as (B, C, H, W).

    Returns:
        A tensor of that shape. DARTS (Liu et al., ICLR 2019), section 2.2, equation 2.
    """
    total = weights[0] * outputs[0]
    for weight, output in zip(weights[1:], outputs[1:], strict=True):
        total = total + weight * output
    return total
