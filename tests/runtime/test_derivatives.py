"""Inside `twice` what PyTorch itself differentiates once only has second derivatives, and the same values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.operators.derivatives import twice


def attention(x: Tensor) -> Tensor:
    q = x.view(1, 2, 3, 4)
    return F.scaled_dot_product_attention(q, q, q)


@pytest.mark.parametrize("function", [F.hardsigmoid, torch.nn.Hardsigmoid(), attention])
def test_second_derivatives(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-4.9, 4.9, 24, dtype=torch.float64, requires_grad=True)
    plain = function(x)
    (wanted,) = torch.autograd.grad(plain.square().sum(), x)
    with twice():
        found = function(x)
        torch.testing.assert_close(found, plain)
        (slope,) = torch.autograd.grad(found.square().sum(), x, create_graph=True)
        torch.testing.assert_close(slope, wanted)
        assert torch.autograd.gradgradcheck(function, x)
    (again,) = torch.autograd.grad(slope.sum(), x)
    assert again.count_nonzero()
