"""The meta-network of Cream: which path on the board teaches, and how much.

Takes what the path of a step makes of the board's images, returns the teacher and the weight of its
lesson. Invariant: the weight is in (0, 1); what is here never moves the statistics of the supernet,
nor its weights.

    m_k = M(softmax(f(x_k; W, a)) - p_k),  teacher = argmax_k m_k,  rho = sigmoid(m_teacher)

Cream of the Crop, section 3.2, equations 3 to 6; M is one linear layer (released code).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.operators.elastic import batch_norms
from nasdsl.runtime.paths.board import Board
from nasdsl.runtime.paths.supernet import Choices, PathSupernet
from nasdsl.runtime.search.undisturbed import kept

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Keep = Callable[[Sequence[nn.Parameter], Sequence[Tensor]], None]


@contextmanager
def still(norms: Sequence[Any]) -> Iterator[None]:
    """Batch norms use the statistics of the batch and keep their own as they are, to the bit.

    A path of a supernet has no statistics of its own, so evaluation mode would judge it by those of
    all paths together; in plain training mode the few images of the board would move them.
    """
    before = [(n.momentum, n.num_batches_tracked.clone()) for n in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Cross-entropy against probabilities, (B, classes) both; the mean over examples, shape ()."""
    return F.cross_entropy(logits, probabilities)


class Matching:
    """The meta-network, its optimiser, and the two things it does.

    Attributes:
        legacy: as the released code computes: the weight of the *last* entry, negated, in training mode
            with moving statistics (traps 1 and 10 of its reading).
    """

    def __init__(self, net: PathSupernet, images: int, classes: int, lr: float, legacy: bool) -> None:
        self.net, self.count, self.legacy = net, images, legacy
        reference = next(net.parameters())
        self.network = nn.Linear(images * classes, 1).to(reference.device, reference.dtype)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr)
        self.norms = batch_norms(net)

    def scores(self, board: Board, path: Choices) -> Tensor:
        """M of every entry, (K,), with a gradient for M and none for the supernet."""
        images, known = board.images(), board.probabilities()
        entries, count = images.shape[:2]
        with torch.no_grad():
            self.net.set_architecture(path)
            if self.legacy:
                logits = torch.cat([self.net(self.net.fit(x)) for x in images])
            else:
                with still(self.norms):
                    logits = self.net(self.net.fit(images.flatten(0, 1)))
            found = logits.float().softmax(1).view(entries, count, -1)
        difference = (found - known).flatten(1).to(self.network.weight.dtype)
        scores: Tensor = self.network(difference).squeeze(1)
        return scores

    def teacher(self, board: Board, path: Choices) -> tuple[int, Tensor]:
        """The entry that teaches a path, and rho, shape ()."""
        scores = self.scores(board, path)
        best = int(scores.argmax())
        return best, torch.sigmoid(-scores[-1] if self.legacy else scores[best])

    @torch.no_grad()
    def lesson(self, board: Board, teacher: int, x: Tensor) -> Tensor:
        """What the teacher makes of images: probabilities (B, classes). Leaves its path set."""
        self.net.set_architecture(board.entries[teacher].choices)
        with nullcontext() if self.legacy else still(self.norms):
            logits: Tensor = self.net(self.net.fit(x))
        return logits.float().softmax(1)

    def meta_step(
        self,
        board: Board,
        path: Choices,
        batch: Batch,
        rate: float,
        form: str,
        loss: Loss,
        keep: Keep | None = None,
    ) -> float:
        """One step of M through a step of the path's weights; returns the loss of the second half.

            g  = gradient of CE(teacher(x_tr), f(x_tr)) at W,   W' = W - rate * rho * g
            theta <- theta - eta * d L(x_val; W') / d theta,   d L / d rho = -rate * <grad L(W'), g>

        The step of the weights is undone. Exact: W' is linear in rho.

        Args:
            batch: training images whose first n are x_tr and next n x_val (both of the training set).
            rate: of the inner step.
            keep: takes the inner step for good instead, given the weights and rho * g: the released code
                steps its optimiser and never goes back (trap 11 of its reading).
            form: `full` over all weights of the path, or `first`: over the first tensor of the network
                alone, which is what the released code comes down to.
        """
        n = self.count
        (x_train, _), (x_valid, y_valid) = ((t[:n] for t in batch), (t[n : 2 * n] for t in batch))
        teacher, rho = self.teacher(board, path)
        taught = self.lesson(board, teacher, x_train)
        self.net.set_architecture(path)
        weights = [p for p in self.net.parameters() if p.requires_grad]
        weights = weights[:1] if form == "first" else weights
        with still(self.norms):
            direction = self._gradients(soft_cross_entropy(self.net(self.net.fit(x_train)), taught), weights)
            inner = [rho.detach() * g for g in direction]
            with kept(weights) if keep is None else nullcontext():
                if keep is None:
                    _descend(weights, inner, rate)
                else:
                    keep(weights, inner)
                found = loss(self.net(self.net.fit(x_valid)), y_valid)
                after = self._gradients(found, weights)
        slope = -rate * torch.stack([(a * g).sum() for a, g in zip(after, direction, strict=True)]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        rho.backward(slope)  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(found.detach())

    @staticmethod
    def _gradients(loss: Tensor, weights: Sequence[nn.Parameter]) -> list[Tensor]:
        return list(torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def _descend(weights: Sequence[nn.Parameter], directions: Sequence[Tensor], rate: float) -> None:
    for weight, direction in zip(weights, directions, strict=True):
        weight.sub_(rate * direction)


__all__ = ["Matching", "soft_cross_entropy", "still"]
