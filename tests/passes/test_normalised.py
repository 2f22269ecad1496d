"""Pointwise convolutions whose batch norm is never stored, against the two modules themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from nasdsl.runtime.operators.normalised import NormalisedMix, PointwiseNorm

BOUND = 1e-11


def plain(joined: nn.Module, copies: int) -> list[nn.Sequential]:
    """A convolution and a batch norm for every copy, with its part of the weights and statistics."""
    conv, norm = joined.conv, joined.norm
    made = []
    for index in range(copies):
        own = nn.Conv2d(
            conv.in_channels // copies, conv.out_channels // copies, 1, bias=conv.bias is not None
        )
        after = nn.BatchNorm2d(own.out_channels, affine=False, momentum=norm.momentum, eps=norm.eps)
        pair = nn.Sequential(own, after).to(conv.weight.dtype).train(joined.training)
        with torch.no_grad():
            for target, source in (
                (own.weight, conv.weight),
                (own.bias, conv.bias),
                (after.running_mean, norm.running_mean),
                (after.running_var, norm.running_var),
            ):
                if target is not None:
                    target.copy_(source.chunk(copies)[index])
        made.append(pair)
    return made


def close(
    mine: Sequence[Tensor], theirs: Sequence[Tensor], bound: float = BOUND, zero: float = 1e-11
) -> None:
    """Relative to the largest element of each tensor; below `zero` everything is rounding."""
    assert len(mine) == len(theirs)
    for index, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        assert a.shape == b.shape
        gap, scale = float((a - b).abs().max()), float(b.abs().max())
        assert gap <= max(bound * scale, zero), (index, gap, scale)


def unsettled(module: nn.Module) -> nn.Module:
    """Statistics and biases away from zero and one."""
    with torch.no_grad():
        module.norm.running_mean.normal_()
        module.norm.running_var.uniform_(0.5, 2)
        if module.conv.bias is not None:
            module.conv.bias.normal_()
    return module


def statistics(norms: Sequence[nn.BatchNorm2d]) -> list[Tensor]:
    return [torch.cat([n.running_mean for n in norms]), torch.cat([n.running_var for n in norms])]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("copies", "channels", "out"), [(1, 3, 3), (1, 2, 5), (3, 4, 4)])
def test_outputs_first_gradients_and_statistics(
    copies: int, channels: int, out: int, bias: bool, relu: bool, training: bool
) -> None:
    torch.manual_seed(copies + out)
    joined = unsettled(PointwiseNorm(channels, out, copies, bias, relu).double()).train(training)
    pairs = plain(joined, copies)
    inputs = [torch.randn(4, channels, 5, 3, dtype=torch.float64) + i for i in range(copies)]
    factors = [torch.randn(4, out, 5, 3, dtype=torch.float64) for _ in range(copies)]
    found = []
    for form in ("joined", "plain"):
        xs = [x.clone().requires_grad_() for x in inputs]
        if form == "joined":
            result = joined(xs[0]) if copies == 1 else joined(tuple(xs))
            outs = [result] if copies == 1 else list(result)
            weights = [joined.conv.weight, *([joined.conv.bias] if bias else [])]
        else:
            outs = [p(x).relu() if relu else p(x) for p, x in zip(pairs, xs, strict=True)]
            weights = [p[0].weight for p in pairs] + ([p[0].bias for p in pairs] if bias else [])
        loss = sum((y * f).sum() + y.square().sum() for y, f in zip(outs, factors, strict=True))
        gradients = list(torch.autograd.grad(loss, [*xs, *weights]))
        if form == "plain":
            own = gradients[copies:]
            gradients = [*gradients[:copies], torch.cat(own[:copies])] + (
                [torch.cat(own[copies:])] if bias else []
            )
        found.append(([y.detach() for y in outs], gradients))
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1])
    close(statistics([joined.norm]), statistics([p[1] for p in pairs]))
    assert {int(p[1].num_batches_tracked) for p in pairs} == {int(joined.norm.num_batches_tracked)}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("terms", "count"), [(0, 1), (2, 1), (1, 3)])
def test_a_weighted_sum(terms: int, count: int, bias: bool, training: bool) -> None:
    torch.manual_seed(terms + count)
    joined = unsettled(NormalisedMix(4, 5, count, bias).double()).train(training)
    pairs = plain(joined, count)
    weights = torch.randn(terms + count, dtype=torch.float64)
    given = [torch.randn(3, 5, 4, 6, dtype=torch.float64) for _ in range(terms)]
    inputs = [3 * torch.randn(3, 4, 4, 6, dtype=torch.float64) + i for i in range(count)]
    factor = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    found = []
    for form in ("joined", "plain"):
        a = weights.clone().requires_grad_()
        ts, xs = ([t.clone().requires_grad_() for t in ts] for ts in (given, inputs))
        if form == "joined":
            out = joined(a.unbind(), ts, xs)
            own = [joined.conv.weight, *([joined.conv.bias] if bias else [])]
        else:
            parts = [*ts, *(p(x) for p, x in zip(pairs, xs, strict=True))]
            out = sum(w * part for w, part in zip(a, parts, strict=True))
            own = [p[0].weight for p in pairs] + ([p[0].bias for p in pairs] if bias else [])
        gradients = list(torch.autograd.grad((out * factor).sum() + out.square().sum(), [a, *ts, *xs, *own]))
        if form == "plain":
            split = 1 + terms + count
            own = gradients[split:]
            gradients = [*gradients[:split], torch.cat(own[:count])] + (
                [torch.cat(own[count:])] if bias else []
            )
        found.append((out.detach(), gradients))
    close([found[0][0]], [found[1][0]])
    close(found[0][1], found[1][1])
    close(statistics([joined.norm]), statistics([p[1] for p in pairs]))


def make(kind: str, dtype: torch.dtype) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A module of one input, and how it is called."""
    if kind == "each":
        each = PointwiseNorm(6, 6).to(dtype)
        return each, each
    mix = NormalisedMix(6, 6, 1).to(dtype)
    return mix, lambda x: mix((x.new_ones(()),), (), (x,))


