"""First-order bilevel search.

Takes a supernet, batches and optimisers; returns losses. Invariant: the step of
the variables computes no gradient of the weights and the step of the weights none
of the variables; neither leaves gradients behind.

DARTS (Liu et al., ICLR 2019), section 2.3 with xi = 0: the variables descend the
validation loss at the present weights, the weights the training loss at the
present variables. The reference code computes both gradients in both steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.standalone.data import Data, Stream, divide
from nasdsl.runtime.standalone.training import make_sgd
from nasdsl.runtime.supernet import SupernetBase

Loss = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor]

TURNS = {"architecture-first": ("variables", "weights"), "weights-first": ("weights", "variables")}
"""The setting `order`: who steps first on a pair of batches."""


def search_streams(data: Data, settings: Mapping[str, Any], seed: int) -> tuple[Stream, Stream]:
    """One part of the training set for the weights, the rest for the variables."""
    flags = {name: settings[name] for name in ("augment", "pad", "flip")}
    parts = divide(data.train, settings["train_fraction"], seed)
    first, second = (
        Stream(part, data, settings["batch_size"], seed, name, **flags)
        for part, name in zip(parts, ("train", "valid"), strict=True)
    )
    return first, second


def weight_optimizer(net: SupernetBase, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """SGD for the weights."""
    return make_sgd(
        net.weight_parameters(),
        settings["weight_lr"],
        settings["weight_momentum"],
        settings["weight_decay"],
        settings["nesterov"],
    )


def variable_optimizer(net: SupernetBase, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Adam for the architecture variables."""
    return torch.optim.Adam(
        net.architecture_parameters(),
        settings["arch_lr"],
        betas=(settings["arch_beta1"], settings["arch_beta2"]),
        weight_decay=settings["arch_weight_decay"],
    )


def warmup_length(settings: Mapping[str, Any]) -> int:
    """Epochs of weight steps only; said and halved where they would leave less than half for the search."""
    asked, epochs = settings["warmup_epochs"], settings["epochs"]
    length: int = min(asked, epochs // 2)
    if length < asked:
        print(f"warm-up of {length} epochs instead of {asked}: the search has only {epochs}")
    return length


def _step(
    net: SupernetBase,
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    loss_of: Loss,
    extra: Tensor | None,
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
        total = loss if extra is None else loss + extra
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
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    penalty: Tensor | None = None,
    cast: AbstractContextManager[Any] | None = None,
) -> Tensor:
    """One step of the variables on a validation batch.

    Args:
        batch: examples (B, ...) and labels (B,).
        penalty: a differentiable function of the variables, shape (), that is added to the loss.

    Returns:
        The loss without the penalty, shape (), detached.
    """
    variables = net.architecture_parameters()
    return _step(net, variables, batch, optimizer, loss, penalty, 0.0, cast or nullcontext())


def weight_step(
    net: SupernetBase,
    batch: Batch,
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
    batches: Sequence[Batch],
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
