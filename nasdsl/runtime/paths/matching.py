"""The meta-network of Cream: which path on the board teaches, and how much.

Takes what the path of a step makes of the board's images, returns the teacher and the weight of its
lesson. Invariant: the weight is in (0, 1); what is here never moves the statistics of the supernet,
nor its weights.

    m_k = M(softmax(f(x_k; W, a)) - p_k),  teacher = argmax_k m_k,  rho = sigmoid(m_teacher)
    L = (rho CE(teacher, f) + (2 - rho) CE(labels, f)) / 2

Several processes compute all of this alike, on the same images, and what decides is averaged; only the
lesson is about the rows that a process has.

Cream of the Crop, section 3.2, equations 3 to 6; M is one linear layer (released code).
`nasdsl.runtime.paths.released` is what that code computes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.operators.elastic import batch_norms
from nasdsl.runtime.paths.board import Board
from nasdsl.runtime.paths.choices import Choices
from nasdsl.runtime.paths.supernet import PathSupernet
from nasdsl.runtime.search.undisturbed import kept
from nasdsl.runtime.standalone.team import ALONE, Team

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def still(norms: Iterable[Any]) -> Iterator[None]:
    """Batch norms use the statistics of the batch and keep their own as they are, to the bit.

    A path of a supernet has no statistics of its own, so evaluation mode would judge it by those of
    all paths together; in plain training mode the few images of the board would move them.
    """
    before = [(n, n.momentum, n.num_batches_tracked.clone()) for n in norms]
    try:
        for norm, _, _ in before:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def probabilities(logits: Tensor) -> Tensor:
    """The softmax over classes, (B, classes), in single precision at least."""
    return logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy against probabilities, (B, classes) both; the mean over examples, shape ()."""
    return F.cross_entropy(logits, target)


def gradients(loss: Tensor, net: nn.Module, create_graph: bool = False) -> dict[nn.Parameter, Tensor]:
    """The gradient of every weight that a loss depends on: those of the path, in the network's order."""
    weights = [p for p in net.parameters() if p.requires_grad]
    found: Sequence[Tensor | None] = torch.autograd.grad(
        loss, weights, allow_unused=True, create_graph=create_graph
    )
    return {w: g for w, g in zip(weights, found, strict=True) if g is not None}


def halves(batch: Batch, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first `count` images; the next `count`, and their labels. Both are of the training set."""
    x, y = batch
    return x[:count], x[count : 2 * count], y[count : 2 * count]


class Matching:
    """The meta-network, its optimiser, and what they do.

    Attributes:
        count: images that an entry of the board keeps (n).
        team: the processes that train together.
    """

    optimizer: torch.optim.Optimizer

    def __init__(self, net: PathSupernet, count: int, classes: int, lr: float, team: Team = ALONE) -> None:
        self.net, self.count, self.team = net, count, team
        reference = next(net.parameters())
        self.network = nn.Linear(count * classes, 1).to(reference.device, reference.dtype)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr)
        self.norms = batch_norms(net)

    # --- a step of the weights ------------------------------------------------

    def scores(self, board: Board, path: Choices) -> Tensor:
        """M of every entry, (K,), with a gradient for M and none for the supernet. Leaves the path set."""
        known = board.probabilities()
        self.net.set_architecture(path)
        with self.team.separate():
            found = probabilities(self._logits(board.images())).view_as(known)
        scores: Tensor = self.network((found - known).flatten(1).to(self.network.weight.dtype)).squeeze(1)
        return scores

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        """(K, n, C, H, W) to (K * n, classes), all images in one batch."""
        with still(self.norms):
            logits: Tensor = self.net(self.net.fit(images.flatten(0, 1)))
        return logits

    def teacher(self, board: Board, path: Choices) -> tuple[int, Tensor]:
        """The entry that teaches a path, and rho, shape (). Leaves the path set."""
        scores = self.scores(board, path)
        best = self.highest(scores)
        return best, torch.sigmoid(scores[best])

    def highest(self, scores: Tensor) -> int:
        """The entry of the highest score (K,), the same on all processes."""
        return int(self.team.means([scores.detach()])[0].argmax())

    @torch.no_grad()
    def lesson(self, board: Board, teacher: int, x: Tensor) -> Tensor:
        """What the teacher makes of images: probabilities (B, classes). Leaves its path set."""
        self.net.set_architecture(board.entries[teacher].choices)
        with still(self.norms):
            return probabilities(self.net(self.net.fit(x)))

    def total(self, rho: Tensor, taught: Tensor, labelled: Tensor) -> Tensor:
        """The loss of the weights; a constant to M, which has a step of its own (a reconstruction)."""
        rho = rho.detach()
        return (rho * taught + (2 - rho) * labelled) / 2

    def stored(self, own: Tensor, lesson: Tensor | None) -> Tensor:
        """The probabilities that the board keeps of a path (B, classes): its own, not its teacher's."""
        return own

    # --- a step of the meta-network -------------------------------------------

    def meta_step(
        self, board: Board, path: Choices, batch: Batch, rate: float, form: str, loss: Loss
    ) -> float:
        """One step of M through a step of the path's weights; returns the loss of the second half.

            g  = gradient of CE(teacher(x_tr), f(x_tr)) at W,   W' = W - rate * rho * g
            theta <- theta - eta * d L(x_val; W') / d theta,   d L / d rho = -rate * <grad L(W'), g>

        The step of the weights is undone. Exact, without a second derivative: W' is linear in rho.

        Args:
            batch: its first n images are x_tr, the next n x_val; the same images on all processes.
            rate: of the inner step.
            form: what of W' depends on theta: `full`, all of it; `first`, the first tensor of the path
                alone, which is what the released code comes down to.
        """
        x_train, x_valid, y_valid = halves(batch, self.count)
        teacher, rho = self.teacher(board, path)
        with self.team.separate():
            taught = self.lesson(board, teacher, x_train)
        self.net.set_architecture(path)
        with still(self.norms), self.team.separate():
            direction = gradients(soft_cross_entropy(self.net(self.net.fit(x_train)), taught), self.net)
            with kept(direction):
                _descend(direction, rate * rho.detach())
                found = loss(self.net(self.net.fit(x_valid)), y_valid)
                after = gradients(found, self.net)
        moved = list(direction)[:1] if form == "first" else list(direction)
        slope = -rate * torch.stack([(after[w] * direction[w]).sum() for w in moved]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        rho.backward(slope.to(rho.dtype))  # type: ignore[no-untyped-call]
        self.team.mean_(p.grad for p in self.network.parameters() if p.grad is not None)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(found.detach())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def _descend(directions: Mapping[nn.Parameter, Tensor], rate: Tensor) -> None:
    for weight, direction in directions.items():
        weight.sub_((rate * direction).to(weight.dtype))


__all__ = ["Matching", "gradients", "halves", "probabilities", "soft_cross_entropy", "still"]
