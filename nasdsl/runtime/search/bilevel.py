"""The steps of a bilevel search.

Takes a supernet, batches and optimisers; returns losses. Invariant: the step of
the variables computes no gradient of the weights and the step of the weights none
of the variables (second order apart); none leaves gradients behind.

DARTS (Liu et al., ICLR 2019), section 2.3 with xi = 0: the variables descend the
validation loss at the present weights, the weights the training loss at the
present variables. The reference code computes both gradients in both steps.

Of several processes each has its rows of a batch; gradients are averaged after the backward pass, before
anything looks at them, so a step is that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.search.schedule import split
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.data import Data, Stream, divide, open_stream
from nasdsl.runtime.standalone.recipe import make_sgd
from nasdsl.runtime.standalone.team import ALONE, Team
from nasdsl.runtime.supernet import SupernetBase

Loss = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor]

TURNS = {"architecture-first": ("variables", "weights"), "weights-first": ("weights", "variables")}
"""The setting `order`: who steps first on a pair of batches."""


def weights_share(settings: Mapping[str, Any]) -> float:
    """The part of the training set that the weights are trained on."""
    if settings.get("informed_split"):
        return split(settings["weight_steps"])
    share: float = settings["train_fraction"]
    return share


def search_streams(
    data: Data, settings: Mapping[str, Any], seed: int, team: Team = ALONE, *, judging: bool = False
) -> tuple[Stream, Stream]:
    """One part of the training set for the weights, the rest for the variables.

    Args:
        judging: the rest is only looked at, in whole batches, which no process shares with another.
    """
    flags = {name: settings[name] for name in ("augment", "pad", "flip")}
    parts = divide(data.train, weights_share(settings), seed)
    first, second = (
        open_stream(part, data, settings["batch_size"], seed, name, team=who, **flags)
        for part, name, who in zip(parts, ("train", "valid"), (team, ALONE if judging else team), strict=True)
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


@dataclass(frozen=True)
class Manner:
    """How a step is computed.

    Attributes:
        clip: largest norm of the gradient; 0 leaves it.
        cast: around the forward pass.
        accumulate: micro-batches that a batch is split into.
        clipped: the parameters whose gradient `clip` is about; None for all that step.
        watch: is told the parameters when their gradients are there, before they are clipped.
        team: the processes that have a batch together.
    """

    clip: float = 0.0
    cast: AbstractContextManager[Any] = field(default_factory=nullcontext)
    accumulate: int = 1
    clipped: Sequence[nn.Parameter] | None = None
    watch: Callable[[Sequence[nn.Parameter]], None] | None = None
    team: Team = ALONE


class Optimizer(Protocol):
    """What a step asks of an optimiser."""

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def step(self) -> Any: ...


def micro_batches(batch: Batch, count: int) -> Iterator[tuple[float, Batch]]:
    """A batch in parts that are as equal as they can be, each with its share of the examples.

    Raises:
        Mistake: fewer examples than parts.
    """
    total = len(batch[1])
    if count > total:
        raise Mistake(f"accumulate={count} splits a batch of {total} examples: make it smaller")
    for x, y in zip(*(torch.tensor_split(part, count) for part in batch), strict=True):
        yield len(y) / total, (x, y)


def step(
    net: SupernetBase,
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    optimizer: Optimizer,
    loss_of: Loss,
    extra: Tensor | None,
    manner: Manner,
) -> Tensor:
    """One step of some of the parameters; the others are constants meanwhile.

    The gradient is that of the mean loss over the examples, whatever the number of micro-batches. Batch
    norm takes its statistics from what goes through it at once, so it sees micro-batches: the memory of a
    step is that of one of them, and statistics over all would need them all at once.
    """
    wanted = {id(p) for p in parameters}
    others = [p for p in net.parameters() if id(p) not in wanted and p.requires_grad]
    for parameter in others:
        parameter.requires_grad_(False)
    losses = []
    try:
        optimizer.zero_grad(set_to_none=True)
        for share, (x, y) in micro_batches(batch, manner.accumulate):
            with manner.cast:
                loss = loss_of(net(x), y)
            if manner.accumulate > 1:
                loss = share * loss
            total = loss if extra is None else loss + extra
            if total.requires_grad or not net.pruned():  # else all that would learn may be off
                total.backward()  # type: ignore[no-untyped-call]
            extra = None
            losses.append(loss.detach())
        found = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        found = manner.team.reduced(net, parameters, found)
        if manner.watch is not None:
            manner.watch(parameters)
        if manner.clip > 0:
            nn.utils.clip_grad_norm_(parameters if manner.clipped is None else manner.clipped, manner.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
    return found


def architecture_step(
    net: SupernetBase,
    batch: Batch,
    optimizer: Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    penalty: Tensor | None = None,
    cast: AbstractContextManager[Any] | None = None,
    accumulate: int = 1,
    team: Team = ALONE,
) -> Tensor:
    """One step of the variables on a validation batch.

    Args:
        batch: examples (B, ...) and labels (B,).
        loss: a mean over examples.
        penalty: a differentiable function of the variables, shape (), that is added to the loss.
        accumulate: micro-batches that the batch is split into.
        team: see `Manner`.

    Returns:
        The loss without the penalty, shape (), detached.
    """
    manner = Manner(0.0, cast or nullcontext(), accumulate, team=team)
    return step(net, net.architecture_parameters(), batch, optimizer, loss, penalty, manner)


def weight_step(
    net: SupernetBase,
    batch: Batch,
    optimizer: Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    clip: float = 5.0,
    cast: AbstractContextManager[Any] | None = None,
    accumulate: int = 1,
    watch: Callable[[Sequence[nn.Parameter]], None] | None = None,
    team: Team = ALONE,
) -> Tensor:
    """One step of the weights on a training batch, their gradient clipped to norm `clip` (0: not).

    Args:
        watch, team: see `Manner`.

    Returns:
        The loss, shape (), detached.
    """
    manner = Manner(clip, cast or nullcontext(), accumulate, watch=watch, team=team)
    return step(net, net.weight_parameters(), batch, optimizer, loss, None, manner)


def joint_step(
    net: SupernetBase,
    batch: Batch,
    weights: Optimizer,
    variables: Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    penalty: Tensor | None = None,
    clip: float = 5.0,
    cast: AbstractContextManager[Any] | None = None,
    accumulate: int = 1,
    team: Team = ALONE,
) -> Tensor:
    """One step of weights and variables on the same batch, from one backward pass (SNAS, section 2.3).

    Returns:
        The loss without the penalty, shape (), detached.
    """
    manner = Manner(clip, cast or nullcontext(), accumulate, clipped=net.weight_parameters(), team=team)
    return step(net, list(net.parameters()), batch, _Both((weights, variables)), loss, penalty, manner)


@dataclass(frozen=True)
class _Both:
    """Two optimisers that step together."""

    members: tuple[Optimizer, Optimizer]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for member in self.members:
            member.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for member in self.members:
            member.step()


@torch.no_grad()
def accuracy(
    net: nn.Module,
    batches: Sequence[Batch],
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    team: Team = ALONE,
) -> float:
    """Share of examples that `net` labels right, in evaluation mode.

    Args:
        batches: whole ones, of which each process of the team looks at its own.
    """
    training = net.training
    net.eval()
    right = total = 0
    for index in range(len(batches))[team.rows]:
        x, y = batches[index]
        with cast():
            right += int((net(x).argmax(1) == y).sum())
        total += len(y)
    net.train(training)
    right, total = team.total(right, total)
    return right / max(1, total)
