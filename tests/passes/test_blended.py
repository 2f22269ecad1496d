"""Blended filters against the sum of the convolutions that they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.operators.blended import EPS, BlendedConv, BlendedFan, blended, normalised


def over_norm(weight: Tensor, how: str) -> Tensor:
    """The definition: each output channel over its norm, or all over one, a channel's share of it being one."""
    if how == "none":
        return weight
    if how == "filter":
        return torch.stack([w / (w.square().sum().sqrt() + EPS) for w in weight])
    return weight / (weight.square().sum().sqrt() + EPS) * len(weight) ** 0.5


@pytest.mark.parametrize("how", ["filter", "kernel", "none"])
def test_normalised_is_its_definition(how: str) -> None:
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(normalised(weight, how), over_norm(weight, how), rtol=1e-12, atol=0)


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
        mine = net(x, weights)
        theirs = sum(
            w
            * F.conv2d(
                x,
                over_norm(c.weight, how),
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


@pytest.mark.parametrize("how", ["filter", "kernel", "none"])
@pytest.mark.parametrize("lanes", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_fan_is_its_copies_side_by_side(lanes: bool, bias: bool, how: str) -> None:
    torch.manual_seed(0)
    copies, channels, kernels = 3, 4, (3, 5)
    fan = BlendedFan(channels, kernels, copies, 1, 2, bias, how).double()
    inputs = [torch.randn(2, channels, 7, 8, dtype=torch.float64) for _ in range(copies if lanes else 1)]
    weights = torch.randn(copies, 2, dtype=torch.float64, requires_grad=True)
    outs = fan(inputs if lanes else inputs[0], weights.unbind())
    alone = []
    for index in range(copies):
        each = BlendedConv(channels, channels, kernels, 1, 2, channels, bias, how).double()
        # Not a copy: the gradient has to reach the fan's own weights.
        parts = {n: p.chunk(copies)[index] for n, p in fan.named_parameters()}
        x = inputs[index if lanes else 0]
        alone.append(torch.func.functional_call(each, parts, (x, weights[index])))
    for a, b in zip(outs, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    leaves = [weights, *fan.parameters()]
    mine = torch.autograd.grad(sum(y.pow(3).sum() for y in outs), leaves)
    theirs = torch.autograd.grad(sum(y.pow(3).sum() for y in alone), leaves)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("how", ["filter", "kernel", "none"])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_what_is_wanted_gets_a_gradient(how: str, wanted: tuple[int, ...]) -> None:
    """Weights of the sum, then two filters; the others are constants."""
    torch.manual_seed(0)
    tensors = [torch.randn(1, 2), torch.randn(3, 1, 3, 3), torch.randn(3, 1, 5, 5)]
    leaves = [t.double().requires_grad_(i in wanted) for i, t in enumerate(tensors)]
    table, small, large = leaves
    mine = blended(table, [small, large], how)
    theirs = table[0, 0] * F.pad(over_norm(small, how), (1,) * 4) + table[0, 1] * over_norm(large, how)
    mine.pow(3).sum().backward()
    found = [t.grad for t in leaves]
    for leaf in leaves:
        leaf.grad = None
    theirs.pow(3).sum().backward()
    for a, leaf in zip(found, leaves, strict=True):
        assert (a is None) == (leaf.grad is None)
        if a is not None:
            torch.testing.assert_close(a, leaf.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("how", ["filter", "kernel", "none"])
def test_a_second_derivative_is_refused(how: str) -> None:
    weight = torch.randn(3, 1, 3, 3, requires_grad=True)
    made = blended(torch.ones(1, 1), [weight], how)
    with pytest.raises(RuntimeError, match="first derivative only"):
        torch.autograd.grad(made.pow(3).sum(), weight, create_graph=True)


@pytest.mark.parametrize("how", ["filter", "kernel"])
def test_a_filter_of_zeros_has_finite_gradients(how: str) -> None:
    weight = torch.zeros(3, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    blended(torch.ones(1, 1, dtype=torch.float64), [weight], how).sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
