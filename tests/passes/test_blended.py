"""Blended filters against the sum of the convolutions that they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.blended import BlendedConv, normalised


def filters(net: BlendedConv) -> list[Tensor]:
    return [c.weight for c in net.convs]


@pytest.mark.parametrize("how", ["filter", "kernel", "none"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("groups", "stride", "dilation"), [(1, 1, 1), (6, 1, 1), (6, 2, 1), (6, 1, 2), (6, 2, 2), (2, 2, 1)]
)
def test_one_convolution_is_the_weighted_sum_of_all(
    groups: int, stride: int, dilation: int, bias: bool, how: str
) -> None:
    torch.manual_seed(0)
    kernels = (3, 1, 5)
    net = BlendedConv(6, 6, kernels, stride, dilation, groups, bias, how).double()
    for side in (7, 8):
        x = torch.randn(2, 6, side, side, dtype=torch.float64, requires_grad=True)
        weights = torch.randn(3, dtype=torch.float64, requires_grad=True)
        mine = net(x, weights.unbind())
        theirs = sum(
            w
            * F.conv2d(
                x,
                normalised(c.weight, how),
                c.bias,
                stride,
                dilation * (k - 1) // 2,
                dilation,
                groups,
            )
            for w, c, k in zip(weights, net.convs, kernels, strict=True)
        )
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        leaves = [x, weights, *net.parameters()]
        factor = torch.randn_like(mine)
        for a, b in zip(
            torch.autograd.grad((mine * factor).sum(), leaves),
            torch.autograd.grad((theirs * factor).sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("how", ["filter", "kernel"])
def test_a_normalised_filter_has_no_scale(how: str) -> None:
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(normalised(7 * weight, how), normalised(weight, how), rtol=1e-4, atol=0)
    assert torch.equal(normalised(weight, "none"), weight)


def test_norms_are_of_each_output_channel_or_of_all() -> None:
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    each = torch.linalg.vector_norm(normalised(weight, "filter").flatten(1), dim=1)
    torch.testing.assert_close(each, torch.ones_like(each), rtol=1e-4, atol=0)
    whole = normalised(weight, "kernel")
    ratios = (whole / weight).flatten()
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
    assert float(torch.linalg.vector_norm(whole)) == pytest.approx(5**0.5, rel=1e-4)
