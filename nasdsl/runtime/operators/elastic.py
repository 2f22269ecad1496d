"""Modules that share one set of weights among many sizes.

Takes tensors of the sizes that the path of the step has, returns tensors of the sizes that it asks
for. Invariant: a module computes what an ordinary module with its weights cut to the path's sizes
computes, in training and in evaluation; what lies outside the cut neither changes nor moves.

Channels are the first of the shared ones, kernels the middle of the largest (slimmable networks,
ICLR 2019, section 3.1; once-for-all, ICLR 2020, section 3.2; without its kernel transformation, which a
stand-alone network has no place for). How many channels come in, a module sees from its input; how
many go out, and how large the kernel is, it looks up: a path is switched by writing a dictionary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.standalone.synced import batch_norm
from nasdsl.runtime.standalone.team import Team, synced


def cut(weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A view of `weight` with `shape`: the first of two axes, the middle of the axes of a kernel."""
    if weight.shape == shape:
        return weight
    if any(wanted > whole for whole, wanted in zip(weight.shape, shape, strict=True)):
        # A view by strides would read on in what lies behind.
        raise RuntimeError(
            f"a weight of size {tuple(weight.shape)} has no part of size {shape}: too many channels"
        )
    strides, offset = weight.stride(), weight.storage_offset()
    for whole, wanted, stride in zip(weight.shape[2:], shape[2:], strides[2:], strict=True):
        offset += (whole - wanted) // 2 * stride
    # One view instead of a slice an axis: each would make a gradient of the whole size.
    return weight.as_strided(shape, strides, offset)


class Elastic(nn.Module):
    """A module some of whose sizes the path settles.

    Attributes:
        sizes: the sizes of the path by key; the supernet gives all its modules one dictionary.
        keys: by the name of a size (`out`, `k`) its key; a size that is not there is fixed.
    """

    sizes: dict[str, int]

    def __init__(self, keys: dict[str, str | None]) -> None:
        super().__init__()
        self.sizes = {}
        self.keys = {name: key for name, key in keys.items() if key is not None}

    def now(self, name: str, fixed: int) -> int:
        """A size under the path."""
        key = self.keys.get(name)
        return fixed if key is None else self.sizes[key]

    def part(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The part of a tensor of the state (`weight`) that a module of its own would have."""
        found: Tensor = (
            self.get_parameter(name) if name in dict(self.named_parameters()) else self.get_buffer(name)
        )
        return cut(found, shape) if found.dim() else found

    def extra_repr(self) -> str:
        """The largest sizes, and what settles them."""
        return ", ".join(f"{n}={k!r}" for n, k in self.keys.items())


class _Filters(Elastic):
    """What both convolutions have: filters, stride, dilation and padding."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        stride: int,
        dilation: int,
        padding: int | None,
        bias: bool,
        keys: dict[str, str | None],
    ) -> None:
        super().__init__(keys)
        out, width, k = shape
        self.k, self.stride, self.dilation, self.padding = k, stride, dilation, padding
        plain = nn.Conv2d(width, out, k, bias=bias)  # for its initial weights
        self.weight, self.bias = plain.weight, plain.bias

    def convolved(self, x: Tensor, out: int, groups: int) -> Tensor:
        k = self.now("k", self.k)
        weight = cut(self.weight, (out, x.shape[1] // groups, k, k))
        bias = None if self.bias is None else self.bias[:out]
        padding = self.dilation * (k - 1) // 2 if self.padding is None else self.padding
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)


class ElasticConv2d(_Filters):
    """A convolution; `out` and `k` name what settles them.

    Args:
        padding: in pixels; None for what keeps the resolution.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
        out: str | None = None,
        k: str | None = None,
    ) -> None:
        shape = (filters, channels // groups, kernel)
        super().__init__(shape, stride, dilation, padding, bias, {"out": out, "k": k})
        self.filters, self.groups = filters, groups

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) to (B, out, H', W')."""
        return self.convolved(x, self.now("out", self.filters), self.groups)


class ElasticDepthwise(_Filters):
    """A depthwise convolution: as many filters as its input has channels."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        bias: bool = True,
        k: str | None = None,
    ) -> None:
        super().__init__((channels, 1, kernel), stride, dilation, padding, bias, {"k": k})

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) to (B, c, H', W')."""
        return self.convolved(x, x.shape[1], x.shape[1])


class ElasticBatchNorm(Elastic):
    """Batch normalisation of the channels that come in; statistics of the others stay.

    Attributes:
        team: the processes over whose rows it takes statistics; None for its own.
    """

    team: Team | None = None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__({})
        self.eps = 1e-5
        self.momentum: float | None = 0.1
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def reset_running_stats(self) -> None:
        """Statistics as of a new module."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, ...) to the same."""
        c = x.shape[1]
        factor = 0.0
        if self.training:
            self.num_batches_tracked.add_(1)
            momentum = self.momentum
            factor = 1.0 / int(self.num_batches_tracked) if momentum is None else momentum
        weight = None if self.weight is None else self.weight[:c]
        bias = None if self.bias is None else self.bias[:c]
        mean, var = self.running_mean[:c], self.running_var[:c]
        team = synced(self)
        if team is not None and self.training:
            return batch_norm(x, team, (mean, var), (weight, bias), factor, self.eps)
        return F.batch_norm(x, mean, var, weight, bias, self.training, factor, self.eps)


class ElasticLinear(Elastic):
    """A linear layer of the features that come in; `out` names what settles how many go out."""

    def __init__(self, features: int, outputs: int, bias: bool = True, out: str | None = None) -> None:
        super().__init__({"out": out})
        plain = nn.Linear(features, outputs, bias=bias)  # for its initial weights
        self.outputs, self.weight = outputs, plain.weight
        self.bias: nn.Parameter | None = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., d) to (B, ..., out)."""
        out = self.now("out", self.outputs)
        weight = cut(self.weight, (out, x.shape[-1]))
        return F.linear(x, weight, None if self.bias is None else self.bias[:out])


class ElasticLayerNorm(Elastic):
    """Layer normalisation of the features that come in."""

    def __init__(self, features: int) -> None:
        super().__init__({})
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., d) to the same."""
        d = x.shape[-1]
        return F.layer_norm(x, (d,), self.weight[:d], self.bias[:d])


