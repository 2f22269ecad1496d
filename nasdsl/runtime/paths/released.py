"""Cream as its released code computes it: the setting `legacy`.

Takes and returns what `nasdsl.runtime.paths.matching` does. Invariant: the order of passes through the
supernet is that of the code, so that statistics and gradients are the code's, not only its formulas.

What differs from the paper's formulas, by the traps that docs/cream.md lists:

- 1: rho is the sigmoid of the *last* entry's score, negated.
- 3: of the inner step only the first tensor carries a gradient to M, at the rate of M.
- 4: the board keeps the teacher's probabilities, where there is a teacher.
- 5: the loss of the weights trains M too: its parameters are a group of the one optimiser.
- 10: every entry is a batch of its own in training mode, moves the statistics, and has a gradient, so that
  the weights descend rho too; the teacher's pass moves the statistics as well.
- 11: the inner step is one of the optimiser (clipped to norm 1, momentum, decay) and is not undone; so is
  that of M.

microsoft/Cream, lib/core/train.py, lib/models/PrioritizedBoard.py and MetaMatchingNetwork.py, after its
sign of the inner step was corrected (July 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasdsl.runtime.operators.derivatives import twice
from nasdsl.runtime.paths.board import Board
from nasdsl.runtime.paths.choices import Choices
from nasdsl.runtime.paths.matching import (
    Batch,
    Loss,
    Matching,
    gradients,
    halves,
    probabilities,
    soft_cross_entropy,
)
from nasdsl.runtime.paths.supernet import PathSupernet
from nasdsl.runtime.standalone.team import ALONE, Team


class Released(Matching):
    """See the module.

    Attributes:
        optimizer: that of the weights, with one more group.
    """

    def __init__(
        self,
        net: PathSupernet,
        count: int,
        classes: int,
        lr: float,
        optimizer: torch.optim.Optimizer,
        team: Team = ALONE,
    ) -> None:
        super().__init__(net, count, classes, lr, team)
        self.optimizer = optimizer
        optimizer.add_param_group({"params": list(self.network.parameters()), "lr": lr, "weight_decay": 0.0})

    def _logits(self, images: Tensor) -> Tensor:
        return torch.cat([self.net(self.net.fit(x)) for x in images])

    def teacher(self, board: Board, path: Choices) -> tuple[int, Tensor]:
        """See `Matching.teacher`; traps 1 and 10."""
        scores = self.scores(board, path)
        return self.highest(scores), torch.sigmoid(-scores[-1])

    @torch.no_grad()
    def lesson(self, board: Board, teacher: int, x: Tensor) -> Tensor:
        """See `Matching.lesson`; trap 10."""
        self.net.set_architecture(board.entries[teacher].choices)
        return probabilities(self.net(self.net.fit(x)))

    def total(self, rho: Tensor, taught: Tensor, labelled: Tensor) -> Tensor:
        """See `Matching.total`; trap 5."""
        return (rho * taught + (2 - rho) * labelled) / 2

    def stored(self, own: Tensor, lesson: Tensor | None) -> Tensor:
        """See `Matching.stored`; trap 4."""
        return own if lesson is None else lesson

    def meta_step(
        self, board: Board, path: Choices, batch: Batch, rate: float, form: str, loss: Loss
    ) -> float:
        """See `Matching.meta_step`; traps 3, 10 and 11. The real step comes between the two gradients.

        The code's own order differentiates through weights that were moved in place since, which torch
        refuses today; here the graph keeps copies of what they were.
        """
        x_train, x_valid, y_valid = halves(batch, self.count)
        with twice(), torch.autograd.graph.saved_tensors_hooks(torch.clone, _as_it_is):
            teacher, rho = self.teacher(board, path)
            with self.team.separate():
                logits = self.net(self.net.fit(x_train))
                taught = self.lesson(board, teacher, x_train)
            inner = gradients(rho * soft_cross_entropy(logits, taught), self.net, create_graph=True)
        self._step({w: g.detach() for w, g in inner.items()})
        self.net.set_architecture(path)
        with self.team.separate():
            found = loss(self.net(self.net.fit(x_valid)), y_valid)
        after = gradients(found, self.net)
        moved = list(inner)[:1] if form == "first" else list(inner)
        theta = list(self.network.parameters())
        slopes: Sequence[Tensor | None] = torch.autograd.grad(
            [inner[w] for w in moved], theta, [-rate * after[w] for w in moved], allow_unused=True
        )
        self._step({p: g for p, g in zip(theta, slopes, strict=True) if g is not None})
        return float(found.detach())

    def _step(self, found: Mapping[nn.Parameter, Tensor]) -> None:
        """The optimiser with these gradients, clipped to norm 1; parameters without one stay."""
        self.optimizer.zero_grad(set_to_none=True)
        for (parameter, _), gradient in zip(found.items(), self.team.means(found.values()), strict=True):
            parameter.grad = gradient.clone()
        nn.utils.clip_grad_norm_(list(found), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; the optimiser's state is with the weights."""
        return {"network": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


__all__ = ["Released"]
