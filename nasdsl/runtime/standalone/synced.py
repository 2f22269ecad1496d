"""Batch norm over the rows of all processes, made of operations that can be differentiated again and again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.team import Team, synced


class _Summed(torch.autograd.Function):
    """The sum over all processes; its derivative is the sum of theirs, each process having a loss of its own."""

    @staticmethod
    def forward(ctx: Any, team: Team, x: Tensor) -> Tensor:
        ctx.team = team
        return team.sum_(x.detach().clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, summed(gradient, ctx.team)


def summed(x: Tensor, team: Team) -> Tensor:
    """The sum over all processes, for autograd to follow as often as it likes."""
    total: Tensor = _Summed.apply(team, x)  # type: ignore[no-untyped-call]
    return total


def moments(x: Tensor, team: Team) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of the channels of x (B, C, ...) over all processes, in float32 at least.

    The variance is that of what a process has, plus that of the processes' means: no difference of squares.
    """
    axes = (0, *range(2, x.dim()))
    own = torch.stack((x.mean(axes), x.var(axes, correction=0)))
    all_ = summed(F.pad(own.unsqueeze(0), (0, 0, 0, 0, team.rank, team.world - 1 - team.rank)), team)
    means, variances = all_.unbind(1)  # (world, C) both
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def batch_norm(
    x: Tensor,
    team: Team,
    running: tuple[Tensor, Tensor] | None,
    affine: tuple[Tensor | None, Tensor | None],
    momentum: float,
    eps: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm` in training, over the rows of all processes.

    Args:
        running: mean and variance (C,), moved in place.
        affine: scale and shift (C,).
    """
    shape = (1, -1, *[1] * (x.dim() - 2))
    y = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    mean, variance = moments(y, team)
    if running is not None:
        count = team.world * x.numel() // x.shape[1]
        # As torch's own: moving them does not invalidate what an earlier pass kept for its backward pass.
        kept_mean, kept_variance = (r.data for r in running)
        kept_mean.lerp_(mean.detach().to(kept_mean.dtype), momentum)
        kept_variance.lerp_(variance.detach().to(kept_variance.dtype) * (count / (count - 1)), momentum)
    scale, shift = affine
    factor = (variance + eps).rsqrt()
    y = (y - mean.view(shape)) * (factor if scale is None else factor * scale).view(shape)
    return (y if shift is None else y + shift.view(shape)).to(x.dtype)


class _Synced(nn.modules.batchnorm._BatchNorm):
    """What both kinds of batch norm gain."""

    team: Team | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same."""
        team = synced(self)
        if team is None or not (self.training or self.running_mean is None):
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / int(self.num_batches_tracked)
        mean, variance = self.running_mean, self.running_var
        running = None if mean is None or variance is None else (mean, variance)
        return batch_norm(x, team, running, (self.weight, self.bias), momentum, self.eps)


class SyncedBatchNorm1d(_Synced, nn.BatchNorm1d):
    """(B, C) or (B, C, L) to the same."""


class SyncedBatchNorm2d(_Synced, nn.BatchNorm2d):
    """(B, C, H, W) to the same."""


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncedBatchNorm1d,
    nn.BatchNorm2d: SyncedBatchNorm2d,
}


def synchronise(net: nn.Module, team: Team) -> None:
    """Every batch norm of a network sees the rows of all processes from now on, in place.

    Outputs, running statistics and derivatives of every order are those of one process that has the whole
    batch, to rounding; parameters, buffers and their names stay, and in evaluation mode nothing changes. It
    runs on the CPU too, where torch's SyncBatchNorm does not.

    A module with a class attribute `team` is batch norm of ours that reads it.

    Raises:
        Mistake: a batch norm of another sort.
    """
    if team.world == 1:
        print("--sync-bn: this is one process, whose batch norms see whole batches anyway")
        return
    for name, module in net.named_modules():
        if type(module) in _KINDS:
            module.__class__ = _KINDS[type(module)]
        if hasattr(type(module), "team"):
            module.__dict__["team"] = team
        elif isinstance(module, nn.modules.batchnorm._NormBase):
            kind = type(module).__name__
            raise Mistake(
                f"--sync-bn knows BatchNorm1d and BatchNorm2d, and {name} is a {kind}: leave it out"
            )
