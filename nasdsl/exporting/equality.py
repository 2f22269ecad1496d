"""Whether two ways to compute a network agree.

Takes functions from an input to logits, returns the largest difference. Invariant: a difference is relative to
the largest logit where that is above one and absolute below, so that one bound serves every scale; what is not
finite on one side only, or not in the same way, or has another shape, differs without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Computes = Callable[[torch.Tensor], torch.Tensor]

FLOAT32, FLOAT64 = 1e-5, 1e-9
"""The largest difference that is still the same network, by the precision that both compute in."""
BATCHES = (1, 3)
"""Sizes of the batches that are compared: the first dimension is free in every format."""
_SEEDS = (0, 1)


def inputs(shape: Sequence[int], dtype: torch.dtype, batches: Sequence[int] = BATCHES) -> list[torch.Tensor]:
    """Normal inputs (B, *shape), two of every size of batch, the same ones every time."""
    import torch

    made = []
    for seed in _SEEDS:
        generator = torch.Generator().manual_seed(seed)
        made += [torch.randn(size, *shape, generator=generator, dtype=dtype) for size in batches]
    return made


def difference(expected: Computes, found: Computes, examples: Sequence[torch.Tensor]) -> float:
    """The largest difference over some inputs, relative to the largest logit where that is above one."""
    import torch

    largest = 0.0
    with torch.no_grad():
        for x in examples:
            one, other = expected(x).double(), found(x).double()
            largest = max(largest, _between(one, other))
    return largest


def _between(one: torch.Tensor, other: torch.Tensor) -> float:
    import torch

    finite = torch.isfinite(one)
    if one.shape != other.shape or not torch.equal(_kinds(one), _kinds(other)):
        return float("inf")
    one, other = one[finite], other[finite]
    if one.numel() == 0:
        return 0.0
    return float((one - other).abs().max()) / max(1.0, float(one.abs().max()))


def _kinds(values: torch.Tensor) -> torch.Tensor:
    """Of every number whether it is finite (0), no number (2), or which infinity (1, -1)."""
    import torch

    infinite = torch.where(torch.isinf(values), values.sign(), torch.zeros_like(values))
    return torch.where(torch.isnan(values), torch.full_like(values, 2), infinite)


def is_finite(network: torch.nn.Module, examples: Sequence[torch.Tensor]) -> bool:
    """Whether a network has outputs and tensors that can be compared.

    None of its tensors holds what is no number, no weight is infinite (a buffer may well be: a mask is), and
    some output is finite.
    """
    import torch

    if any(t.is_floating_point() and bool(torch.isnan(t).any()) for t in network.state_dict().values()):
        return False
    if any(bool(torch.isinf(weight).any()) for weight in network.parameters()):
        return False
    with torch.no_grad():
        return any(bool(torch.isfinite(network(x)).any()) for x in examples)


__all__ = ["BATCHES", "FLOAT32", "FLOAT64", "difference", "inputs", "is_finite"]
