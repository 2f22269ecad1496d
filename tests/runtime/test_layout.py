"""Layouts: what must not be in channels last is not, and nothing else leaves it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import nasdsl
from nasdsl.codegen.layout import CHANNELS_LAST, ORDINARY
from nasdsl.runtime.operators.pointwise import StridedPointwise
from nasdsl.runtime.standalone.basics import channels_last

NARROW = """
space narrow {
  input image(3, 8)
  network {
    stem: conv(3, CHANNELS) >> bn
    down: choose { a: relu >> conv(1, 6, stride=2), b: conv(3, 6, stride=2) }
    head: global_pool >> linear(10)
  }
}
"""


@pytest.mark.parametrize(("channels", "line"), [(3, ORDINARY), (7, ORDINARY), (8, CHANNELS_LAST)])
def test_a_narrow_strided_pointwise_convolution_keeps_the_ordinary_layout(
    tmp_path: object, channels: int, line: str
) -> None:
    """On a processor without AVX-512 the process died here (heap corruption in PyTorch's backward pass)."""
    from pathlib import Path

    path = Path(str(tmp_path)) / "narrow.nas"
    path.write_text(NARROW.replace("CHANNELS", str(channels)), "utf-8")
    space = nasdsl.load(path)
    strided, plain = space.architecture({"down.op": "a"}), space.architecture({"down.op": "b"})
    assert line.format(x="x") in space.model_source(strided)
    assert CHANNELS_LAST.format(x="x") in space.model_source(plain)
    net = space.network(strided).train()
    channels_last(net)
    x = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    for _ in range(50):
        net(x).sum().backward()
    supernet = space.compile("darts").supernet()
    for _ in range(50):
        supernet(x).sum().backward()


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_strided_pointwise_is_the_convolution(stride: int, groups: int, bias: bool) -> None:
    """Output and all gradients, float64, odd and even sizes."""
    ours = StridedPointwise(4, 6, stride, groups=groups, bias=bias).double()
    plain = nn.Conv2d(4, 6, 1, stride, groups=groups, bias=bias).double()
    plain.load_state_dict(ours.state_dict())
    for size in (7, 8):
        x = torch.randn(2, 4, size, size, dtype=torch.float64)
        found = []
        for net in (ours, plain):
            net.zero_grad()
            y = x.clone().requires_grad_()
            made = net(y)
            (made * torch.arange(made.numel()).view_as(made)).sum().backward()
            found.append([made, y.grad, *(p.grad for p in net.parameters())])
        for mine, theirs in zip(*found, strict=True):
            assert mine is not None
            assert theirs is not None
            assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)