KINDS = ["each", "mix"]


@pytest.mark.parametrize("kind", KINDS)
def test_running_variance_is_the_unbiased_one(kind: str) -> None:
    torch.manual_seed(0)
    module, call = make(kind, torch.float64)
    module.norm.momentum = 1.0
    x = torch.randn(2, 6, 1, 2, dtype=torch.float64)  # four values: n / (n - 1) is far from one
    call(x)
    outputs = module.conv(x).detach().transpose(0, 1).flatten(1)
    close(statistics([module.norm]), [outputs.mean(1), outputs.var(1, unbiased=True)])


@pytest.mark.parametrize("kind", KINDS)
def test_momentum_none_is_the_cumulative_average(kind: str) -> None:
    torch.manual_seed(0)
    module, call = make(kind, torch.float64)
    module.norm.momentum = None
    (pair,) = plain(module, 1)
    for step in range(3):
        x = torch.randn(2, 6, 3, 3, dtype=torch.float64) * (step + 1)
        call(x)
        pair(x)
        close(statistics([module.norm]), statistics([pair[1]]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_of_a_hundred_deviations_keeps_its_digits(kind: str) -> None:
    """In float32 the form E[z z'] - m m' would lose three digits here."""
    torch.manual_seed(0)
    module, call = make(kind, torch.float32)
    (exact,) = plain(module.double(), 1)
    module.float()
    x = 100 + torch.randn(16, 6, 8, 8)
    found = []
    for form, value in ((call, x), (exact, x.double())):
        leaf = value.clone().requires_grad_()
        out = form(leaf)
        (gradient,) = torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), leaf)
        found.append((out.detach().double(), gradient.double()))
    close(*found, bound=2e-4, zero=0)
    close(statistics([module.double().norm]), statistics([exact[1]]), bound=1e-4, zero=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_derivative_is_refused(kind: str) -> None:
    module, call = make(kind, torch.float64)
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    for leaf in (x, module.conv.weight):
        with pytest.raises(RuntimeError, match="first derivative only"):
            torch.autograd.grad(call(x).pow(3).sum(), leaf, create_graph=True)


@pytest.mark.parametrize("kind", KINDS)
def test_one_value_a_channel_has_no_statistics(kind: str) -> None:
    module, call = make(kind, torch.float64)
    x = torch.randn(1, 6, 1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="more than one value"):
        call(x)
    module.eval()
    assert call(x).shape == (1, 6, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", ["input", "weight"])
def test_only_what_is_wanted_gets_a_gradient(kind: str, wanted: str) -> None:
    torch.manual_seed(0)
    module, call = make(kind, torch.float64)
    (pair,) = plain(module, 1)
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=wanted == "input")
    for net in (module, pair):
        net.requires_grad_(wanted == "weight")
    mine = torch.autograd.grad(call(x).pow(3).sum(), x if wanted == "input" else module.conv.weight)
    theirs = torch.autograd.grad(pair(x).pow(3).sum(), x if wanted == "input" else pair[0].weight)
    close(mine, theirs)


def test_a_lane_that_nothing_reads_and_a_dead_channel() -> None:
    torch.manual_seed(0)
    joined = PointwiseNorm(3, 3, 2).double()
    with torch.no_grad():
        joined.conv.weight[1] = 0  # its variance is zero: only eps is left
    pairs = plain(joined, 2)
    inputs = [torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    mine = torch.autograd.grad(joined(tuple(inputs))[0].pow(3).sum(), [joined.conv.weight, inputs[0]])
    theirs = torch.autograd.grad(pairs[0](inputs[0]).pow(3).sum(), [pairs[0][0].weight, inputs[0]])
    close([mine[0][:3], mine[1]], theirs)
    assert not mine[0][3:].any()