class ElasticSqueezeExcite(Elastic):
    """`nasdsl.runtime.standalone.blocks.SqueezeExcite` with a hidden layer whose width `width` names."""

    def __init__(self, channels: int, hidden: int, width: str | None = None) -> None:
        super().__init__({"width": width})
        self.hidden = hidden
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) to the same."""
        c, hidden = x.shape[1], self.now("width", self.hidden)
        squeezed = _pointwise(self.reduce, x.mean((2, 3), keepdim=True), hidden)
        gate = _pointwise(self.expand, F.relu(squeezed), c)
        return x * F.hardsigmoid(gate)


def _pointwise(layer: nn.Conv2d, x: Tensor, out: int) -> Tensor:
    """A 1x1 convolution with a bias, cut to the channels that come in and to `out`."""
    bias: Tensor = layer.get_parameter("bias")
    return F.conv2d(x, cut(layer.weight, (out, x.shape[1], 1, 1)), bias[:out])


class ElasticAttention(Elastic):
    """`nasdsl.runtime.standalone.blocks.Attention` with the first heads, and the first features of each."""

    def __init__(
        self,
        features: int,
        most_heads: int,
        widest: int,
        heads: str | None = None,
        head_width: str | None = None,
    ) -> None:
        super().__init__({"heads": heads, "head_width": head_width})
        self.most_heads, self.widest = most_heads, widest
        self.qkv = nn.Linear(features, 3 * most_heads * widest)
        self.out = nn.Linear(most_heads * widest, features)

    def _rows(self, tensor: Tensor, heads: int, width: int) -> Tensor:
        """(3 * most * widest, ...) to (3 * heads * width, ...): of each of three the first heads."""
        rows = tensor.view(3, self.most_heads, self.widest, *tensor.shape[1:])[:, :heads, :width]
        return rows.reshape(3 * heads * width, *tensor.shape[1:])

    def _columns(self, tensor: Tensor, heads: int, width: int) -> Tensor:
        """(D, most * widest) to (D, heads * width)."""
        columns = tensor.view(-1, self.most_heads, self.widest)[:, :heads, :width]
        return columns.reshape(-1, heads * width)

    def _sizes(self) -> tuple[int, int]:
        return self.now("heads", self.most_heads), self.now("head_width", self.widest)

    def part(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """See `Elastic.part`; `shape` tells the features, the path how many heads."""
        heads, width = self._sizes()
        found = self.get_parameter(name)
        if name.startswith("qkv"):
            rows = self._rows(found, heads, width)
            return rows[:, : shape[1]] if rows.dim() > 1 else rows
        return self._columns(found, heads, width)[: shape[0]] if found.dim() > 1 else found[: shape[0]]

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) to the same."""
        (batch, length, d), (heads, width) = x.shape, self._sizes()
        inner = heads * width
        qkv = F.linear(x, self.part("qkv.weight", (3 * inner, d)), self.part("qkv.bias", (3 * inner,)))
        # (B, L, 3 * heads * width) to three of (B, heads, L, width)
        q, k, v = qkv.view(batch, length, 3, heads, width).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, inner)
        return F.linear(mixed, self.part("out.weight", (d, inner)), self.part("out.bias", (d,)))


class ElasticClassToken(Elastic):
    """`nasdsl.runtime.standalone.blocks.ClassToken` of the features that come in."""

    def __init__(self, features: int) -> None:
        super().__init__({})
        self.token = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) to (B, L + 1, d)."""
        return torch.cat((self.token[: x.shape[-1]].expand(x.shape[0], 1, -1), x), 1)


class ElasticPosition(Elastic):
    """`nasdsl.runtime.standalone.blocks.Position` of the tokens and features that come in."""

    def __init__(self, length: int, features: int) -> None:
        super().__init__({})
        self.embedding = nn.Parameter(0.02 * torch.randn(length, features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, l, d) to the same."""
        return x + cut(self.embedding, (x.shape[1], x.shape[2]))


BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, ElasticBatchNorm)
"""Modules with running statistics and `reset_running_stats`."""


def batch_norms(net: nn.Module) -> list[Any]:
    """Every batch norm of a network."""
    return [m for m in net.modules() if isinstance(m, BATCH_NORMS)]
