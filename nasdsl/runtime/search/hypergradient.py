"""The gradient of the validation loss at weights that have not been taken yet.

Takes a supernet, a training and a validation batch and the optimiser of the weights; returns the
gradients of the variables. Invariant: parameters, their `.grad`, all running statistics and torch's
generators are afterwards what they were; every pass draws the same random numbers, because it is one
function that is differentiated. Weights that want no gradient take no step.

DARTS (Liu et al., ICLR 2019), section 2.3: with one step of the weights w' = w - xi u(w, alpha),

    d L_val(w'(alpha), alpha) / d alpha = dL_val/dalpha (w') - xi d2L_train/dalpha dw (w) . dL_val/dw (w'),

where the update u is that of SGD with the momentum buffer and the weight decay of the present moment
(quark0/darts `architect.py`), which do not depend on alpha; Nesterov's look-ahead is left out, as in the
code of NAS-Bench-201. The product of the second derivative
with v = dL_val/dw (w') is exact (`exact`), or a central difference of gradients at w + R v and w - R v,
R = radius / |v| (`finite`, as published), whose error is of the order of R^2.

Of several processes each has its rows of both batches. The update, v and the product are linear in
gradients, so the means over the processes are those of whole batches, of second derivatives too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import attrs
import torch
from torch import Tensor, nn

from nasdsl.runtime.operators.derivatives import twice
from nasdsl.runtime.search.bilevel import Batch, Loss
from nasdsl.runtime.search.undisturbed import constant, kept, same_draws
from nasdsl.runtime.standalone.team import ALONE, Team
from nasdsl.runtime.supernet import SupernetBase

Cast = Callable[[], AbstractContextManager[object]]


@attrs.frozen(eq=False)
class Unrolled:
    """What differentiates through one step of the weights.

    Attributes:
        weights: the SGD of the weights; its rate is xi.
        loss: a mean over examples.
        cast: makes the context of a forward pass.
        radius: of the central difference, over the norm of v.
        team: the processes that have the batches together.
    """

    net: SupernetBase
    weights: torch.optim.Optimizer
    loss: Loss
    cast: Cast
    radius: float = 0.01
    team: Team = ALONE

    def gradients(self, train: Batch, valid: Batch, how: str) -> tuple[Tensor, list[Tensor]]:
        """The validation loss at w', shape (), and the gradient of every variable.

        Args:
            how: `finite` or `exact`.
        """
        net = self.net
        w = [p for p in net.weight_parameters() if p.requires_grad]
        a = net.architecture_parameters()
        with kept(net.buffers()):
            update = self._update(train, w)
            rate = float(self.weights.param_groups[0]["lr"])
            with kept(w):
                _shift(w, update, -rate)
                loss = self._loss(valid)
                both = torch.autograd.grad(loss, [*a, *w], allow_unused=True, materialize_grads=True)
                loss, *found = self.team.means([loss.detach(), *both])
            direct, vector = found[: len(a)], found[len(a) :]
            product = {"exact": self._exact, "finite": self._finite}[how]
            second = product(train, w, a, vector)
        return loss, [d - rate * s for d, s in zip(direct, self.team.means(second), strict=True)]

    def _loss(self, batch: Batch) -> Tensor:
        with same_draws(self.net), self.cast():
            return self.loss(self.net(batch[0]), batch[1])

    def _update(self, train: Batch, w: Sequence[nn.Parameter]) -> list[Tensor]:
        """u: momentum times its buffer, plus the gradient, plus the decay."""
        group = self.weights.param_groups[0]
        with constant(self.net.architecture_parameters()):
            found = torch.autograd.grad(self._loss(train), w, allow_unused=True, materialize_grads=True)
        update = []
        for parameter, gradient in zip(w, self.team.means(found), strict=True):
            step = gradient + group["weight_decay"] * parameter.detach()
            buffer = self.weights.state.get(parameter, {}).get("momentum_buffer")
            update.append(step if buffer is None else step + group["momentum"] * buffer)
        return update

    def _exact(
        self, train: Batch, w: Sequence[nn.Parameter], a: Sequence[nn.Parameter], vector: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        with twice():
            found = torch.autograd.grad(
                self._loss(train), w, create_graph=True, allow_unused=True, materialize_grads=True
            )
            pairs = [(g, v) for g, v in zip(found, vector, strict=True) if g.requires_grad]
            total = torch.stack([(g * v).sum() for g, v in pairs]).sum()
            return torch.autograd.grad(total, a, allow_unused=True, materialize_grads=True)

    def _finite(
        self, train: Batch, w: Sequence[nn.Parameter], a: Sequence[nn.Parameter], vector: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        length = float(nn.utils.get_total_norm(vector))
        if length == 0.0:
            return tuple(torch.zeros_like(p) for p in a)
        step = self.radius / length
        ends = []
        for sign in (1.0, -1.0):
            with kept(w), constant(w):
                _shift(w, vector, sign * step)
                loss = self._loss(train)
                if not loss.requires_grad:  # all that would learn was pruned
                    return tuple(torch.zeros_like(p) for p in a)
                ends.append(torch.autograd.grad(loss, a, allow_unused=True, materialize_grads=True))
        return tuple((p - n) / (2.0 * step) for p, n in zip(*ends, strict=True))


@torch.no_grad()
def _shift(parameters: Sequence[nn.Parameter], by: Sequence[Tensor], factor: float) -> None:
    for parameter, each in zip(parameters, by, strict=True):
        parameter.add_(each.to(parameter.dtype), alpha=factor)


__all__ = ["Unrolled"]
