"""bf16 autocast: the fused modules run in it, and lose no more than the operations they stand for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.operators.depthwise import DepthwiseFan
from nasdsl.runtime.operators.normalised import NormalisedMix, PointwiseNorm
from nasdsl.runtime.search import bilevel
from nasdsl.runtime.standalone.basics import autocast
from nasdsl.runtime.supernet import SupernetBase
from tests.laws.common import batch, small

CPU = torch.device("cpu")
OUTPUT = 0.03
"""Relative distance of a bf16 supernet's logits from the fp32 ones; seen: 0.019 at most."""


def distance(wanted: Tensor, found: Tensor) -> float:
    gap = wanted.detach().double() - found.detach().double()
    return float(gap.norm() / wanted.detach().double().norm())


def made(
    net: nn.Module, call: Callable[[], Tensor], inputs: list[Tensor], precision: str
) -> dict[str, Tensor]:
    """Output, gradients and statistics of one step in a precision."""
    net.zero_grad(set_to_none=True)
    for x in inputs:
        x.grad = None
    with autocast(CPU, precision):
        out = call()
    generator = torch.Generator().manual_seed(5)
    out.backward(torch.randn(out.shape, generator=generator).to(out.dtype))
    found = {"output": out.detach()}
    found |= {f"input {i}": x.grad.clone() for i, x in enumerate(inputs) if x.grad is not None}
    found |= {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return found | {n: b.clone() for n, b in net.named_buffers()}


def images(count: int, shift: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(8, 6, 7, 7, generator=generator) + shift for _ in range(count)]
    # Numbers that bf16 holds exactly, so that what differs is arithmetic.
    return [x.bfloat16().float().requires_grad_() for x in made]


@pytest.mark.parametrize("shift", [0.0, 8.0])
@pytest.mark.parametrize("relu", [False, True])
def test_normalised_pointwise_convolutions(relu: bool, shift: float) -> None:
    torch.manual_seed(0)
    net, xs = PointwiseNorm(6, 5, copies=3, relu=relu), images(3, shift)
    other = copy.deepcopy(net)
    wide = made(net, lambda: torch.cat(net(xs), 1), xs, "fp32")
    low = made(other, lambda: torch.cat(other(xs), 1), xs, "bf16")
    assert low["output"].dtype == torch.bfloat16
    # Rounding moves some numbers over zero, where the gradient of ReLU jumps.
    check(wide, low, 0.1 if relu else 2e-2)


@pytest.mark.parametrize("shift", [0.0, 8.0])
@pytest.mark.parametrize("low_terms", [False, True])
def test_a_node_that_is_accumulated(low_terms: bool, shift: float) -> None:
    torch.manual_seed(0)
    net, xs = NormalisedMix(6, 6, 2), images(5, shift)
    other, weights = copy.deepcopy(net), torch.rand(5, requires_grad=True)

    def call(module: nn.Module, low: bool) -> Callable[[], Tensor]:
        plain = [x.bfloat16() for x in xs[:3]] if low else xs[:3]
        return lambda: module(weights.unbind(), plain, xs[3:])

    wide = made(net, call(net, False), [*xs, weights], "fp32")
    low = made(other, call(other, low_terms), [*xs, weights], "bf16")
    # As wide as the widest term, as a plain sum is.
    assert low["output"].dtype == (torch.bfloat16 if low_terms else torch.float32)
    check(wide, low)


def check(wide: dict[str, Tensor], low: dict[str, Tensor], rounding: float = 2e-2) -> None:
    """Statistics as exact as float32 sums of bf16 numbers are, all else to the rounding of bf16."""
    for name, wanted in wide.items():
        if "num_batches" in name:
            assert torch.equal(wanted, low[name])
            continue
        bound = 1e-3 if "running" in name else rounding
        assert low[name].dtype in (torch.float32, torch.bfloat16)
        assert "running" not in name or low[name].dtype == torch.float32
        assert distance(wanted, low[name]) < bound, (name, distance(wanted, low[name]))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 2, 1), (3, 1, 2), (5, 1, 2)])
