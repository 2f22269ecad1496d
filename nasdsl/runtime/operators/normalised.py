"""Batch norm that is never stored: pointwise convolutions and weighted sums taken through it.

Takes images (B, C, H, W), returns images. Invariant: outputs, running statistics and all
first gradients are those of `BatchNorm2d(affine=False)` behind `Conv2d(C, D, 1)`, to
rounding; a second derivative is refused, never wrong.

A pointwise convolution is a linear map, so the statistics of its output follow from
those of its input: with z the input less its mean (n rows of C numbers) and S = z'z / n,

    var(W z) = diag(W S W')        BN(W z) = diag(var + eps)^(-1/2) W z.

Hence the normalised output is one matrix product with the rescaled filters V, and a
weighted sum of many candidates is one product with all of them side by side,

    sum_i a_i BN(W_i z_i) = [z_1 ... z_k] [a_1 V_1 ... a_k V_k]',

so no candidate's output exists, forward or backward. With G the incoming gradient less
its mean and M_i = G' z_i, the backward pass needs M_i and one product more:

    d a_i = <M_i, V_i>             d z_i = a_i G V_i + 2/n z_i dS_i.

Statistics are of centred rows: the form E[z z'] - m m' loses three digits where the mean
is a hundred times the deviation. Under autocast images are in its format, statistics and all
sums over pixels in float32 (`nasdsl.runtime.operators.precision`).

`torch.compile` sees the same algebra as plain operations: it makes the backward pass itself. So does
autograd where the statistics are those of the rows of several processes
(`nasdsl.runtime.standalone.synced`): means and covariances are summed over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nasdsl.runtime.operators.derivatives import once, traced
from nasdsl.runtime.operators.precision import LOW, dot, image_format, product, wide, without_autocast
from nasdsl.runtime.standalone.synced import summed
from nasdsl.runtime.standalone.team import Team, synced

Rows = Tensor
"""An image (B, C, H, W) as rows (B*H*W, C)."""


def rows(x: Tensor) -> Rows:
    """(B, C, H, W) to (B*H*W, C), without a copy where channels are last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def image(flat: Rows, like: Tensor) -> Tensor:
    """(B*H*W, D) to (B, D, H, W), channels last; `like` has the other sizes."""
    batch, _, height, width = like.shape
    return flat.view(batch, height, width, -1).permute(0, 3, 1, 2)


class _Maps:
    """k pointwise convolutions with the batch norms behind them, in training: what both passes need.

    Attributes:
        z: centred inputs, (k, n, C).
        scaled: the rescaled filters V, (k, D, C).
        n: rows that the statistics are of, those of all processes of a team.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        weight: Tensor,
        eps: float,
        dtype: torch.dtype,
        team: Team | None = None,
    ) -> None:
        count = len(inputs)
        self.weight = weight.view(count, -1, weight.shape[1])
        if team is None:
            self.z, self.mean = (_traced if torch.is_grad_enabled() else _centred)(inputs, dtype)
        else:
            self.z, self.mean = _traced(inputs, dtype, team)
        self.n = self.z.shape[1] * (1 if team is None else team.world)
        self._statistics(eps, team)

    def _statistics(self, eps: float, team: Team | None) -> None:
        squares = product(self.z.transpose(1, 2), self.z)
        self.covariance = (squares if team is None else summed(squares, team)) / self.n
        self.spread = torch.bmm(self.weight, self.covariance)  # W S, (k, D, C)
        self.variance = (self.spread * self.weight).sum(2).clamp_min(0)
        self.inverse = (self.variance + eps).rsqrt()
        self.scaled = self.weight * self.inverse.unsqueeze(2)

    def update(self, norm: nn.BatchNorm2d, bias: Tensor | None) -> None:
        """The running statistics, as batch norm moves them: the variance with n / (n - 1)."""
        if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
            return
        n = self.n
        mean = torch.bmm(self.weight, self.mean.unsqueeze(2)).flatten().detach()
        if bias is not None:
            mean = mean + bias.detach()
        variance = self.variance.flatten().detach().to(norm.running_var.dtype)
        norm.num_batches_tracked.add_(1)
        # Without a momentum batch norm keeps the average over all batches.
        momentum = norm.momentum or norm.num_batches_tracked.to(variance.dtype).reciprocal()
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
        norm.running_var.lerp_(variance * (n / (n - 1)), momentum)


def _centred(inputs: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The inputs as rows less their means, (k, n, C) in a format, and the means (k, C)."""
    if inputs[0].device.type != "cpu" or dtype in LOW:
        return _centred_together(inputs, dtype)
    first = rows(inputs[0])
    z = first.new_empty(len(inputs), *first.shape, dtype=dtype)
    means = []
    for index, x in enumerate(inputs):
        flat = rows(x)
        mean = flat.mean(0, dtype=wide(flat.dtype))
        torch.sub(flat, mean, out=z[index])
        means.append(mean)
    return z, torch.stack(means)


