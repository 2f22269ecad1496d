"""First-order bilevel steps.

Takes a supernet, a batch and an optimiser; returns losses. Invariant: the step of
the variables computes no gradient of the weights and the step of the weights none
of the variables; neither leaves gradients behind.

DARTS (Liu et al., ICLR 2019), section 2.3 with xi = 0: the variables descend the
validation loss at the present weights, the weights the training loss at the
present variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.supernet import SupernetBase

Loss = Callable[[Tensor, Tensor], Tensor]


def _step(
    net: SupernetBase,
    parameters: Sequence[nn.Parameter],
    batch: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    loss_of: Loss,
    extra: Callable[[], Tensor] | None,
    clip: float,
    cast: AbstractContextManager[Any],
) -> Tensor:
    """One step of some of the parameters; the others are constants meanwhile."""
    wanted = {id(p) for p in parameters}
    others = [p for p in net.parameters() if id(p) not in wanted and p.requires_grad]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        with cast:
            loss = loss_of(net(batch[0]), batch[1])
        total = loss if extra is None else loss + extra()
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if clip > 0:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
    return loss.detach()


def architecture_step(
    net: SupernetBase,
    batch: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    penalty: Callable[[], Tensor] | None = None,
    cast: AbstractContextManager[Any] | None = None,
) -> Tensor:
    """One step of the variables on a validation batch.

    Args:
        batch: examples (B, ...) and labels (B,).
        penalty: something differentiable that is added to the loss.

    Returns:
        The loss without the penalty, shape (), detached.
    """
    return _step(net, net.architecture_parameters(), batch, optimizer, loss, penalty, 0.0, cast or nullcontext())


def weight_step(
    net: SupernetBase,
    batch: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    clip: float = 5.0,
    cast: AbstractContextManager[Any] | None = None,
) -> Tensor:
    """One step of the weights on a training batch, their gradient clipped to norm `clip` (0: not).

    Returns:
        The loss, shape (), detached.
    """
    return _step(net, net.weight_parameters(), batch, optimizer, loss, None, clip, cast or nullcontext())


@torch.no_grad()
def accuracy(
    net: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]],
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """Share of examples that `net` labels right, in evaluation mode."""
    training = net.training
    net.eval()
    right = total = 0
    for x, y in batches:
        with cast():
            right += int((net(x).argmax(1) == y).sum())
        total += len(y)
    net.train(training)
    return right / max(1, total)