def test_depthwise_convolutions(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    net, xs = (
        DepthwiseFan(6, kernel, stride, dilation * (kernel - 1) // 2, dilation, copies=2),
        images(1, 0.0),
    )
    other = copy.deepcopy(net)
    wide = made(net, lambda: torch.cat(net(xs[0]), 1), xs, "fp32")
    low = made(other, lambda: torch.cat(other(xs[0]), 1), xs, "bf16")
    assert low["output"].dtype == torch.bfloat16
    check(wide, low)


def supernet(name: str, method: str) -> tuple[SupernetBase, Tensor, Tensor]:
    space = small(name)
    net = space.compile(method).supernet(seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for variable in net.architecture_parameters():
            variable.normal_(generator=generator)
    return net, batch(space, 16), torch.arange(16) % 10


@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_a_supernet_in_bf16_is_close_to_itself_in_fp32(name: str, method: str) -> None:
    net, x, _ = supernet(name, method)
    other = copy.deepcopy(net)
    wanted = net(x)
    with autocast(CPU, "bf16"):
        found = other(x)
    assert distance(wanted, found) < OUTPUT
    for (key, a), (_, b) in zip(net.named_buffers(), other.named_buffers(), strict=True):
        assert b.dtype == a.dtype, key
    for key, spread in net.named_buffers():
        if key.endswith("running_var"):
            start = torch.ones_like(spread)  # what a step adds is what it found
            assert distance(spread - 0.9 * start, other.get_buffer(key) - 0.9 * start) < 3e-2, key


def test_the_fused_modules_lose_no_more_than_what_they_stand_for() -> None:
    """Gradients of an untrained supernet move by much in bf16; ours by no more than plain PyTorch's."""
    space, errors = small("darts"), {}
    y = torch.arange(16) % 10
    for form in ("", "-share,-normalise,-accumulate,-fan"):
        net = space.compile("darts", passes=form).supernet(seed=0)
        found = []
        for precision in ("fp32", "bf16"):
            net.zero_grad(set_to_none=True)
            with autocast(CPU, precision):
                loss = F.cross_entropy(net(batch(space, 16)), y)
            loss.backward()
            found.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
        errors[form] = distance(*found)
    ours, plain = errors.values()
    assert ours < 1.3 * plain, errors


@pytest.mark.parametrize("method", ["darts", "toponas"])
def test_both_steps_run_in_bf16_and_keep_weights_wide(method: str) -> None:
    net, x, y = supernet("darts", method)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    first = bilevel.architecture_step(
        net, (x, y), torch.optim.Adam(net.architecture_parameters()), cast=autocast(CPU, "bf16")
    )
    second = bilevel.weight_step(
        net, (x, y), torch.optim.SGD(net.weight_parameters(), 0.1), cast=autocast(CPU, "bf16")
    )
    assert first.isfinite()
    assert second.isfinite()
    for name, parameter in net.named_parameters():
        assert parameter.dtype == torch.float32
        # A distribution over one combination has nothing to learn.
        assert parameter.numel() == 1 or bool((parameter != before[name]).any()), name


def test_marginals_are_not_rounded() -> None:
    net, _, _ = supernet("darts", "toponas")
    wanted = net.mixing()
    with autocast(CPU, "bf16"):
        found = net.mixing()
    for owner, vectors in wanted.items():
        for key, vector in vectors.items():
            assert all(torch.equal(a, b) for a, b in zip(vector, found[owner][key], strict=True))


def test_a_backward_pass_inside_autocast_is_the_same() -> None:
    net, x, y = supernet("darts", "darts")
    other = copy.deepcopy(net)
    with autocast(CPU, "bf16"):
        loss = F.cross_entropy(net(x), y)
        F.cross_entropy(other(x), y).backward()
    loss.backward()
    for (name, a), (_, b) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        if a.grad is not None and b.grad is not None:
            assert distance(a.grad, b.grad) < 1e-5, name