def _centred_together(inputs: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The same side by side: three calls for all, and one product sums them later."""
    count, channels = len(inputs), inputs[0].shape[1]
    side = torch.cat([x.permute(0, 2, 3, 1) for x in inputs], 3).view(-1, count * channels)
    mean = side.mean(0, dtype=wide(side.dtype))
    in_place = side.dtype == dtype and mean.dtype == dtype
    z = side.sub_(mean) if in_place else torch.sub(side, mean, out=side.new_empty(0, dtype=dtype))
    return z.view(-1, count, channels).transpose(0, 1), mean.view(count, channels)


def _traced(inputs: Sequence[Tensor], dtype: torch.dtype, team: Team | None = None) -> tuple[Tensor, Tensor]:
    """The same, for autograd to follow; with a team the means are those of the rows of all processes."""
    flats = [rows(x) for x in inputs]
    means = [flat.mean(0, dtype=wide(flat.dtype)) for flat in flats]
    if team is not None:
        means = list((summed(torch.stack(means), team) / team.world).unbind())
    centred = [(flat - mean).to(dtype) for flat, mean in zip(flats, means, strict=True)]
    return torch.stack(centred, 1).transpose(0, 1), torch.stack(means)


def _less_mean(flat: Rows, dtype: torch.dtype) -> Rows:
    mean = flat.mean(0, dtype=wide(flat.dtype))
    return flat - mean if mean.dtype == dtype else torch.sub(flat, mean, out=flat.new_empty(0, dtype=dtype))


def _summed(z: Tensor, filters: Tensor) -> Rows:
    """`sum_i z_i f_i'`: z (k, n, C) and filters (k, D, C) to (n, D)."""
    filters = filters.to(z.dtype)
    side = z.transpose(0, 1)
    if side.is_contiguous():
        return torch.mm(side.flatten(1), filters.transpose(1, 2).flatten(0, 1))
    total = torch.mm(z[0], filters[0].t())
    for term, filter_ in zip(z[1:], filters[1:], strict=True):
        total.addmm_(term, filter_.t())
    return total


def _with_terms(maps: _Maps, factors: Tensor, terms: Sequence[Tensor]) -> Tensor:
    """The weighted sum of plain terms and of what the maps make, an image."""
    made = _summed(maps.z, factors[len(terms) :].view(-1, 1, 1) * maps.scaled)
    total = made.to(wide(made.dtype)) if terms else made
    for index, term in enumerate(terms):
        total.addcmul_(rows(term), factors[index])
    # As wide as the widest term, which is what a plain sum would be.
    dtype = made.dtype if all(t.dtype in LOW for t in terms) else total.dtype
    return total.to(dtype)


def _backward(
    z: Tensor,
    weight: Tensor,
    scaled: Tensor,
    spread: Tensor,
    inverse: Tensor,
    back_on_z: Tensor,
    factor: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gradient of the filters, and the matrix that takes z to its part of its gradient.

    Args:
        back_on_z: M, (k, D, C).
        factor: the weights a of the sum, (k, 1, 1); None for ones.

    Returns:
        d W (k, D, C), and 2/n dS (k, C, C).
    """
    to_scaled = back_on_z if factor is None else factor * back_on_z
    to_weight = to_scaled * inverse.unsqueeze(2)
    # Through the scale: d inverse = <d V, W>, d variance = -1/2 inverse^3 d inverse.
    to_variance = -0.5 * inverse.pow(3) * (to_scaled * weight).sum(2)
    to_weight = to_weight + 2 * to_variance.unsqueeze(2) * spread
    back = torch.bmm(weight.transpose(1, 2), to_variance.unsqueeze(2) * weight)
    return to_weight, back * (2 / z.shape[1])


class _Sum(torch.autograd.Function):
    """`sum_i p_i x_i + sum_j a_j BN(W_j z_j)`: plain terms, then normalised ones."""

    @staticmethod
    def forward(
        ctx: Any,
        plain: int,
        norm: nn.BatchNorm2d,
        bias: Tensor | None,
        dtype: torch.dtype,
        factors: Tensor,
        weight: Tensor,
        *x: Tensor,
    ) -> Tensor:
        maps = _Maps(x[plain:], weight, norm.eps, dtype)
        maps.update(norm, bias)
        total = _with_terms(maps, factors, x[:plain])
        ctx.plain = plain
        ctx.save_for_backward(
            maps.z, maps.weight, maps.scaled, maps.spread, maps.inverse, factors, *x[:plain]
        )
        return image(total, x[0])

    @staticmethod
    @once
    @without_autocast
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, scaled, spread, inverse, factors, *terms = ctx.saved_tensors
        plain = ctx.plain
        wanted = ctx.needs_input_grad
        flat = rows(gradient)
        count, _, channels = z.shape
        centred = _less_mean(flat, z.dtype)
        back_on_z = product(centred.t().expand(count, -1, -1), z)
        factor = factors[plain:].view(-1, 1, 1)
        to_weight, back = _backward(z, weight, scaled, spread, inverse, back_on_z, factor)
        to_factors = None
        if wanted[4]:
            dots = [dot(flat, rows(t)) for t in terms]
            normal = (back_on_z * scaled).sum((1, 2))
            to_factors = torch.cat([torch.stack(dots), normal]) if dots else normal
        to_inputs: list[Tensor | None] = [
            gradient * factors[index] if wanted[6 + index] else None for index in range(plain)
        ]
        if any(wanted[6 + plain :]):
            # One block an input, so that whoever reads its gradient finds it without gaps.
            to_z = torch.bmm(centred.expand(count, -1, -1), (factor * scaled).to(z.dtype))
            to_z.baddbmm_(z, back.to(z.dtype))
            to_inputs.extend(image(part, gradient) for part in to_z)
        else:
            to_inputs.extend([None] * count)
        filters = to_weight.reshape(-1, channels, 1, 1) if wanted[5] else None
        return None, None, None, None, to_factors, filters, *to_inputs


class _Each(torch.autograd.Function):
    """`BN(W_j x_j)`, each by itself, and a ReLU behind them if asked for."""

    @staticmethod
    def forward(
        ctx: Any,
        norm: nn.BatchNorm2d,
        bias: Tensor | None,
        relu: bool,
        dtype: torch.dtype,
        weight: Tensor,
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        maps = _Maps(inputs, weight, norm.eps, dtype)
        maps.update(norm, bias)
        made = torch.bmm(maps.z, maps.scaled.transpose(1, 2).to(dtype))
        if relu:
            made.relu_()
        ctx.relu = relu
        saved = (maps.z, maps.weight, maps.scaled, maps.spread, maps.inverse)
        ctx.save_for_backward(*saved, *((made,) if relu else ()))
        return tuple(image(part, inputs[0]) for part in made)

    @staticmethod
    @once
    @without_autocast
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, scaled, spread, inverse, *result = ctx.saved_tensors
        if ctx.relu:
            passed = torch.empty_like(result[0])
            for target, made, gradient in zip(passed, result[0], incoming, strict=True):
                torch.ops.aten.threshold_backward.grad_input(rows(gradient), made, 0, grad_input=target)
            centred = passed.sub_(passed.mean(1, keepdim=True, dtype=wide(passed.dtype)))
        else:
            centred, _ = _centred(incoming, z.dtype)
        back_on_z = product(centred.transpose(1, 2), z)
        to_weight, back = _backward(z, weight, scaled, spread, inverse, back_on_z, None)
        to_inputs: list[Tensor | None] = [None] * len(incoming)
        if any(ctx.needs_input_grad[5:]):
            to_z = torch.bmm(centred, scaled.to(z.dtype)).baddbmm_(z, back.to(z.dtype))
            to_inputs = [image(part, incoming[0]) for part in to_z]
        return None, None, None, None, to_weight.reshape(-1, weight.shape[2], 1, 1), *to_inputs


def _sum(plain: int, norm: nn.BatchNorm2d, conv: nn.Conv2d, factors: Tensor, *x: Tensor) -> Tensor:
    """`_Sum`, or what `torch.compile` and several processes can follow."""
    team = synced(norm)
    if team is None:
        _several(x[plain])
    dtype = image_format(x[plain])
    if traced() or team is not None:
        return _sum_traced(plain, norm, conv, dtype, factors, *x)
    with _own_formats(x[0]):
        made: Tensor = _Sum.apply(plain, norm, conv.bias, dtype, factors, conv.weight, *x)  # type: ignore[no-untyped-call]
    return made


def _sum_traced(
    plain: int, norm: nn.BatchNorm2d, conv: nn.Conv2d, dtype: torch.dtype, factors: Tensor, *x: Tensor
) -> Tensor:
    with torch.autocast(x[0].device.type, enabled=False):
        maps = _Maps(x[plain:], conv.weight, norm.eps, dtype, synced(norm))
        maps.update(norm, conv.bias)
        return image(_with_terms(maps, factors, x[:plain]), x[0])


def _each(
    norm: nn.BatchNorm2d, conv: nn.Conv2d, relu: bool, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """`_Each`, or what `torch.compile` and several processes can follow."""
    team = synced(norm)
    if team is None:
        _several(inputs[0])
    dtype = image_format(inputs[0])
    if traced() or team is not None:
        return _each_traced(norm, conv, relu, dtype, inputs)
    with _own_formats(inputs[0]):
        made: tuple[Tensor, ...] = _Each.apply(norm, conv.bias, relu, dtype, conv.weight, *inputs)  # type: ignore[no-untyped-call]
    return made


def _each_traced(
    norm: nn.BatchNorm2d, conv: nn.Conv2d, relu: bool, dtype: torch.dtype, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    with torch.autocast(inputs[0].device.type, enabled=False):
        maps = _Maps(inputs, conv.weight, norm.eps, dtype, synced(norm))
        maps.update(norm, conv.bias)
        made = torch.bmm(maps.z, maps.scaled.transpose(1, 2).to(dtype))
        return tuple(image(torch.relu(part) if relu else part, inputs[0]) for part in made)


def _own_formats(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast off: matrix products on statistics are not for it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class PointwiseNorm(nn.Module):
    """A pointwise convolution, the batch norm behind it, and a ReLU if asked for.

    Takes (B, C, H, W), returns (B, D, H, W); with `copies` it takes and returns as many
    images, each with filters and statistics of its own. The statistics of the outputs are
    found from those of the inputs (see the module).
    """

    def __init__(
        self, channels: int, out: int, copies: int = 1, bias: bool = False, relu: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(copies * channels, copies * out, 1, groups=copies, bias=bias)
        self.norm = nn.BatchNorm2d(copies * out, affine=False)
        self.relu = relu

    def forward(self, x: Any) -> Any:
        inputs = (x,) if isinstance(x, Tensor) else tuple(x)
        made = self._each(inputs)
        return made[0] if isinstance(x, Tensor) else made

    def _each(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self.training:
            y: Tensor = self.norm(self.conv(torch.cat(inputs, 1)))
            return (torch.relu(y) if self.relu else y).chunk(len(inputs), 1)
        bias = self.conv.bias
        made = _each(self.norm, self.conv, self.relu, inputs)
        # Batch norm takes a bias out again: its gradient is zero, but it is one.
        return made if bias is None else tuple(y + 0 * bias.sum() for y in made)


class NormalisedMix(nn.Module):
    """A node of a supernet: plain terms, and terms that end in a pointwise convolution and a batch norm.

    `forward(weights, plain, inputs)`: the weights are scalars, those of the plain terms
    first; terms are (B, D, H, W), inputs of the convolutions (B, C, H, W); returns
    (B, D, H, W), the weighted sum.
    """

    def __init__(self, channels: int, out: int, count: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(count * channels, count * out, 1, groups=count, bias=bias)
        self.norm = nn.BatchNorm2d(count * out, affine=False)
        self.count = count

    def forward(self, weights: Sequence[Tensor], plain: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        factors = torch.stack(tuple(weights))
        if not self.training:
            return self._with_running_statistics(factors, plain, inputs)
        made = _sum(len(plain), self.norm, self.conv, factors, *plain, *inputs)
        return made if self.conv.bias is None else made + 0 * self.conv.bias.sum()

    def _with_running_statistics(
        self, factors: Tensor, plain: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> Tensor:
        parts = self.norm(self.conv(torch.cat(tuple(inputs), 1))).chunk(self.count, 1)
        total: Tensor = factors[0] * (*plain, *parts)[0]
        for factor, term in zip(factors[1:], (*plain, *parts)[1:], strict=True):
            total = total + factor * term
        return total


def _several(x: Tensor) -> None:
    """As batch norm: statistics of one number are none."""
    if x.shape[0] * x.shape[2] * x.shape[3] == 1:
        raise ValueError(f"batch norm needs more than one value a channel in training, got {tuple(x.shape)}")


__all__ = ["NormalisedMix", "PointwiseNorm"]
