"""Depthwise convolution and its backward pass against the library's."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.operators.depthwise import SMALL, Depthwise, DepthwiseFan, Geometry, depthwise, phases

CASES = list(product((1, 3, 5, 7), (1, 2), (1, 2)))
"""Kernel, stride, dilation."""


def reference(
    inputs: list[Tensor], weight: Tensor, bias: Tensor | None, how: Geometry, copies: int
) -> list[Tensor]:
    channels = inputs[0].shape[1]
    biases = [None] * copies if bias is None else list(bias.split(channels))
    sources = inputs if len(inputs) == copies else inputs * copies
    return [
        F.conv2d(x, w, b, how.stride, how.padding, how.dilation, channels)
        for x, w, b in zip(sources, weight.split(channels), biases, strict=True)
    ]


def agree(
    how: Geometry,
    kernel: int,
    *,
    size: tuple[int, int] = (9, 8),
    channels: int = 3,
    images: int = 2,
    copies: int = 1,
    lanes: bool = False,
    bias: bool = False,
    dtype: torch.dtype = torch.float64,
    bound: float = 1e-12,
) -> None:
    """Outputs and all gradients, relative to the largest element of each."""
    torch.manual_seed(kernel)
    shape = (images, channels, *size)
    inputs = [torch.randn(shape, dtype=dtype) for _ in range(copies if lanes else 1)]
    weight = torch.randn(copies * channels, 1, kernel, kernel, dtype=dtype)
    shift = torch.randn(copies * channels, dtype=dtype) if bias else None
    factors = None
    found = []
    for form in (depthwise, reference):
        leaves = [t.clone().requires_grad_() for t in (*inputs, weight, *([shift] if bias else []))]
        xs, w, b = leaves[: len(inputs)], leaves[len(inputs)], leaves[-1] if bias else None
        if form is depthwise:
            outs = list(depthwise(xs, w, b, how))
        else:
            outs = reference(xs, w, b, how, copies)
        if factors is None:
            factors = [torch.randn_like(y) for y in outs]
        total = sum(((y * f).sum() for y, f in zip(outs, factors, strict=True)), torch.zeros((), dtype=dtype))
        found.append([y.detach() for y in outs] + list(torch.autograd.grad(total, leaves)))
    assert len(found[0]) == len(found[1])
    for mine, theirs in zip(*found, strict=True):
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max()) <= bound * float(theirs.abs().max())


@pytest.mark.parametrize(("kernel", "stride", "dilation"), CASES)
def test_every_geometry_at_odd_and_even_sizes(kernel: int, stride: int, dilation: int) -> None:
    same = dilation * (kernel - 1) // 2
    for padding in sorted({0, 1, same}):
        for size in ((13, 13), (14, 14), (13, 14)):
            agree(Geometry(stride, padding, dilation), kernel, size=size)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), CASES)
@pytest.mark.parametrize("lanes", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_fans_and_lanes(kernel: int, stride: int, dilation: int, lanes: bool, bias: bool) -> None:
    how = Geometry(stride, dilation * (kernel - 1) // 2, dilation)
    agree(how, kernel, size=(7, 8), copies=3, lanes=lanes, bias=bias)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (7, 1, 1), (5, 1, 2), (3, 2, 2)]
)
@pytest.mark.parametrize("form", ["alone", "fan", "lanes"])
def test_both_sides_of_small(kernel: int, stride: int, dilation: int, form: str) -> None:
    """The way through differs with the number of elements of an image, and float32 has kernels of its own."""
    copies = 1 if form == "alone" else 2
    how = Geometry(stride, dilation * (kernel - 1) // 2, dilation)
    for side in (32, 33):
        images = SMALL // (8 * side * side) + 1
        for count in (1, images):
            assert (count * 8 * side * side > SMALL) == (count == images)
            for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
                agree(
                    how,
                    kernel,
                    size=(side, side),
                    channels=8,
                    images=count,
                    copies=copies,
                    lanes=form == "lanes",
                    dtype=dtype,
                    bound=bound,
                )


@pytest.mark.parametrize("form", ["alone", "fan", "lanes"])
@pytest.mark.parametrize("which", ["inputs", "weight"])
@pytest.mark.parametrize("large", [False, True])
def test_only_what_is_wanted_gets_a_gradient(form: str, which: str, large: bool) -> None:
    """In one of the two steps of a bilevel search the weights are constants, in the first cell the input is."""
    torch.manual_seed(0)
    copies, side = (1 if form == "alone" else 2), (150 if large else 6)
    inputs = [torch.randn(1, 6, side, side, dtype=torch.float64) for _ in range(2 if form == "lanes" else 1)]
    weight = torch.randn(6 * copies, 1, 5, 5, dtype=torch.float64)
    wanted = inputs if which == "inputs" else [weight]
    for tensor in wanted:
        tensor.requires_grad_()
    how = Geometry(1, 2, 1)
    mine = torch.autograd.grad(sum(y.square().sum() for y in depthwise(inputs, weight, None, how)), wanted)
    plain = reference(inputs, weight, None, how, copies)
    theirs = torch.autograd.grad(sum(y.square().sum() for y in plain), wanted)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("lanes", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_a_result_that_nothing_reads_and_a_gradient_without_memory_of_its_own(
    lanes: bool, large: bool
) -> None:
    side = 150 if large else 6
    x = torch.randn(1, 6, side, side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(18, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    how = Geometry(1, 2, 1)
    inputs = [x, 2 * x, x] if lanes else [x]
    found = []
    for outs in (depthwise(inputs, weight, None, how), reference(inputs, weight, None, how, 3)):
        loss = (
            outs[0].sum() + outs[2].mean((2, 3)).square().sum()
        )  # expanded gradients; nothing of the second
        found.append(torch.autograd.grad(loss, (x, weight), retain_graph=True))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    (out,) = depthwise((x,), weight, None, Geometry(1, 1, 1))
    with pytest.raises(RuntimeError, match="first derivative only"):
        torch.autograd.grad(out.square().sum(), x, create_graph=True)


@pytest.mark.parametrize("bias", [False, True])
def test_the_modules_are_convolutions_with_the_weights_of_convolutions(bias: bool) -> None:
    torch.manual_seed(0)
    mine = Depthwise(4, 5, stride=2, padding=4, dilation=2, bias=bias)
    theirs = torch.nn.Conv2d(4, 4, 5, 2, 4, 2, 4, bias=bias)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(mine(x), theirs(x))
    with torch.no_grad():  # another way through
        torch.testing.assert_close(mine(x), theirs(x))
    fan = DepthwiseFan(4, 3, padding=1, bias=bias, copies=2)
    for form in (fan(x), fan((x, x))):
        assert len(form) == 2
        joined = fan.conv(torch.cat((x, x), 1))
        torch.testing.assert_close(torch.cat(form, 1), joined)


def test_phases_hold_every_pixel_once() -> None:
    x = torch.arange(2 * 3 * 5 * 6, dtype=torch.float64).reshape(2, 3, 5, 6)
    parts = phases(x).reshape(2, 2, 2, 3, 3, 3)
    for row, column in product((0, 1), (0, 1)):
        picked = x[:, :, row::2, column::2]
        assert torch.equal(parts[row, column, :, :, : picked.shape[2], : picked.shape[3]], picked)
